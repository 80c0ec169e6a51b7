"""The specification of a network: all that is needed to build it before its weights are loaded."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from train.models.channels import Channels
from train.models.quantized import QuantizationSpec


@dataclass(frozen=True)
class ModelSpec:
    """A network by the names and options of its parts.

    Attributes:
        options: of the backbone.
        head_options: of the head; also what it must know of the codec, such as the number of SimCC's bins.
        channels: widths of the layers that pruning changed, by module name.
        quantization: set once the network computes on the int8 grid.
        neck: none where it is empty.
        transformer: whether the input is put upright first.
        visibility: whether the network also says which keypoints are visible.
    """

    backbone: str
    head: str
    keypoints: int
    input_hw: tuple[int, int]
    options: dict[str, Any] = field(default_factory=dict)
    head_options: dict[str, Any] = field(default_factory=dict)
    channels: Channels = field(default_factory=dict)
    quantization: QuantizationSpec | None = None
    neck: str = ""
    neck_options: dict[str, Any] = field(default_factory=dict)
    transformer: bool = False
    visibility: bool = False

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, fields: dict[str, Any]) -> ModelSpec:
        """A stored specification; what older checkpoints do not say is as it was then."""
        grid = fields["quantization"]
        return cls(backbone=fields["backbone"], head=fields["head"], keypoints=fields["keypoints"],
                   input_hw=(fields["input_hw"][0], fields["input_hw"][1]), options=fields["options"],
                   head_options=fields.get("head_options", {}), neck=fields.get("neck", ""),
                   neck_options=fields.get("neck_options", {}), transformer=fields.get("transformer", False),
                   visibility=fields.get("visibility", False),
                   channels={name: (c[0], c[1], c[2]) for name, c in fields["channels"].items()},
                   quantization=grid and QuantizationSpec(tuple(grid["keep_float"]), tuple(grid.get("int16", ()))))
