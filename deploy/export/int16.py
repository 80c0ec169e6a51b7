"""Activations with 16 bits in ONNX: Microsoft's own operators, as the standard's know int16 from opset 21 on only.

The exporter of torch stops at opset 20 and spells 8 bits alone. Knows no network.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from onnx import NodeProto
from torch.onnx import register_custom_op_symbolic, unregister_custom_op_symbolic  # type: ignore[attr-defined]
from torch.onnx.symbolic_helper import parse_args

OPERATOR = "aten::fake_quantize_per_tensor_affine"
FIRST_OPSET = 13
MICROSOFT = "com.microsoft"
INT8_MAX = 127


@contextmanager
def sixteen_bits_allowed() -> Iterator[None]:
    """While this is open, the exporter spells fake quantizers of 16 bits, too."""
    register_custom_op_symbolic(OPERATOR, _spell, FIRST_OPSET)
    try:
        yield
    finally:
        unregister_custom_op_symbolic(OPERATOR, FIRST_OPSET)


def is_int16(node: NodeProto) -> bool:
    """Whether a QuantizeLinear or DequantizeLinear has 16 bits."""
    return bool(node.domain == MICROSOFT)


@parse_args("v", "v", "v", "i", "i")
def _spell(g: Any, x: Any, scale: Any, zero_point: Any, smallest: int, largest: int) -> Any:
    """A symmetric pair; torch's zero point has 32 bits, ONNX wants that of the levels."""
    domain, dtype = ("", torch.int8) if largest == INT8_MAX else (f"{MICROSOFT}::", torch.int16)
    zero = g.op("Constant", value_t=torch.zeros((), dtype=dtype))
    levels = g.op(f"{domain}QuantizeLinear", x, scale, zero)
    rounded = g.op(f"{domain}DequantizeLinear", levels, scale, zero)
    rounded.setType(x.type())  # nobody infers the type of an operator that is not the standard's
    return rounded
