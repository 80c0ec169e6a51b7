"""Views of a quantized ONNX graph: parts of its grid taken away, so that what each part costs can be measured.

Reads any graph in QDQ form, the uint8 spelling of ours included, where a ReLU is an integer maximum. Runs nothing.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np
import onnx
from onnx import NodeProto, helper, numpy_helper

from edgekp.errors import ArtifactError
from edgekp.sample import Float

LAYERS = ("Conv", "ConvTranspose", "Gemm", "MatMul")
INTEGER_RELUS = ("Clip", "Max")  # with the zero point; Max in models of others, and in older exports
ELEMENTWISE = ("Relu", "Clip", "PRelu", "LeakyRelu", "Max", "QuantizeLinear", "DequantizeLinear")


@dataclass(frozen=True)
class Grid:
    """One activation on the integer grid.

    Attributes:
        name: output of its QuantizeLinear, unique in the graph.
        layer: the layer with weights whose result is rounded, or that comes first into a sum; an input's name.
        operation: what gives the result: Conv with its activation function, Add, Resize; "input" for an input.
        source: the tensor before rounding.
        rounded: the tensor after dequantizing.
    """

    name: str
    layer: str
    operation: str
    source: str
    rounded: str


@dataclass(frozen=True)
class IntegerWeight:
    """The weights of one layer that are stored as integers, and their values."""

    layer: str
    tensor: str
    values: Float


class QuantizedGraph:
    """A model with QuantizeLinear and DequantizeLinear pairs."""

    def __init__(self, model: onnx.ModelProto) -> None:
        self.model = model
        self.constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
        self._producer = {name: node for node in model.graph.node for name in node.output}

    @property
    def is_quantized(self) -> bool:
        return any(node.op_type == "QuantizeLinear" for node in self.model.graph.node)

    def grids(self) -> list[Grid]:
        """Every rounded activation, in the order of the graph."""
        found, seen = [], set()
        for node in self.model.graph.node:
            if node.op_type == "DequantizeLinear" and node.input[0] not in self.constants:
                quantize = self._quantizer_of(node)
                if quantize.output[0] not in seen:
                    seen.add(quantize.output[0])
                    found.append(Grid(quantize.output[0], *self._origin(quantize.input[0]), quantize.input[0],
                                      node.output[0]))
        return found

    def integer_weights(self) -> list[IntegerWeight]:
        """Weights of convolutions and matrix products, dequantized, in the order of the graph."""
        found = []
        for node in self.layers():
            source = self._producer.get(node.input[1])
            if source is not None and source.op_type == "DequantizeLinear":
                found.append(IntegerWeight(node_name(node), source.output[0], self._dequantized(source)))
        return found

    def layers(self) -> list[NodeProto]:
        """Nodes with weights, in the order of the graph."""
        return [node for node in self.model.graph.node if node.op_type in LAYERS]

    def float_weights(self) -> list[Float]:
        """Weights of ``layers()`` as numbers, dequantized where they are integers."""
        return [self._values(node.input[1]) for node in self.layers()]

    def view(self, grids: Collection[str] = (), weights: dict[str, Float] | None = None,
             outputs: Collection[str] = ()) -> onnx.ModelProto:
        """A copy of the model that rounds nothing but the named grids.

        Args:
            grids: names of the activations that stay on their grid.
            weights: other values for tensors of ``integer_weights()``, by their names.
            outputs: tensors that the copy gives beside its own outputs.
        """
        model = onnx.ModelProto()
        model.CopyFrom(self.model)
        nodes, alias = _without_grids(model.graph.node, self.constants, grids)
        replaced = {name: f"{name}_replaced" for name in weights or {}}
        kept = [node for node in nodes if not any(name in replaced for name in node.output)]
        for node in kept:
            node.input[:] = [replaced.get(name, name) for name in node.input]
        del model.graph.node[:]
        model.graph.node.extend(kept)
        model.graph.node.extend(helper.make_node("Identity", [alias[output.name]], [output.name])
                                for output in model.graph.output if output.name in alias)
        for name, values in (weights or {}).items():
            model.graph.initializer.append(numpy_helper.from_array(values.astype(np.float32), replaced[name]))
        model.graph.output.extend(helper.make_empty_tensor_value_info(name) for name in outputs)
        return model

    def _quantizer_of(self, dequantize: NodeProto) -> NodeProto:
        """The QuantizeLinear behind a DequantizeLinear, past an integer maximum."""
        node: NodeProto = self._producer[dequantize.input[0]]
        if node.op_type in INTEGER_RELUS:
            node = self._producer[node.input[0]]
        if node.op_type != "QuantizeLinear":
            raise ArtifactError(f"{node_name(node)}: a {node.op_type} on integers; expected QuantizeLinear in front of "
                                "DequantizeLinear")
        return node

    def _origin(self, tensor: str) -> tuple[str, str]:
        """Layer and operation behind a tensor; what is elementwise belongs to what it is applied to."""
        node = self._producer.get(tensor)
        while node is not None and node.op_type in ELEMENTWISE:
            tensor = node.input[0]
            node = self._producer.get(tensor)
        if node is None:
            return tensor, "input"
        if node.op_type in LAYERS:
            return node_name(node), node.op_type
        return self._origin(node.input[0])[0], node.op_type

    def _values(self, name: str) -> Float:
        return self.constants[name] if name in self.constants else self._dequantized(self._producer[name])

    def _dequantized(self, node: NodeProto) -> Float:
        levels, scale = self.constants[node.input[0]].astype(np.float32), self.constants[node.input[1]]
        zero = self.constants[node.input[2]].astype(np.float32) if len(node.input) > 2 else np.zeros((), np.float32)
        axis = next((attribute.i for attribute in node.attribute if attribute.name == "axis"), 1)
        along = [-1 if i == axis else 1 for i in range(levels.ndim)]
        scale, zero = (value.reshape(along) if value.ndim else value for value in (scale, zero))
        return np.asarray((levels - zero) * scale)


def _without_grids(nodes: Collection[NodeProto], constants: Collection[str],
                   keep: Collection[str]) -> tuple[list[NodeProto], dict[str, str]]:
    """The nodes without the pairs that are not kept, and the float tensor that stands for each dropped one."""
    alias: dict[str, str] = {}
    kept: list[NodeProto] = []
    for node in nodes:
        is_dropped = node.input and node.input[0] in alias
        if node.op_type == "QuantizeLinear" and node.input[0] not in constants and node.output[0] not in keep:
            alias[node.output[0]] = alias.get(node.input[0], node.input[0])
        elif node.op_type == "DequantizeLinear" and is_dropped:
            alias[node.output[0]] = alias[node.input[0]]
        elif node.op_type in INTEGER_RELUS and is_dropped:
            alias[node.output[0]] = f"{node.output[0]}_in_float"
            kept.append(helper.make_node("Relu", [alias[node.input[0]]], [alias[node.output[0]]], name=node.name))
        else:
            node.input[:] = [alias.get(name, name) for name in node.input]
            kept.append(node)
    return kept, alias


def node_name(node: NodeProto) -> str:
    return node.name or node.output[0]
