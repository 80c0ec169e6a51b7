"""Values of a torch graph as tensors of a TFLite file: their layout, their int8 grid, and what is fused into one.

Maps lie in NHWC. Where a torch graph permutes axes, only the order is noted; it is written when an operator needs it.
Knows no layer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import Any, NamedTuple

import numpy as np
from torch import fx, nn
from torch.nn import functional

from deploy.export.tflite_file import Tensor, TFLiteFile
from edgekp.errors import ArtifactError
from edgekp.sample import Float
from train.models.fake_quantize import INT8_MAX, FakeQuantizer

NHWC = (0, 2, 3, 1)
ACTIVATIONS = {"": 0, "RELU": 1, "RELU6": 3}  # numbers of the format
BITS = 8


@dataclass(frozen=True)
class Value:
    """A tensor of torch: axis i of what is stored is its axis ``order[i]``."""

    stored: Tensor
    order: tuple[int, ...]

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.stored.shape[self.order.index(axis)] for axis in range(len(self.order)))

    @property
    def scale(self) -> float | None:
        return self.stored.scale


class Ending(NamedTuple):
    """What follows an operator and is written as part of it: an activation, and the grid of the result."""

    nodes: list[fx.Node]
    activation: str
    scale: float | None

    @property
    def fused(self) -> int:
        return ACTIVATIONS[self.activation]


class Graph:
    """A torch graph on its way into a file.

    Attributes:
        values: of the nodes that are written.
        weights: how those of float layers are stored: ``float32``, ``float16`` or ``int8`` (dynamic range).
        not_negative: indices of tensors that a ReLU wrote.
        float_layers: convolutions that are computed in float.
    """

    def __init__(self, module: fx.GraphModule, weights: str) -> None:
        self.module, self.weights = module, weights
        self.file = TFLiteFile()
        self.values: dict[fx.Node, Any] = {}
        self.not_negative: set[int] = set()
        self.float_layers: list[str] = []
        self._in_float: dict[int, Tensor] = {}
        self._reshaped_from: dict[int, Tensor] = {}

    def refuse(self, node: fx.Node, reason: str) -> ArtifactError:
        """The error that names a layer."""
        layer = f"{node.target}: " if node.op == "call_module" else ""
        return ArtifactError(f"tflite: {layer}{node.name}: {reason}; export this model for another target")

    def layer(self, node: fx.Node) -> nn.Module | None:
        return self.module.get_submodule(str(node.target)) if node.op == "call_module" else None

    # What is fused

    def ending(self, node: fx.Node) -> Ending:
        """The activation and the grid that a node alone is followed by."""
        nodes, activation, scale = [node], "", None
        following = _only_user(node)
        if following is not None and (activation := self.activation(following)):
            nodes.append(following)
            following = _only_user(following)
        quantizer = None if following is None else self.layer(following)
        if following is not None and isinstance(quantizer, FakeQuantizer) and quantizer.bits == BITS:
            nodes.append(following)
            scale = float(quantizer.scale)
        return Ending(nodes, activation, scale)

    def activation(self, node: fx.Node) -> str:
        """``RELU`` or ``RELU6`` where the node is one of them, else empty."""
        layer = self.layer(node)
        if isinstance(layer, nn.ReLU6):
            return "RELU6"
        is_relu = isinstance(layer, nn.ReLU) or node.target in ("relu", functional.relu)
        return "RELU" if is_relu or getattr(node.target, "__name__", "") == "relu" else ""

    def finish(self, ending: Ending, value: Value) -> Value:
        """Give the value to all nodes that were written with it."""
        if ending.scale is not None:
            value = self.on_grid(value, ending.scale)
        if ending.activation:
            self.not_negative.add(value.stored.index)
        self.values.update(dict.fromkeys(ending.nodes, value))
        return value

    # The int8 grid

    def in_float(self, value: Value) -> Value:
        if value.scale is None:
            return value
        if value.stored.index not in self._in_float:
            out = self.file.activation(value.stored.shape, f"dequantize_{value.stored.index}")
            self.file.operator("DEQUANTIZE", [value.stored], [out])
            self._in_float[value.stored.index] = out
        return Value(self._in_float[value.stored.index], value.order)

    def on_grid(self, value: Value, scale: float) -> Value:
        """The value in int8 with that scale."""
        if value.scale is not None and np.float32(value.scale) == np.float32(scale):
            return value
        out = self.file.activation(value.stored.shape, f"quantize_{value.stored.index}", scale)
        self.file.operator("QUANTIZE", [value.stored], [out])
        return Value(out, value.order)

    def weight(self, array: Float, name: str, axis: int) -> Tensor:
        """The weights of a float layer, stored as the export asks; channels along ``axis``."""
        array = array.astype(np.float32)
        if self.weights == "int8":
            largest = np.abs(array).max(tuple(i for i in range(array.ndim) if i != axis))
            return self.int8_weight(array, np.maximum(largest, 1e-6) / INT8_MAX, name, axis)
        if self.weights == "float16":
            half = self.file.constant(array.astype(np.float16), f"{name}_half")
            out = self.file.activation(array.shape, name)
            self.file.operator("DEQUANTIZE", [half], [out])
            return out
        return self.file.constant(array, name)

    def int8_weight(self, array: Float, scales: Float, name: str, axis: int) -> Tensor:
        """Levels -127..127: the format's kernels do not expect -128."""
        steps = np.float32(1) / scales.astype(np.float32)  # torch multiplies, which decides ties
        along = [-1 if i == axis else 1 for i in range(array.ndim)]
        levels = np.clip(np.rint(array * steps.reshape(along)), -INT8_MAX, INT8_MAX).astype(np.int8)
        return self.file.constant(levels, name, scales, axis)

    # Layout

    def stored(self, value: Value, order: Sequence[int]) -> Tensor:
        """The value with its axes stored in this order."""
        tensor, order = value.stored, tuple(order)
        if order == value.order:
            return tensor
        permutation = [value.order.index(axis) for axis in order]
        shape = tuple(tensor.shape[i] for i in permutation)
        if [i for i in permutation if tensor.shape[i] > 1] == [i for i, side in enumerate(tensor.shape) if side > 1]:
            return self.reshaped(tensor, shape)
        out = self.file.activation(shape, f"transpose_{tensor.index}", tensor.scale)
        self.file.operator("TRANSPOSE", [tensor, self.numbers(permutation)], [out])
        return out

    def nhwc(self, value: Value) -> Tensor:
        return self.stored(value, NHWC)

    def reshaped(self, tensor: Tensor, shape: Sequence[int]) -> Tensor:
        """The same numbers in the same order; a reshape of a reshape is one."""
        source = self._reshaped_from.get(tensor.index, tensor)
        if source.shape == tuple(shape):
            return source
        out = self.file.activation(shape, f"reshape_{source.index}", source.scale)
        self.file.operator("RESHAPE", [source, self.numbers(shape)], [out], newShape=[int(side) for side in shape])
        self._reshaped_from[out.index] = source
        return out

    def reshape(self, value: Value, shape: Sequence[int]) -> Value:
        """torch's reshape; axes of length 1 come and go without a transpose."""
        known = prod(side for side in shape if side != -1)
        goal = tuple(prod(value.shape) // known if side == -1 else int(side) for side in shape)
        wide, goal_wide = ([axis for axis, side in enumerate(sides) if side > 1] for sides in (value.shape, goal))
        if [value.shape[axis] for axis in wide] == [goal[axis] for axis in goal_wide]:
            moved = dict(zip(wide, goal_wide, strict=True))
            ones = [axis for axis, side in enumerate(goal) if side == 1]
            order = (*ones, *(moved[axis] for axis in value.order if axis in moved))
            return Value(self.reshaped(value.stored, [goal[axis] for axis in order]), order)
        plain = self.stored(value, range(len(value.order)))
        return Value(self.reshaped(plain, goal), tuple(range(len(goal))))

    def numbers(self, values: Sequence[int]) -> Tensor:
        array = np.array(values, np.int32)
        return self.file.constant(array, f"numbers_{'_'.join(map(str, values))}")


def _only_user(node: fx.Node) -> fx.Node | None:
    return next(iter(node.users)) if len(node.users) == 1 else None
