"""The contract of one model: what it is shown, what it says, and what its keypoints are called.

Training, calibration, evaluation and the device hold the same Contract, so none of them can preprocess or decode
in its own way. Knows no file and no network.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from edgekp.codecs import Codec, codec_from_json, codec_to_json
from edgekp.preprocess import InputSpec, preprocess, transform
from edgekp.sample import Float, Image, Prediction
from edgekp.skeletons import Skeleton


@dataclass(frozen=True)
class Contract:
    """What every stage must agree on about a model."""

    input: InputSpec
    codec: Codec
    skeleton: Skeleton

    def prepare(self, image: Image, bbox_xywh: Float, out: Float | None = None) -> tuple[Float, Float]:
        """The network's input (3, h, w) float32, in ``out`` if given, and the affine (2, 3) from it to the image."""
        return preprocess(image, bbox_xywh, self.input, out)

    def interpret(self, outputs: dict[str, Float], crop_to_image: Float) -> list[Prediction]:
        """The keypoints that N outputs stand for, in image pixels; ``crop_to_image`` is (N, 2, 3)."""
        keypoints_xy, scores = self.codec.decode(outputs)
        return [Prediction(xy, score) for xy, score in zip(transform(keypoints_xy, crop_to_image), scores, strict=True)]

    def to_json(self) -> dict[str, Any]:
        return {"input": self.input.to_json(), "codec": codec_to_json(self.codec), "skeleton": self.skeleton.to_json()}

    @classmethod
    def from_json(cls, fields: dict[str, Any]) -> Contract:
        entry = dict(fields["input"])
        for name in ("input_hw", "mean", "std"):
            entry[name] = tuple(entry[name])
        spec = InputSpec(**entry)
        return cls(spec, codec_from_json(fields["codec"], spec.input_hw), Skeleton.from_json(fields["skeleton"]))

    def differences(self, other: Contract) -> list[str]:
        """One line per field that differs, this contract's value first."""
        mine, theirs = dict(flatten(self.to_json())), dict(flatten(other.to_json()))
        return [f"{name}: {brief(mine.get(name))} here, {brief(theirs.get(name))} there"
                for name in sorted(mine.keys() | theirs.keys()) if mine.get(name) != theirs.get(name)]


def brief(value: Any) -> str:
    """A value in a line of text: digests and long lists by their beginning."""
    text = str(value)
    return text if len(text) <= 40 else f"{text[:12]}…"


def flatten(value: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """The leaves of nested dicts and dataclass JSON as (dotted name, value); lists are leaves."""
    if isinstance(value, dict) and value:
        for key, entry in value.items():
            yield from flatten(entry, f"{name}.{key}" if name else str(key))
    else:
        yield name, list(value) if isinstance(value, tuple) else value
