"""Modules of torch as operators of TFLite: convolutions, activations, pooling, resizing. Knows no graph around them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from torch import Tensor as TorchTensor
from torch import fx, nn

from deploy.export.tflite_file import Tensor
from deploy.export.tflite_graph import BITS, NHWC, Ending, Graph, Value
from edgekp.sample import Float
from train.models.fake_quantize import FakeQuantizer, QuantConv, QuantConvTranspose, QuantLayer

SAME, VALID = 0, 1
INT32_MAX = 2**31 - 1
Layer = Callable[[Graph, fx.Node, Any, Value], Value]


def conv(graph: Graph, node: fx.Node, layer: nn.Conv2d, x: Value) -> Value:
    """A convolution; in int8 where its input, its weights and its result are on the grid."""
    depthwise = layer.groups > 1
    if layer.padding_mode != "zeros" or isinstance(layer.padding, str) or (
            depthwise and layer.groups != layer.in_channels):
        raise graph.refuse(node, "a convolution in groups, or with another padding than zeros")
    ending = graph.ending(node)
    x, scale = _on_one_grid(graph, layer, x, ending)
    source, padding, sides = _padded(graph, graph.nhwc(x), layer)
    if depthwise:  # (out, 1, h, w) to (1, h, w, out)
        stored = _weights(graph, node, layer, x, scale, (1, 2, 3, 0))
        options = {"depthMultiplier": layer.out_channels // layer.groups}
    else:
        stored, options = _weights(graph, node, layer, x, scale, (0, 2, 3, 1)), {}
    out = graph.file.activation((1, *sides, layer.out_channels), node.name, scale)
    graph.file.operator("DEPTHWISE_CONV_2D" if depthwise else "CONV_2D", [source, *stored], [out],
                        padding=padding, strideH=layer.stride[0], strideW=layer.stride[1],
                        dilationHFactor=layer.dilation[0], dilationWFactor=layer.dilation[1],
                        fusedActivationFunction=ending.fused, **options)
    return graph.finish(ending, Value(out, NHWC))


def transposed_conv(graph: Graph, node: fx.Node, layer: nn.ConvTranspose2d, x: Value) -> Value:
    """A transposed convolution, of the kind that the format's SAME padding describes."""
    doubling = all((kernel, padding) == (2 * stride, stride // 2) and stride % 2 == 0 for kernel, padding, stride in
                   zip(layer.kernel_size, layer.padding, layer.stride, strict=True))
    if not doubling or layer.groups > 1 or layer.dilation != (1, 1) or layer.output_padding != (0, 0):
        raise graph.refuse(node, "a transposed convolution whose kernel is not twice its even stride")
    ending = graph.ending(node)
    x, scale = _on_one_grid(graph, layer, x, ending)
    source = graph.nhwc(x)
    sides = [side * stride for side, stride in zip(source.shape[1:3], layer.stride, strict=True)]
    out = graph.file.activation((1, *sides, layer.out_channels), node.name, scale)
    weight, bias = _weights(graph, node, layer, x, scale, (1, 2, 3, 0))
    graph.file.operator("TRANSPOSE_CONV", [graph.numbers(out.shape), weight, source, bias], [out], padding=SAME,
                        strideH=layer.stride[0], strideW=layer.stride[1], fusedActivationFunction=ending.fused)
    return graph.finish(ending, Value(out, NHWC))


def linear(graph: Graph, node: fx.Node, layer: nn.Linear, x: Value) -> Value:
    ending = graph.ending(node)
    source = graph.stored(graph.in_float(x), range(len(x.order)))
    out = graph.file.activation((*source.shape[:-1], layer.out_features), node.name)
    bias = np.zeros(layer.out_features, np.float32) if layer.bias is None else _numpy(layer.bias)
    inputs = [source, graph.weight(_numpy(layer.weight), f"{node.name}_weight", 0),
              graph.file.constant(bias, f"{node.name}_bias")]
    graph.file.operator("FULLY_CONNECTED", inputs, [out], fusedActivationFunction=ending.fused, keepNumDims=True)
    return graph.finish(ending, Value(out, tuple(range(len(out.shape)))))


def quantizer(graph: Graph, node: fx.Node, layer: FakeQuantizer, x: Value) -> Value:
    """Onto the int8 grid; a result of 16 bits stays in float, as the runtime's fast kernels have no such type."""
    return graph.on_grid(x, float(layer.scale)) if layer.bits == BITS else x


def same(graph: Graph, node: fx.Node, layer: nn.Module, x: Value) -> Value:
    return x


def relu(graph: Graph, node: fx.Node, layer: nn.Module | None, x: Value) -> Value:
    """One that no other operator took up; the int8 grid stays."""
    return _unary(graph, node, graph.activation(node), x)


def prelu(graph: Graph, node: fx.Node, layer: nn.PReLU, x: Value) -> Value:
    source = graph.nhwc(graph.in_float(x))
    out = graph.file.activation(source.shape, node.name)
    slopes = np.broadcast_to(_numpy(layer.weight), (1, 1, source.shape[-1]))
    graph.file.operator("PRELU", [source, graph.file.constant(slopes, f"{node.name}_slopes")], [out])
    return Value(out, NHWC)


def in_float(kind: str) -> Layer:
    """The operator of that name, which is computed in float."""
    return lambda graph, node, layer, x: _unary(graph, node, kind, graph.in_float(x))


def flatten(graph: Graph, node: fx.Node, layer: nn.Flatten, x: Value) -> Value:
    if layer.end_dim != -1:
        raise graph.refuse(node, f"a flattening that ends at axis {layer.end_dim}")
    return graph.reshape(x, (*x.shape[:layer.start_dim], -1))


def hard_sigmoid(graph: Graph, node: fx.Node, layer: nn.Module, x: Value) -> Value:
    """relu6(x + 3) / 6."""
    source = graph.in_float(x)
    clipped, out = (graph.file.activation(source.stored.shape, f"{node.name}_{part}") for part in ("clipped", "gate"))
    three, sixth = (graph.file.constant(np.array(number, np.float32), f"{node.name}_{number:.2f}")
                    for number in (3, 1 / 6))
    graph.file.operator("ADD", [source.stored, three], [clipped], fusedActivationFunction=3)
    graph.file.operator("MUL", [clipped, sixth], [out])
    return Value(out, source.order)


def silu(graph: Graph, node: fx.Node, layer: nn.Module, x: Value) -> Value:
    source = graph.in_float(x)
    gate = _unary(graph, node, "LOGISTIC", source)
    out = graph.file.activation(source.stored.shape, f"{node.name}_gated")
    graph.file.operator("MUL", [source.stored, gate.stored], [out])
    return Value(out, source.order)


def upsample(graph: Graph, node: fx.Node, layer: nn.Upsample, x: Value) -> Value:
    """Interpolation between centres of cells, or repetition; the int8 grid stays."""
    factor = layer.scale_factor
    bilinear = layer.mode == "bilinear" and not layer.align_corners
    if not isinstance(factor, (int, float)) or factor != int(factor) or not (bilinear or layer.mode == "nearest"):
        raise graph.refuse(node, f"an upsampling of mode '{layer.mode}' by {factor}")
    source = graph.nhwc(x)
    sides = [int(side * factor) for side in source.shape[1:3]]
    out = graph.file.activation((1, *sides, source.shape[3]), node.name, x.scale)
    kind = "RESIZE_BILINEAR" if bilinear else "RESIZE_NEAREST_NEIGHBOR"
    graph.file.operator(kind, [source, graph.numbers(sides)], [out], halfPixelCenters=True)
    return Value(out, NHWC)


def pool(graph: Graph, node: fx.Node, layer: nn.MaxPool2d | nn.AvgPool2d, x: Value) -> Value:
    """Pooling; means are taken in float, maxima on the grid."""
    largest = isinstance(layer, nn.MaxPool2d)
    if layer.ceil_mode or (not largest and layer.padding != 0):
        raise graph.refuse(node, "a pooling that rounds up, or a mean that counts padding")
    x = x if largest else graph.in_float(x)
    source, padding, sides = _padded(graph, graph.nhwc(x), layer, lowest=True)
    out = graph.file.activation((1, *sides, source.shape[3]), node.name, x.scale)
    (height, width), (stride_h, stride_w) = _pair(layer.kernel_size), _pair(layer.stride)
    graph.file.operator("MAX_POOL_2D" if largest else "AVERAGE_POOL_2D", [source], [out], padding=padding,
                        filterHeight=height, filterWidth=width, strideH=stride_h, strideW=stride_w)
    return Value(out, NHWC)


def global_mean(graph: Graph, node: fx.Node, layer: nn.AdaptiveAvgPool2d, x: Value) -> Value:
    if layer.output_size not in (1, (1, 1)):
        raise graph.refuse(node, f"an adaptive mean to {layer.output_size}")
    source = graph.nhwc(graph.in_float(x))
    out = graph.file.activation((1, 1, 1, source.shape[3]), node.name)
    graph.file.operator("MEAN", [source, graph.numbers([1, 2])], [out], keepDims=True)
    return Value(out, NHWC)


LAYERS: dict[type[nn.Module], Layer] = {
    nn.Conv2d: conv, QuantConv: conv, nn.ConvTranspose2d: transposed_conv, QuantConvTranspose: transposed_conv,
    nn.Linear: linear, nn.Flatten: flatten, FakeQuantizer: quantizer, nn.Identity: same, nn.Dropout: same,
    nn.ReLU: relu, nn.ReLU6: relu, nn.PReLU: prelu, nn.Hardswish: in_float("HARD_SWISH"),
    nn.Hardsigmoid: hard_sigmoid, nn.Sigmoid: in_float("LOGISTIC"), nn.SiLU: silu, nn.Upsample: upsample,
    nn.MaxPool2d: pool, nn.AvgPool2d: pool, nn.AdaptiveAvgPool2d: global_mean}


def _unary(graph: Graph, node: fx.Node, kind: str, x: Value) -> Value:
    out = graph.file.activation(x.stored.shape, node.name, x.scale)
    graph.file.operator(kind, [x.stored], [out])
    return Value(out, x.order)


def _padded(graph: Graph, source: Tensor, layer: Any, lowest: bool = False) -> tuple[Tensor, int, list[int]]:
    """The source padded as torch does it, the operator's own padding, and the sides of its result.

    torch pads both ends alike; the format's SAME puts the odd cell at the end, so at stride 2 it is another grid.
    With ``lowest`` the padding never wins; after a ReLU zeros do not either, and XNNPACK takes no others.
    """
    before, after, sides, is_same = [], [], [], True
    for side, kernel, stride, padding, dilation in zip(
            source.shape[1:3], *map(_pair, (layer.kernel_size, layer.stride, layer.padding,
                                            getattr(layer, "dilation", 1))), strict=True):
        reach = dilation * (kernel - 1) + 1
        cells = (side + 2 * padding - reach) // stride + 1
        missing = max((cells - 1) * stride + reach - side, 0)
        is_same = is_same and cells == -(-side // stride) and padding == missing // 2
        before.append(padding)
        after.append(max(missing - padding, 0))
        sides.append(cells)
    if not any((*before, *after)):
        return source, VALID, sides
    if is_same:
        return source, SAME, sides
    lowest = lowest and source.index not in graph.not_negative
    pads = np.array([[0, 0], [before[0], after[0]], [before[1], after[1]], [0, 0]], np.int32)
    shape = [side + int(pad.sum()) for side, pad in zip(source.shape, pads, strict=True)]
    out = graph.file.activation(shape, f"pad_{source.index}", source.scale)
    inputs = [source, graph.file.constant(pads, f"pads_{source.index}")]
    if lowest:
        smallest = np.float32(np.finfo(np.float32).min) if source.scale is None else np.int8(-128)
        scales = None if source.scale is None else np.array([source.scale], np.float32)
        inputs.append(graph.file.constant(np.array([smallest]), f"lowest_{source.index}", scales))
    graph.file.operator("PADV2" if lowest else "PAD", inputs, [out])
    return out, VALID, sides


def _on_one_grid(graph: Graph, layer: nn.Module, x: Value, ending: Ending) -> tuple[Value, float | None]:
    """The input of a convolution and its result's scale: both on the grid, or both in float."""
    if isinstance(layer, QuantLayer) and x.scale is not None:
        return (x, ending.scale) if ending.scale is not None else (graph.in_float(x), None)
    return graph.in_float(x), None


def _weights(graph: Graph, node: fx.Node, layer: nn.Conv2d | nn.ConvTranspose2d, x: Value, scale: float | None,
             axes: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    """Weights with their axes in this order, and the bias: int32 on the accumulator's grid, or float."""
    count, axis = layer.out_channels, axes.index(1 if isinstance(layer, nn.ConvTranspose2d) else 0)
    bias = np.zeros(count, np.float32) if layer.bias is None else _numpy(layer.bias)
    if scale is None:
        graph.float_layers.append(str(node.target))
        weight = layer.rounded_weight() if isinstance(layer, QuantLayer) else layer.weight
        return (graph.weight(_numpy(weight).transpose(axes), f"{node.name}_weight", axis),
                graph.file.constant(bias, f"{node.name}_bias"))
    assert isinstance(layer, QuantLayer)
    scales = _numpy(layer.weight_scale)
    sums = scales * np.float32(x.scale)
    levels = np.clip(np.rint(bias / sums.astype(np.float64)), -INT32_MAX, INT32_MAX).astype(np.int32)
    return (graph.int8_weight(_numpy(layer.weight).transpose(axes), scales, f"{node.name}_weight", axis),
            graph.file.constant(levels, f"{node.name}_bias", sums))


def _numpy(tensor: TorchTensor) -> Float:
    return np.asarray(tensor.detach().cpu().numpy())


def _pair(value: Any) -> tuple[int, int]:
    return (value, value) if isinstance(value, int) else tuple(value)
