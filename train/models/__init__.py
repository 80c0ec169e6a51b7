"""Networks by name, and how a checkpoint's specification becomes a network again. Knows no data and no loss."""

from __future__ import annotations

from dataclasses import replace
from inspect import Parameter, signature
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from edgekp.codecs import Codec, OpenPose, Regression, SceneCodec, SimCC
from edgekp.errors import RecipeError, unknown_name
from edgekp.recipe import Recipe
from edgekp.skeletons import skeleton_named
from train.models.channels import resize
from train.models.cpm import CPMHead
from train.models.heads import GlobalDepthwiseHead, HeatmapHead, IntegralHead, OffsetHead, SimCCHead, UDPCombinedHead
from train.models.hrnet_lite import HRNetLite
from train.models.lite_hrnet import LiteHRNet
from train.models.mobilefacenet import MobileFaceNet
from train.models.mobilenet_v3 import MobileNetV3
from train.models.necks import FPN, Deconv
from train.models.openpose import OpenPoseHead
from train.models.parts import Backbone, Head, Neck
from train.models.pfld import PFLD, MultiScaleHead
from train.models.quantized import QuantizationSpec, insert_fake_quantizers
from train.models.resnet import ResNet
from train.models.rtmcc import RTMCCHead
from train.models.shufflenet_v2 import ShuffleNetV2
from train.models.spec import ModelSpec
from train.models.transformer import SpatialTransformer
from train.models.unet import UNet
from train.models.visibility import VisibilityBranch

__all__ = ["BACKBONES", "HEADS", "NECKS", "KeypointNet", "ModelSpec", "build", "quantized", "spec_of"]

T = TypeVar("T")

BACKBONES: dict[str, type[Backbone]] = {"hrnet_lite": HRNetLite, "mobilefacenet": MobileFaceNet, "resnet": ResNet,
                                        "unet": UNet, "lite_hrnet": LiteHRNet, "mobilenet_v3": MobileNetV3,
                                        "shufflenet_v2": ShuffleNetV2, "pfld": PFLD}
NECKS: dict[str, type[Neck]] = {"fpn": FPN, "deconv": Deconv}
HEADS: dict[str, type[Head]] = {  # the first that says what a codec decodes is the codec's default
    "heatmap": HeatmapHead, "offset": OffsetHead, "udp_combined": UDPCombinedHead, "simcc": SimCCHead,
    "rtmcc": RTMCCHead, "cpm": CPMHead,
    "integral": IntegralHead, "gdconv": GlobalDepthwiseHead, "multi_scale": MultiScaleHead, "openpose": OpenPoseHead}


class KeypointNet(nn.Module):
    """A backbone, perhaps a neck, and a head: (N, 3, h, w) input to one tensor per output of the codec.

    Where they are asked for, a spatial transformer comes before them and a branch for visibility beside the head. Its
    logits are the last output, once, however many stages the head has.
    """

    def __init__(self, backbone: Backbone, neck: Neck | None, head: Head, transformer: SpatialTransformer | None = None,
                 visibility: VisibilityBranch | None = None) -> None:
        super().__init__()
        self.backbone = backbone
        self.neck = neck
        self.head = head
        self.transformer = transformer
        self.visibility = visibility

    @property
    def last_layers(self) -> list[nn.Module]:
        """What says the outputs and the similarity: steps of optimization leave it alone."""
        return [part.get_submodule("output") for part in (self.head, self.visibility, self.transformer)
                if part is not None]

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        if self.transformer is None:
            return self._say(image)
        similarity = self.transformer.locate(image)
        coordinates, *rest = self._say(self.transformer.upright(image, similarity))
        return (self.transformer.to_input(coordinates, similarity), *rest)

    def _say(self, image: Tensor) -> tuple[Tensor, ...]:
        features = self.backbone(image)
        if self.neck is not None:
            features = self.neck(features)
        outputs: tuple[Tensor, ...] = self.head(features)
        return outputs if self.visibility is None else (*outputs, self.visibility(features))


def spec_of(recipe: Recipe) -> ModelSpec:
    """The specification that a recipe asks for; the head follows the codec unless the recipe names one."""
    codec, model = recipe.build_codec(), recipe.model
    head = model.head or next(name for name, kind in HEADS.items() if kind.outputs == codec.outputs)
    spec = ModelSpec(model.backbone, head, len(skeleton_named(recipe.data.skeleton)), recipe.input.input_hw,
                     model.options, model.head_options | _head_options(codec), neck=model.neck,
                     neck_options=model.neck_options, transformer=model.transformer, visibility=model.visibility)
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
                          f"{giver} gives {len(strides)}; {_advice(spec, head)}")
    if any(side % backbone.coarsest_stride for side in spec.input_hw):
        raise RecipeError(f"input.input_hw: {list(spec.input_hw)}, but backbone '{spec.backbone}' needs multiples of "
                          f"{backbone.coarsest_stride}")
    _check_options(head, f"head '{spec.head}'", "model.head_options", spec.head_options)
    if spec.transformer and head.outputs != Regression.outputs:
        raise RecipeError(f"model.transformer: head '{spec.head}' says {list(head.outputs)}, and only coordinates can "
                          "be led back to the input; choose codec 'regression', or leave it out")
    net: nn.Module = KeypointNet(
        backbone, neck, head(widths, strides, spec.keypoints, spec.input_hw, **spec.head_options),
        SpatialTransformer(spec.input_hw) if spec.transformer else None,
        VisibilityBranch(widths, strides, spec.keypoints) if spec.visibility else None)
    resize(net, spec.channels)
    return insert_fake_quantizers(net, spec.quantization) if spec.quantization else net


def quantized(spec: ModelSpec, keep_float: tuple[str, ...], int16: tuple[str, ...] = ()) -> ModelSpec:
    """The same network on the int8 grid; in float what ``keep_float`` names, and what all coordinates hang on."""
    beside = [*(["transformer"] if spec.transformer else []), *(["visibility.output"] if spec.visibility else [])]
    return replace(spec, quantization=QuantizationSpec((*keep_float, *beside), int16))


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


def _advice(spec: ModelSpec, head: type[Head]) -> str:
    if spec.neck or 1 not in head.maps:
        return "choose another head"
    return f"model.neck = {' or '.join(map(repr, NECKS))} makes one of them"


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


def _head_options(codec: Codec | SceneCodec) -> dict[str, Any]:
    """What a head must know of its codec."""
    if isinstance(codec, OpenPose):
        return {"stride": codec.stride}
    return dict(zip(("bins_x", "bins_y"), codec.bins_xy, strict=True)) if isinstance(codec, SimCC) else {}


def _check_outputs(spec: ModelSpec, codec: Codec | SceneCodec) -> None:
    """Refuse a head that does not speak the codec."""
    speaks = _named("head", spec.head, HEADS).outputs
    if speaks != codec.outputs:
        raise RecipeError(f"model.head: '{spec.head}' says {list(speaks)}, the codec expects {list(codec.outputs)}; "
                          "choose another head or codec")


def _check_stride(spec: ModelSpec, codec: Codec | SceneCodec) -> None:
    """Refuse maps of another stride than the codec's, unless the head changes it."""
    if isinstance(codec, (OpenPose, Regression, SimCC)):
        return
    stride = _features(spec)[2][1][0]
    if codec.stride != stride:
        giver = f"neck '{spec.neck}'" if spec.neck else f"backbone '{spec.backbone}'"
        raise RecipeError(f"codec.options.stride: {codec.stride}, but {giver} has stride {stride}")
