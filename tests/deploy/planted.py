"""Small quantized graphs for the linter, each with one thing planted that one rule is about."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from onnx import NodeProto, TensorProto, helper, numpy_helper

CHANNELS, SIDE = 8, 16
INT8_ZERO, UINT8_ZERO = np.int8(0), np.uint8(0)


@dataclass
class Net:
    """A graph under construction: nodes and constants; each method returns the name of its result.

    Attributes:
        zero: of activations, the spelling of the grid; weights are int8.
        biases: int32 behind a DequantizeLinear, as ONNX Runtime wants them, or float.
    """

    zero: np.generic = INT8_ZERO
    biases: str = "float"
    opset: int = 17
    nodes: list[NodeProto] = field(default_factory=list)
    constants: dict[str, np.ndarray] = field(default_factory=dict)

    def constant(self, value: Any, dtype: Any = np.float32) -> str:
        name = f"constant_{len(self.constants)}"
        self.constants[name] = np.asarray(value, dtype)
        return name

    def add(self, operator: str, *inputs: str, **attributes: Any) -> str:
        name = f"{operator}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(operator, inputs, [name], name=name, **attributes))
        return name

    def rounded(self, x: str, scale: float = 0.05, zero: Any = None) -> str:
        point = self.zero if zero is None else zero
        grid = [self.constant(scale), self.constant(point, np.asarray(point).dtype)]
        return self.add("DequantizeLinear", self.add("QuantizeLinear", x, *grid), *grid)

    def levels(self, *shape: int) -> np.ndarray:
        return np.random.default_rng(len(self.nodes)).integers(-127, 128, shape).astype(np.int8)

    def weight(self, *shape: int, scale: Any = None, axis: int = 0, dtype: Any = np.int8, zero: Any = None) -> str:
        """Weights on a grid, one scale for each of the channels along ``axis`` unless a scale is given."""
        scale = np.full(shape[axis], 0.004) if scale is None else scale
        shift = 0 if zero is None else int(np.max(zero))
        inputs = [self.constant(self.levels(*shape).astype(np.int16) + shift, dtype), self.constant(scale)]
        inputs += [] if zero is None else [self.constant(zero, dtype)]
        return self.add("DequantizeLinear", *inputs, **({"axis": axis} if np.ndim(scale) else {}))

    def conv(self, x: str, weight: str | None = None, bias: str | None = None, **attributes: Any) -> str:
        weight = self.weight(CHANNELS, CHANNELS, 3, 3) if weight is None else weight
        bias = bias or (self.int32_bias() if self.biases == "int32" else self.constant(np.linspace(-1, 1, CHANNELS)))
        return self.add("Conv", x, weight, bias, pads=[1, 1, 1, 1], **attributes)

    def int32_bias(self) -> str:
        values = self.constant(np.arange(-4000, 4000, 1000), np.int32)
        return self.add("DequantizeLinear", values, self.constant(np.full(CHANNELS, 0.0002)), axis=0)

    def model(self, y: str, batch: int | str = 1) -> onnx.ModelProto:
        """A float convolution at the end, as heads have it, gives the output."""
        weight = self.constant(np.random.default_rng(9).normal(size=(3, CHANNELS, 1, 1)))
        self.nodes.append(helper.make_node("Conv", [y, weight], ["y"], name="head"))
        shape = (batch, CHANNELS, SIDE, SIDE)
        graph = helper.make_graph(
            self.nodes, "planted", [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
            [helper.make_tensor_value_info("y", TensorProto.FLOAT, [batch, 3, None, None])],
            [numpy_helper.from_array(value, name) for name, value in self.constants.items()])
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", self.opset)], ir_version=8)


def tensorrt() -> Net:
    return Net()


def onnxruntime() -> Net:
    return Net(np.uint8(128), "int32")


def clean(net: Net) -> onnx.ModelProto:
    return net.model(net.rounded(net.conv(net.rounded("x")), 0.1))


def scale(net: Net, value: float = 0.0) -> onnx.ModelProto:
    return net.model(net.rounded(net.conv(net.rounded("x")), value))


def huge_scale(net: Net) -> onnx.ModelProto:
    return scale(net, 1000.0)


def zero_point(net: Net) -> onnx.ModelProto:
    return net.model(net.rounded(net.add("Relu", net.conv(net.rounded("x", zero=np.uint8(128)))), 0.1))


def zero_point_of_weights(net: Net) -> onnx.ModelProto:
    weight = net.weight(CHANNELS, CHANNELS, 3, 3, dtype=np.uint8, zero=np.full(CHANNELS, 128))
    return net.model(net.rounded(net.conv(net.rounded("x"), weight), 0.1))


def maximum_on_the_grid(net: Net) -> onnx.ModelProto:
    """A ReLU as our uint8 spelling writes it."""
    grid = [net.constant(0.1), net.constant(128, np.uint8)]
    levels = net.add("QuantizeLinear", net.conv(net.rounded("x", zero=np.uint8(128))), *grid)
    return net.model(net.add("DequantizeLinear", net.add("Max", levels, grid[1]), *grid))


def asymmetric(net: Net, zero: np.generic = UINT8_ZERO) -> onnx.ModelProto:
    return net.model(net.rounded(net.add("Relu", net.conv(net.rounded("x"))), 0.1, zero))


def int32_bias(net: Net) -> onnx.ModelProto:
    return net.model(net.rounded(net.conv(net.rounded("x"), bias=net.int32_bias()), 0.1))


def int16(net: Net) -> onnx.ModelProto:
    net.opset = 21
    return net.model(net.rounded(net.conv(net.rounded("x")), 0.001, np.int16(0)))


def old_opset(net: Net) -> onnx.ModelProto:
    net.opset = 12
    return clean(net)


def int8_activations(net: Net) -> onnx.ModelProto:
    return net.model(net.rounded(net.add("Relu", net.conv(net.rounded("x", zero=np.int8(0)))), 0.1, np.int8(0)))


def rounded_twice(net: Net) -> onnx.ModelProto:
    return net.model(net.rounded(net.rounded(net.conv(net.rounded("x")), 0.1), 0.1))


def requantized(net: Net) -> onnx.ModelProto:
    return net.model(net.rounded(net.rounded(net.conv(net.rounded("x")), 0.1), 0.13))


def weights_in_float(net: Net) -> onnx.ModelProto:
    weight = net.constant(np.random.default_rng(0).normal(size=(CHANNELS, CHANNELS, 3, 3)))
    grid = [net.constant(np.full(CHANNELS, 0.02)), net.constant(np.zeros(CHANNELS), np.int8)]
    weight = net.add("DequantizeLinear", net.add("QuantizeLinear", weight, *grid, axis=0), *grid, axis=0)
    return net.model(net.rounded(net.conv(net.rounded("x"), weight), 0.1))


def depthwise_per_tensor(net: Net) -> onnx.ModelProto:
    weight = net.weight(CHANNELS, 1, 3, 3, scale=0.01)
    return net.model(net.rounded(net.conv(net.rounded("x"), weight, group=CHANNELS), 0.1))


def add_in_float(net: Net) -> onnx.ModelProto:
    x = net.rounded("x")
    return net.model(net.rounded(net.add("Add", x, net.conv(x)), 0.2))


def add_scales(net: Net) -> onnx.ModelProto:
    x = net.rounded("x", 1e-4)
    return net.model(net.rounded(net.add("Add", x, net.rounded(net.conv(x), 0.1)), 0.2))


def concat_scales(net: Net) -> onnx.ModelProto:
    half = net.rounded(net.conv(net.rounded("x")), 0.1)
    both = net.rounded(net.add("Concat", net.rounded("x"), half, axis=1), 0.1)
    return net.model(net.rounded(net.conv(both, net.weight(CHANNELS, 2 * CHANNELS, 3, 3)), 0.2))


def _upsampled(net: Net, x: str, mode: str) -> str:
    how = {"nearest": {"coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}}.get(mode, {})
    return net.add("Resize", x, "", net.constant([1, 1, 2, 2]), mode=mode, **how)


def resize_before(net: Net, mode: str = "nearest") -> onnx.ModelProto:
    """Rounded before the upsampling, but not behind it: what is made of it is."""
    x = _upsampled(net, net.rounded(net.conv(net.rounded("x")), 0.1), mode)
    return net.model(net.rounded(net.conv(net.rounded(net.add("Abs", x), 0.1)), 0.2))


def resize(net: Net, mode: str = "nearest") -> onnx.ModelProto:
    x = _upsampled(net, net.conv(net.rounded("x")), mode)
    return net.model(net.rounded(net.conv(net.rounded(x, 0.1)), 0.2))


def resize_linear(net: Net) -> onnx.ModelProto:
    return resize(net, "linear")


def deconv(net: Net) -> onnx.ModelProto:
    weight = net.constant(np.random.default_rng(0).normal(size=(CHANNELS, CHANNELS, 2, 2)))
    x = net.add("ConvTranspose", net.rounded("x"), weight, strides=[2, 2], kernel_shape=[2, 2])
    return net.model(net.rounded(net.conv(net.rounded(x, 0.1)), 0.2))


def batch_norm(net: Net) -> onnx.ModelProto:
    factor = np.linspace(-1, 1, CHANNELS)  # a negative one turns the levels
    statistics = [net.constant(value) for value in (factor, factor / 4, factor / 9, np.full(CHANNELS, 0.7))]
    x = net.conv(net.rounded("x"), bias=net.constant(np.linspace(-1, 1, CHANNELS)))
    return net.model(net.rounded(net.add("BatchNormalization", x, *statistics), 0.1))


def float_gate(net: Net) -> onnx.ModelProto:
    x = net.rounded(net.conv(net.rounded("x")), 0.1)
    gate = net.add("ReduceMean", x, axes=[2, 3])
    return net.model(net.rounded(net.conv(net.rounded(net.add("Mul", x, gate), 0.1)), 0.2))


def float_weights(net: Net) -> onnx.ModelProto:
    weight = net.constant(np.random.default_rng(0).normal(size=(CHANNELS, CHANNELS, 3, 3)))
    bias = net.constant(np.zeros(CHANNELS))
    return net.model(net.rounded(net.conv(net.rounded("x"), weight, bias), 0.1))


def float_activations(net: Net) -> onnx.ModelProto:
    return net.model(net.rounded(net.conv("x", bias=net.constant(np.zeros(CHANNELS))), 0.1))


def float_bias(net: Net) -> onnx.ModelProto:
    bias = net.constant(np.linspace(-1, 1, CHANNELS))
    return net.model(net.rounded(net.conv(net.rounded("x"), bias=bias), 0.1))


def activation(net: Net, operator: str = "HardSwish") -> onnx.ModelProto:
    slope = [net.constant(np.full((CHANNELS, 1, 1), 0.2))] if operator == "PRelu" else []
    return net.model(net.rounded(net.add(operator, net.conv(net.rounded("x")), *slope), 0.1))


def prelu(net: Net) -> onnx.ModelProto:
    return activation(net, "PRelu")


def sigmoid(net: Net) -> onnx.ModelProto:
    return activation(net, "Sigmoid")


def relu_in_float(net: Net) -> onnx.ModelProto:
    return activation(net, "Relu")


def dla_operator(net: Net) -> onnx.ModelProto:
    return net.model(net.rounded(net.add("Erf", net.rounded(net.conv(net.rounded("x")), 0.1)), 0.1))


def dla_deconv(net: Net) -> onnx.ModelProto:
    weight = net.weight(CHANNELS, CHANNELS, 4, 4)
    x = net.add("ConvTranspose", net.rounded("x"), weight, strides=[2, 2], kernel_shape=[4, 4], pads=[1, 1, 1, 1])
    return net.model(net.rounded(x, 0.1))


def dla_resize(net: Net) -> onnx.ModelProto:
    x = net.add("Resize", net.rounded("x"), "", net.constant([1, 1, 1.5, 1.5]), mode="linear")
    return net.model(net.rounded(x))


def dynamic_shape(net: Net) -> onnx.ModelProto:
    return net.model(net.rounded(net.conv(net.rounded("x")), 0.1), batch="batch")


def nearest_resize(net: Net) -> onnx.ModelProto:
    return net.model(net.rounded(_upsampled(net, net.rounded("x"), "nearest")))


@dataclass(frozen=True)
class Plant:
    """A graph on which one rule speaks for a target, and nothing else does; ``mended`` where --fix leaves nothing."""

    rule: str
    target: str
    make: Callable[[Net], onnx.ModelProto]
    mended: bool = False

    def model(self) -> onnx.ModelProto:
        return self.make(onnxruntime() if self.target == "onnxruntime" else tensorrt())


PLANTS = [
    Plant("scale", "tensorrt", scale), Plant("huge_scale", "tensorrt", huge_scale),
    Plant("zero_point", "tensorrt", zero_point, True), Plant("zero_point", "dla", zero_point_of_weights, True),
    Plant("zero_point", "tensorrt", maximum_on_the_grid, True),
    Plant("asymmetric_zero_point", "tensorrt", asymmetric), Plant("int32_bias", "tensorrt", int32_bias, True),
    Plant("int16", "tensorrt", int16), Plant("int16", "onnxruntime", int16), Plant("opset", "tensorrt", old_opset),
    Plant("int8_activations", "onnxruntime", int8_activations, True),
    Plant("rounded_twice", "tensorrt", rounded_twice, True), Plant("requantized", "tflite", requantized),
    Plant("weights_in_float", "tensorrt", weights_in_float, True),
    Plant("depthwise_per_tensor", "tensorrt", depthwise_per_tensor, True),
    Plant("add_scales", "tensorrt", add_in_float), Plant("add_scales", "tflite", add_scales),
    Plant("concat_scales", "tensorrt", concat_scales), Plant("concat_scales", "dla", concat_scales),
    Plant("resize", "tensorrt", resize, True), Plant("resize", "tensorrt", resize_before, True),
    Plant("resize", "tensorrt", resize_linear), Plant("deconv", "tensorrt", deconv),
    Plant("batch_norm", "tensorrt", batch_norm, True), Plant("float_gate", "tensorrt", float_gate),
    Plant("half_quantized", "tensorrt", float_weights), Plant("half_quantized", "onnxruntime", float_activations),
    Plant("float_bias", "onnxruntime", float_bias, True), Plant("activation", "onnxruntime", activation),
    Plant("activation", "tflite", prelu), Plant("activation", "onnxruntime", sigmoid),
    Plant("relu_in_float", "onnxruntime", relu_in_float, True), Plant("dla_layer", "dla", dla_operator),
    Plant("dla_layer", "dla", dla_deconv), Plant("dla_layer", "dla", dla_resize),
    Plant("dynamic_shape", "dla", dynamic_shape), Plant("nearest_resize", "tflite", nearest_resize)]
