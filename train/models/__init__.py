"""Networks by name, and how a checkpoint's specification becomes a network again. Knows no data and no loss."""

from __future__ import annotations

from dataclasses import replace
from inspect import Parameter, signature
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from edgekp.codecs import Codec, Regression, SimCC
from edgekp.errors import RecipeError, unknown_name
from edgekp.recipe import Recipe
from edgekp.skeletons import skeleton_named
from train.models.channels import resize
from train.models.heads import GlobalDepthwiseHead, HeatmapHead, IntegralHead, OffsetHead, SimCCHead, UDPCombinedHead
from train.models.hrnet_lite import HRNetLite
from train.models.mobilefacenet import MobileFaceNet
from train.models.parts import Backbone, Head, Neck
from train.models.quantized import QuantizationSpec, insert_fake_quantizers
from train.models.spec import ModelSpec

__all__ = ["BACKBONES", "HEADS", "NECKS", "KeypointNet", "ModelSpec", "build", "quantized", "spec_of"]

T = TypeVar("T")

BACKBONES: dict[str, type[Backbone]] = {"hrnet_lite": HRNetLite, "mobilefacenet": MobileFaceNet}
NECKS: dict[str, type[Neck]] = {}
HEADS: dict[str, type[Head]] = {  # the first that says what a codec decodes is the codec's default
    "heatmap": HeatmapHead, "offset": OffsetHead, "udp_combined": UDPCombinedHead, "simcc": SimCCHead,
    "integral": IntegralHead, "gdconv": GlobalDepthwiseHead}


class KeypointNet(nn.Module):
    """A backbone, perhaps a neck, and a head: (N, 3, h, w) input to one tensor per output of the codec."""

    def __init__(self, backbone: Backbone, neck: Neck | None, head: Head) -> None:
        super().__init__()
        self.backbone = backbone
        self.neck = neck
        self.head = head

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        features = self.backbone(image)
        if self.neck is not None:
            features = self.neck(features)
        outputs: tuple[Tensor, ...] = self.head(features)
        return outputs


def spec_of(recipe: Recipe) -> ModelSpec:
    """The specification that a recipe asks for; the head follows the codec unless the recipe names one."""
    codec, model = recipe.build_codec(), recipe.model
    head = model.head or next(name for name, kind in HEADS.items() if kind.outputs == codec.outputs)
    spec = ModelSpec(model.backbone, head, len(skeleton_named(recipe.data.skeleton)), recipe.input.input_hw,
                     model.options, model.head_options | _head_options(codec), neck=model.neck,
                     neck_options=model.neck_options)
    _check_outputs(spec, codec)
    with torch.device("meta"):  # options and sizes are refused before data is read; nothing is allocated
        build(spec)
        _check_stride(spec, codec)
    return spec


def build(spec: ModelSpec) -> nn.Module:
    """A network with fresh weights (and scales, where quantized) of the specified shape.

    Raises:
        RecipeError: An unknown part or option, parts that do not fit each other, or an odd input size.
    """
    backbone, neck, (widths, strides) = _features(spec)
    head = _named("head", spec.head, HEADS)
    if len(strides) not in head.maps:
        giver = f"neck '{spec.neck}'" if neck else f"backbone '{spec.backbone}'"
        raise RecipeError(f"model.head: '{spec.head}' reads {' or '.join(map(str, head.maps))} feature maps, "
                          f"{giver} gives {len(strides)}")
    if any(side % backbone.coarsest_stride for side in spec.input_hw):
        raise RecipeError(f"input.input_hw: {list(spec.input_hw)}, but backbone '{spec.backbone}' needs multiples of "
                          f"{backbone.coarsest_stride}")
    _check_options(head, f"head '{spec.head}'", "model.head_options", spec.head_options)
    net: nn.Module = KeypointNet(backbone, neck, head(widths, strides, spec.keypoints, spec.input_hw,
                                                      **spec.head_options))
    resize(net, spec.channels)
    return insert_fake_quantizers(net, spec.quantization) if spec.quantization else net


def quantized(spec: ModelSpec, keep_float: tuple[str, ...]) -> ModelSpec:
    """The same network on the int8 grid."""
    return replace(spec, quantization=QuantizationSpec(keep_float))


def _features(spec: ModelSpec) -> tuple[Backbone, Neck | None, tuple[tuple[int, ...], tuple[int, ...]]]:
    """Backbone and neck, and the widths and strides of the maps that the head is given."""
    kind = _named("backbone", spec.backbone, BACKBONES)
    _check_options(kind, f"backbone '{spec.backbone}'", "model.options", spec.options)
    backbone = kind(**spec.options)
    if not spec.neck:
        if spec.neck_options:
            raise RecipeError(f"model.neck_options: {spec.neck_options}, but no neck is chosen")
        return backbone, None, (backbone.widths, backbone.strides)
    between = _named("neck", spec.neck, NECKS)
    _check_options(between, f"neck '{spec.neck}'", "model.neck_options", spec.neck_options)
    neck = between(backbone.widths, backbone.strides, **spec.neck_options)
    return backbone, neck, (neck.widths, neck.strides)


def _check_options(kind: type[nn.Module], owner: str, where: str, options: dict[str, Any]) -> None:
    """Refuse an option that a part does not know, or of another type than its default."""
    known = {name: parameter for name, parameter in signature(kind).parameters.items()
             if parameter.kind is Parameter.KEYWORD_ONLY or parameter.default is not Parameter.empty}
    for option, value in options.items():
        if option not in known:
            raise RecipeError(unknown_name(f"option of {owner}", option, list(known) or ["none"]))
        expected = type(known[option].default)
        whole = expected is float and type(value) is int
        if known[option].default is not Parameter.empty and type(value) is not expected and not whole:
            raise RecipeError(f"{where}.{option}: {value!r}, expected {expected.__name__}")


def _named(kind: str, name: str, known: dict[str, T]) -> T:
    if name not in known:
        raise RecipeError(unknown_name(kind, name, list(known)))
    return known[name]


def _head_options(codec: Codec) -> dict[str, Any]:
    """What a head must know of its codec."""
    return dict(zip(("bins_x", "bins_y"), codec.bins_xy, strict=True)) if isinstance(codec, SimCC) else {}


def _check_outputs(spec: ModelSpec, codec: Codec) -> None:
    """Refuse a head that does not speak the codec."""
    speaks = _named("head", spec.head, HEADS).outputs
    if speaks != codec.outputs:
        raise RecipeError(f"model.head: '{spec.head}' says {list(speaks)}, the codec expects {list(codec.outputs)}")


def _check_stride(spec: ModelSpec, codec: Codec) -> None:
    """Refuse maps of another stride than the codec's."""
    if isinstance(codec, (Regression, SimCC)):
        return
    stride = _features(spec)[2][1][0]
    if codec.stride != stride:
        giver = f"neck '{spec.neck}'" if spec.neck else f"backbone '{spec.backbone}'"
        raise RecipeError(f"codec.options.stride: {codec.stride}, but {giver} has stride {stride}")
