"""An ONNX graph as the rules read it: who makes a tensor, who reads it, and which grid it is rounded to."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import NodeProto, helper, numpy_helper

Array = NDArray[Any]
LAYERS = ("Conv", "ConvTranspose", "Gemm", "MatMul")
FOLDED_ACTIVATIONS = ("Relu", "Clip", "LeakyRelu", "PRelu", "HardSwish", "HardSigmoid", "Sigmoid", "Tanh", "Elu")
PAIR = ("QuantizeLinear", "DequantizeLinear")


@dataclass(frozen=True)
class Place:
    """Where a rule speaks, and what it saw there."""

    node: NodeProto
    tensor: str
    found: str

    @property
    def name(self) -> str:
        return str(self.node.name or next(iter(self.node.output), self.tensor))


@dataclass(frozen=True)
class Grid:
    """Scale and zero point of a QuantizeLinear or DequantizeLinear; arrays without axes where there is one for all."""

    scale: Array
    zero: Array
    axis: int

    def equals(self, other: Grid) -> bool:
        """The same levels, up to the last bits of a scale."""
        return (self.scale.shape == other.scale.shape and np.allclose(self.scale, other.scale, rtol=1e-5, atol=0)
                and np.array_equal(self.zero, other.zero))


class Graph:
    """A view of a model; the fixes change the model and make a new view."""

    def __init__(self, model: onnx.ModelProto) -> None:
        self.model = model
        self.nodes: list[NodeProto] = list(model.graph.node)
        self.outputs = {output.name for output in model.graph.output}
        self.constants: dict[str, Array] = {t.name: numpy_helper.to_array(t) for t in model.graph.initializer}
        self.constants |= {node.output[0]: numpy_helper.to_array(node.attribute[0].t) for node in self.nodes
                           if node.op_type == "Constant" and node.attribute[0].name == "value"}
        self.stored = set(self.constants)  # as they are, or on grids
        for node in self.nodes:
            if node.op_type in PAIR and node.input[0] in self.stored:
                self.stored.update(node.output)
        self.producer = {name: node for node in self.nodes for name in node.output}
        self.readers: dict[str, list[NodeProto]] = defaultdict(list)
        for node in self.nodes:
            for name in dict.fromkeys(node.input):
                self.readers[name].append(node)
        self.before_grid, self.behind_grid = self._before_grid(), self._behind_grid()

    @property
    def opset(self) -> int:
        return max((entry.version for entry in self.model.opset_import if entry.domain in ("", "ai.onnx")), default=0)

    def of_type(self, *operators: str) -> Iterator[NodeProto]:
        return (node for node in self.nodes if node.op_type in operators)

    def grid(self, node: NodeProto) -> Grid:
        """The grid of a QuantizeLinear or DequantizeLinear; NaN where the scale is computed."""
        scale = self.constants.get(node.input[1], np.array(np.nan, np.float32))
        if len(node.input) > 2 and node.input[2]:
            zero = self.constants.get(node.input[2], np.zeros((), np.uint8))
        else:
            zero = np.zeros((), self._type_without_zero_point(node))
        if scale.size == 1:
            scale, zero = scale.reshape(()), zero.reshape(()) if zero.size == 1 else zero
        return Grid(scale, zero, int(attribute(node, "axis", 1)))

    def activation_pairs(self) -> Iterator[NodeProto]:
        """QuantizeLinear and DequantizeLinear nodes of what is computed; not those of constants."""
        return (node for node in self.of_type(*PAIR) if not self.is_constant(node.input[0]))

    def is_constant(self, name: str) -> bool:
        """Stored in the file, perhaps on a grid."""
        return name in self.stored

    def on_grid(self, name: str) -> bool:
        """An activation that comes out of a DequantizeLinear."""
        node = self.producer.get(name)
        return node is not None and node.op_type == "DequantizeLinear" and not self.is_constant(name)

    def weight_on_grid(self, name: str) -> bool:
        node = self.producer.get(name)
        return node is not None and node.op_type == "DequantizeLinear" and self.is_constant(name)

    def goes_to_grid(self, name: str) -> bool:
        """All that reads a tensor rounds it first."""
        readers = self.readers[name]
        return bool(readers) and name not in self.outputs and all(n.op_type == "QuantizeLinear" for n in readers)

    def rounded_result(self, node: NodeProto) -> str | None:
        """The tensor that is rounded of a layer's result, past one activation function; None where it stays float."""
        name = str(node.output[0])
        if self.goes_to_grid(name):
            return name
        readers = self.readers[name]
        if len(readers) == 1 and readers[0].op_type in FOLDED_ACTIVATIONS and name not in self.outputs:
            name = str(readers[0].output[0])
            return name if self.goes_to_grid(name) else None
        return None

    def is_between_grids(self, node: NodeProto) -> bool:
        """Something before it is rounded, and something after it."""
        return node.output[0] in self.before_grid and any(name in self.behind_grid for name in node.input)

    def _before_grid(self) -> set[str]:
        """Tensors behind which something computed is rounded."""
        found: set[str] = set()
        for node in reversed(self.nodes):
            is_rounding = node.op_type == "QuantizeLinear" and not self.is_constant(node.input[0])
            if is_rounding or any(name in found for name in node.output):
                found.update(node.input)
        return found

    def _behind_grid(self) -> set[str]:
        """Tensors that something rounded had a part in."""
        found: set[str] = set()
        for node in self.nodes:
            if self.on_grid(node.output[0]) or any(name in found for name in node.input):
                found.update(node.output)
        return found

    def _type_without_zero_point(self, node: NodeProto) -> Any:
        if node.op_type == "QuantizeLinear":
            output_type = attribute(node, "output_dtype", 0)
            return helper.tensor_dtype_to_np_dtype(output_type) if output_type else np.uint8
        if node.input[0] in self.constants:
            return self.constants[node.input[0]].dtype
        source = self.producer.get(node.input[0])
        return self.grid(source).zero.dtype if source is not None and source.op_type == "QuantizeLinear" else np.uint8


def attribute(node: NodeProto, name: str, default: Any) -> Any:
    return next((helper.get_attribute_value(entry) for entry in node.attribute if entry.name == name), default)
