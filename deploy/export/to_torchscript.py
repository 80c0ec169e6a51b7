"""From a network to a TorchScript file: traced and frozen, for LibTorch and for Python without this repository."""

from __future__ import annotations

import io
import warnings

import torch
from torch import nn


@torch.no_grad()
def to_torchscript(net: nn.Module, input_hw: tuple[int, int]) -> bytes:
    """The bytes of a file that takes (N, 3, h, w) float32 and gives the tuple of the network's outputs.

    A fake-quantized network stays one: its rounding is computed in float, to the same values.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of shapes that the contract fixes, and of TorchScript's age
        example = torch.zeros(2, 3, *input_hw)
        traced = torch.jit.trace(net.eval().cpu(), (example,), check_trace=False)  # type: ignore[no-untyped-call]
        frozen = torch.jit.freeze(traced.eval())
        file = io.BytesIO()
        torch.jit.save(frozen, file)
    return file.getvalue()
