"""Networks by name, and how a checkpoint's specification becomes a network again. Knows no data and no loss."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from inspect import signature
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from edgekp.codecs import Codec, Regression, SimCC
from edgekp.errors import RecipeError, unknown_name
from edgekp.recipe import Recipe
from edgekp.skeletons import skeleton_named
from train.models.channels import Channels, resize
from train.models.heads import GlobalDepthwiseHead, HeatmapHead, IntegralHead, OffsetHead, SimCCHead, UDPCombinedHead
from train.models.hrnet_lite import HRNetLite
from train.models.mobilefacenet import MobileFaceNet
from train.models.quantized import QuantizationSpec, insert_fake_quantizers

T = TypeVar("T")

BACKBONES: dict[str, type[HRNetLite] | type[MobileFaceNet]] = {"hrnet_lite": HRNetLite, "mobilefacenet": MobileFaceNet}
Head = GlobalDepthwiseHead | HeatmapHead | IntegralHead | OffsetHead | SimCCHead | UDPCombinedHead
HEADS: dict[str, type[Head]] = {  # the first that says what a codec decodes is the codec's default
    "heatmap": HeatmapHead, "offset": OffsetHead, "udp_combined": UDPCombinedHead, "simcc": SimCCHead,
    "integral": IntegralHead, "gdconv": GlobalDepthwiseHead}


@dataclass(frozen=True)
class ModelSpec:
    """All that is needed to build a network before its weights are loaded.

    Attributes:
        options: of the backbone.
        head_options: what the head must know of the codec, such as the number of SimCC's bins.
        channels: widths of the layers that pruning changed, by module name.
        quantization: set once the network computes on the int8 grid.
    """

    backbone: str
    head: str
    keypoints: int
    input_hw: tuple[int, int]
    options: dict[str, Any] = field(default_factory=dict)
    head_options: dict[str, int] = field(default_factory=dict)
    channels: Channels = field(default_factory=dict)
    quantization: QuantizationSpec | None = None

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, fields: dict[str, Any]) -> ModelSpec:
        quantization = fields["quantization"]
        return cls(backbone=fields["backbone"], head=fields["head"], keypoints=fields["keypoints"],
                   input_hw=(fields["input_hw"][0], fields["input_hw"][1]), options=fields["options"],
                   head_options=fields.get("head_options", {}),  # older checkpoints have no head that needs any
                   channels={name: (c[0], c[1], c[2]) for name, c in fields["channels"].items()},
                   quantization=QuantizationSpec(tuple(quantization["keep_float"])) if quantization else None)


class KeypointNet(nn.Module):
    """A backbone and a head: (N, 3, h, w) input to one tensor per output of the codec."""

    def __init__(self, backbone: nn.Module, head: nn.Module) -> None:
        super().__init__()
        self.backbone = backbone
        self.head = head

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        outputs: tuple[Tensor, ...] = self.head(self.backbone(image))
        return outputs


def spec_of(recipe: Recipe) -> ModelSpec:
    """The specification that a recipe asks for; the head follows the codec unless the recipe names one."""
    codec = recipe.build_codec()
    head = recipe.model.head or next(name for name, kind in HEADS.items() if kind.outputs == codec.outputs)
    spec = ModelSpec(recipe.model.backbone, head, len(skeleton_named(recipe.data.skeleton)), recipe.input.input_hw,
                     recipe.model.options, _head_options(codec))
    _check_codec(spec, codec)
    with torch.device("meta"):  # options and sizes are refused before data is read; nothing is allocated
        build(spec)
    return spec


def build(spec: ModelSpec) -> nn.Module:
    """A network with fresh weights (and scales, where quantized) of the specified shape.

    Raises:
        RecipeError: An unknown backbone, head or option, parts that do not fit each other, or an odd input size.
    """
    backbone, head = _backbone(spec), _named("head", spec.head, HEADS)
    if len(backbone.strides) not in head.maps:
        raise RecipeError(f"model.head: '{spec.head}' reads {' or '.join(map(str, head.maps))} feature maps, "
                          f"backbone '{spec.backbone}' gives {len(backbone.strides)}")
    if any(side % backbone.coarsest_stride for side in spec.input_hw):
        raise RecipeError(f"input.input_hw: {list(spec.input_hw)}, but backbone '{spec.backbone}' needs multiples of "
                          f"{backbone.coarsest_stride}")
    net: nn.Module = KeypointNet(backbone, head(backbone.widths, backbone.strides, spec.keypoints, spec.input_hw,
                                               **spec.head_options))
    resize(net, spec.channels)
    return insert_fake_quantizers(net, spec.quantization) if spec.quantization else net


def _backbone(spec: ModelSpec) -> HRNetLite | MobileFaceNet:
    kind = _named("backbone", spec.backbone, BACKBONES)
    known = signature(kind).parameters
    for option, value in spec.options.items():
        if option not in known:
            raise RecipeError(unknown_name(f"option of backbone '{spec.backbone}'", option, list(known)))
        expected = type(known[option].default)
        if type(value) is not expected:
            raise RecipeError(f"model.options.{option}: {value!r}, expected {expected.__name__}")
    return kind(**spec.options)


def _named(kind: str, name: str, known: dict[str, T]) -> T:
    if name not in known:
        raise RecipeError(unknown_name(kind, name, list(known)))
    return known[name]


def quantized(spec: ModelSpec, keep_float: tuple[str, ...]) -> ModelSpec:
    """The same network on the int8 grid."""
    return replace(spec, quantization=QuantizationSpec(keep_float))


def _head_options(codec: Codec) -> dict[str, int]:
    return dict(zip(("bins_x", "bins_y"), codec.bins_xy, strict=True)) if isinstance(codec, SimCC) else {}


def _check_codec(spec: ModelSpec, codec: Codec) -> None:
    """Refuse a head that does not speak the codec, or a map of another stride."""
    speaks = _named("head", spec.head, HEADS).outputs
    if speaks != codec.outputs:
        raise RecipeError(f"model.head: '{spec.head}' says {list(speaks)}, the codec expects {list(codec.outputs)}")
    stride = _named("backbone", spec.backbone, BACKBONES).strides[0]
    if not isinstance(codec, (Regression, SimCC)) and codec.stride != stride:
        raise RecipeError(f"codec.options.stride: {codec.stride}, but backbone '{spec.backbone}' has stride {stride}")
