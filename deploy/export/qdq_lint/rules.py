"""All rules by name: why each matters, for which targets and how much, and the fix where one keeps the result."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import onnx

from deploy.export.qdq_lint import device_rules, fixes, grid_rules, layer_rules
from deploy.export.qdq_lint.graph import Graph, Place

Severity = Literal["error", "warning"]
Fix = Callable[[Graph, Sequence[Place]], None]
TARGETS = ("tensorrt", "onnxruntime", "tflite", "dla")
NVIDIA: dict[str, Severity] = {"tensorrt": "error", "dla": "error"}


def every(severity: Severity) -> dict[str, Severity]:
    return dict.fromkeys(TARGETS, severity)


@dataclass(frozen=True)
class Rule:
    """One thing that a quantized graph should not do.

    Attributes:
        severity: by target: an error where it refuses the graph or computes something else, a warning where it is slow
            or inexact; a target that is not named does not mind.
        why: the reason, with a measurement or a source; docs/qdq-lint.md has more.
        fix: changes the graph at the places given.
        fixes: which places ``fix`` can mend.
        keeps: what the fix promises: the same bits, or the same but for sums in another order, which a later rounding
            may turn into a step.
    """

    find: Callable[[Graph], Iterator[Place]]
    severity: dict[str, Severity]
    why: str
    fix: Fix | None = None
    fixes: Callable[[Graph, Place], bool] = lambda _graph, _place: True
    keeps: Literal["bits", "ties"] = "bits"


@dataclass(frozen=True)
class Finding:
    """What a rule says of one place, flat for machines."""

    rule: str
    severity: Severity
    node: str
    tensor: str
    why: str
    fixed: bool = False


RULES: dict[str, Rule] = {
    "scale": Rule(
        grid_rules.bad_scale, every("error"),
        "a scale must be a positive number: 0, NaN and infinity make every value 0 or NaN; calibrate again"),
    "huge_scale": Rule(
        grid_rules.huge_scale, every("warning"),
        "half precision ends at 65504, and so large a step rounds everything usual to 0; look for an outlier in the "
        "calibration images"),
    "zero_point": Rule(
        grid_rules.centred_uint8, NVIDIA,
        "TensorRT refuses a zero point other than 0; int8 around 0 is the same grid", fixes.respell_int8),
    "asymmetric_zero_point": Rule(
        grid_rules.asymmetric, NVIDIA,
        "TensorRT knows int8 around 0 only: it refuses the zero point, and clips uint8 with zero point 0 at 127; these "
        "levels have no such spelling, so quantize again, symmetrically"),
    "int32_bias": Rule(
        grid_rules.integer_bias, NVIDIA,
        "TensorRT dequantizes no int32; it wants biases in float", fixes.store_float_bias),
    "int16": Rule(
        grid_rules.sixteen_bits, NVIDIA | {"onnxruntime": "warning"},
        "TensorRT refuses 16-bit integers, and ONNX Runtime computes around them in float"),
    "opset": Rule(
        grid_rules.old_opset, every("error"),
        "ONNX has scales per channel from opset 13 on; export with 13 or newer"),
    "int8_activations": Rule(
        grid_rules.int8_activations, {"onnxruntime": "warning"},
        "ONNX Runtime on x86-64 runs int8 activations at 0.3 to 1.0 times the speed of float, uint8 at up to 2.4 times",
        fixes.respell_uint8),
    "rounded_twice": Rule(
        grid_rules.equal_pairs_in_a_row, every("warning"),
        "the second pair does nothing, and keeps what is around it from being fused", fixes.drop_second_pair),
    "requantized": Rule(
        grid_rules.unequal_pairs_in_a_row, every("warning"),
        "two roundings lose more than one and cost a pass over memory; give the value one scale"),
    "weights_in_float": Rule(
        grid_rules.weights_stored_in_float, every("warning"),
        "the file is four times as large as with int8 weights", fixes.store_weights),
    "depthwise_per_tensor": Rule(
        grid_rules.depthwise_per_tensor, every("warning"),
        "channels of a depthwise convolution differ so much that one scale leaves some of them a few levels "
        "(Krishnamoorthi 2018: MobileNet falls to 0.1 %); the fix makes room for a scale a channel, which "
        "quantizing again fills",
        fixes.repeat_weight_scale),
    "add_scales": Rule(
        layer_rules.add_scales, every("warning"),
        "an input in float keeps the sum in float, and one of less than 1/256 of the sum's scale is rounded away"),
    "concat_scales": Rule(
        layer_rules.concat_scales, {"tensorrt": "warning", "onnxruntime": "warning", "tflite": "error", "dla": "error"},
        "with one scale a concatenation copies bytes; else each input is rounded again (ONNX Runtime: 1.8 times the "
        "time), which TFLite and the DLA do not do; calibrate the inputs together"),
    "resize": Rule(
        layer_rules.resize_in_float, every("warning"),
        "without a pair on both sides an upsampling runs in float, with copies to and fro (NVIDIA/TensorRT#2976)",
        fixes.round_both_sides, fixes.is_nearest_with_one_pair),
    "deconv": Rule(
        layer_rules.deconv_in_float, every("warning"),
        "a ConvTranspose that is not rounded on all sides runs in float between integer layers (NVIDIA/TensorRT#2597)"),
    "batch_norm": Rule(
        layer_rules.batch_norm, every("warning"),
        "no runtime has it in integers: fold it into the convolution before it",
        fixes.fold_batch_norms, fixes.is_behind_its_convolution, "ties"),
    "float_gate": Rule(
        layer_rules.gate_in_float, every("warning"),
        "the product runs in float and breaks the chain of integers; round the gate too, a sigmoid's scale is 1/127"),
    "half_quantized": Rule(
        layer_rules.half_quantized, every("warning"),
        "integer kernels want both rounded; this layer runs in float and pays for the rounding"),
    "float_bias": Rule(
        layer_rules.float_bias, {"onnxruntime": "warning"},
        "ONNX Runtime's integer convolution has int32 biases; it rounds this one by itself when it loads the model",
        fixes.store_integer_bias, keeps="ties"),
    "activation": Rule(
        layer_rules.activation_between, {"onnxruntime": "warning", "tflite": "warning"},
        "no integer kernel: it runs in float between roundings, and PReLU splits a TFLite model into 34 parts (14.6 "
        "instead of 2.5 ms); train with ReLU"),
    "relu_in_float": Rule(
        layer_rules.relu_in_float, {"onnxruntime": "warning"},
        "ONNX Runtime folds a ReLU into an integer convolution only if the zero point is the smallest level; else both "
        "stay in float (4.0 instead of 1.6 ms); a maximum of integers says the same", fixes.rectify_on_the_grid),
    "dla_layer": Rule(
        device_rules.dla_layer, {"dla": "warning"},
        "it falls back to the GPU, with a copy each way, or the build fails without GPU fallback"),
    "dynamic_shape": Rule(
        device_rules.dynamic_shape, {"dla": "warning", "tflite": "warning"},
        "the DLA and TFLite's fast kernels want fixed sizes: convert with a fixed one, or build with min = opt = max"),
    "nearest_resize": Rule(
        device_rules.nearest_resize, {"tflite": "warning"},
        "it splits a TFLite model into three parts; bilinear upsampling stays in one"),
}


def lint(model: onnx.ModelProto, targets: Collection[str] = TARGETS, ignore: Collection[str] = ()) -> list[Finding]:
    """What all rules say of a model for some targets, errors first."""
    graph = Graph(model)
    found = [Finding(name, severity, place.name, place.tensor, f"{place.found}: {rule.why}")
             for name, rule in RULES.items() if name not in ignore
             for severity in [severity_for(rule, targets)] if severity is not None
             for place in rule.find(graph)]
    return sorted(found, key=lambda finding: finding.severity != "error")


def severity_for(rule: Rule, targets: Collection[str]) -> Severity | None:
    """The worst for any of the targets."""
    found = {rule.severity[target] for target in targets if target in rule.severity}
    return "error" if "error" in found else "warning" if found else None
