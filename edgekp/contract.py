"""The contract of one model: what it is shown, what it says, and what its keypoints are called.

Training, calibration, evaluation and the device hold the same Contract, so none of them can preprocess or decode
in its own way. Knows no file and no network.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, Generic, TypeVar

import numpy as np

from edgekp.codecs import SCENE_CODECS, Codec, SceneCodec, build_codec, build_scene_codec, codec_to_json
from edgekp.errors import RecipeError
from edgekp.preprocess import InputSpec, preprocess, transform
from edgekp.sample import Float, Image, Int, Prediction, Target
from edgekp.skeletons import COCO17, Skeleton, coco_from_openpose, openpose_from_coco

VISIBILITY = "visibility"
C = TypeVar("C", Codec, SceneCodec)


@dataclass(frozen=True)
class Agreement(Generic[C]):
    """What every stage must agree on about a model, whether it is shown one person or a whole scene."""

    input: InputSpec
    codec: C
    skeleton: Skeleton

    @property
    def outputs(self) -> tuple[str, ...]:
        """Names of what the network says, in its order."""
        return self.codec.outputs

    def prepare(self, image: Image, bbox_xywh: Float, out: Float | None = None) -> tuple[Float, Float]:
        """The network's input (3, h, w) float32, in ``out`` if given, and the affine (2, 3) from it to the image."""
        return preprocess(image, bbox_xywh, self.input, out)

    def to_json(self) -> dict[str, Any]:
        return {"input": self.input.to_json(), "codec": codec_to_json(self.codec), "skeleton": self.skeleton.to_json()}

    def differences(self, other: AnyContract) -> list[str]:
        """One line per field that differs, this contract's value first."""
        mine, theirs = dict(flatten(self.to_json())), dict(flatten(other.to_json()))
        return [f"{name}: {brief(mine.get(name))} here, {brief(theirs.get(name))} there"
                for name in sorted(mine.keys() | theirs.keys()) if mine.get(name) != theirs.get(name)]


@dataclass(frozen=True)
class Contract(Agreement[Codec]):
    """The agreement about a network that is shown one person or face in a box.

    Attributes:
        visibility: whether the last output is ``visibility``, the logits (N, K) that a keypoint is visible (v = 2) and
            not hidden (v = 1). Manifests without it mean that there is none.
    """

    visibility: bool = False

    @property
    def outputs(self) -> tuple[str, ...]:
        return (*self.codec.outputs, VISIBILITY) if self.visibility else self.codec.outputs

    def to_json(self) -> dict[str, Any]:
        return super().to_json() | ({VISIBILITY: True} if self.visibility else {})

    def interpret(self, outputs: dict[str, Float], crop_to_image: Float) -> list[Prediction]:
        """The keypoints that N outputs stand for, in image pixels; ``crop_to_image`` is (N, 2, 3)."""
        keypoints_xy, scores = self.codec.decode(outputs)
        visible = self.visible(outputs)
        return [Prediction(xy, score, None if visible is None else visible[n])
                for n, (xy, score) in enumerate(zip(transform(keypoints_xy, crop_to_image), scores, strict=True))]

    def visible(self, outputs: dict[str, Float]) -> Float | None:
        """(N, K) probabilities that the keypoints are visible, None where the network does not say."""
        if not self.visibility:
            return None
        logits = np.asarray(outputs[VISIBILITY], dtype=np.float64)
        return np.asarray((1 + np.tanh(logits / 2)) / 2)  # the logistic function, which cannot overflow like this


@dataclass(frozen=True)
class SceneContract(Agreement[SceneCodec]):
    """The agreement about a network that is shown a whole image and finds everybody on it.

    Labels and predictions are of COCO's skeleton; what the codec adds to it, OpenPose's neck, stays inside.
    """

    def __post_init__(self) -> None:
        if self.skeleton != COCO17:
            raise RecipeError(f"data.skeleton: '{self.skeleton.name}', but codec 'openpose' is made from the keypoints "
                              "of 'coco17'; choose it, or a codec that is shown one person")
        if self.input.padding != 1:
            raise RecipeError(f"input.padding: {self.input.padding:g}, but codec 'openpose' is shown whole images, "
                              "which need none; set padding = 1.0")

    def encode(self, keypoints_xy: Float, visibility: Int, input_hw: tuple[int, int]) -> Target:
        """Targets of (N, P, 17, 2) keypoints in pixels of an input of that size, as the codec says."""
        return replace(self.codec, input_hw=input_hw).encode(*openpose_from_coco(keypoints_xy, visibility))

    def interpret(self, outputs: dict[str, Float], input_to_image: Float) -> list[list[Prediction]]:
        """The people of N scenes, the best first, in image pixels; ``input_to_image`` is (N, 2, 3).

        A keypoint that was not found has score 0 and lies amid those that were, so that a box around all stays small.
        """
        return [self.place(*people, affine)
                for people, affine in zip(self.codec.decode(outputs), input_to_image, strict=True)]

    def place(self, keypoints_xy: Float, scores: Float, input_to_image: Float) -> list[Prediction]:
        """The people of one scene, (P, 18, 2) and (P, 18) as the codec or a GPU finds them in input pixels."""
        keypoints_xy, scores = coco_from_openpose(keypoints_xy, scores)
        image_xy = transform(keypoints_xy, input_to_image)
        return [_completed(xy, score) for xy, score in zip(image_xy, scores, strict=True)]

    def decode(self, outputs: dict[str, Float]) -> list[tuple[Float, Float]]:
        """For each scene keypoints (P, 17, 2) in input pixels and scores (P, 17), as the codec says."""
        return [coco_from_openpose(*people) for people in self.codec.decode(outputs)]


AnyContract = Contract | SceneContract


def make_contract(spec: InputSpec, codec: str, options: dict[str, Any], skeleton: Skeleton,
                  visibility: bool = False) -> AnyContract:
    """The contract of the codec of that name.

    Raises:
        RecipeError: An unknown codec or option, or a value that does not fit the others.
    """
    if codec in SCENE_CODECS:
        if visibility:
            raise RecipeError(f"model.visibility: codec '{codec}' finds people in whole images and says no visibility; "
                              "leave it out")
        return SceneContract(spec, build_scene_codec(codec, spec.input_hw, options), skeleton)
    return Contract(spec, build_codec(codec, spec.input_hw, options), skeleton, visibility)


def contract_from_json(fields: dict[str, Any]) -> AnyContract:
    """What ``to_json`` has written, with the errors of ``make_contract``."""
    entry = dict(fields["input"])
    for name in ("input_hw", "mean", "std"):
        entry[name] = tuple(entry[name])
    options = dict(fields["codec"])
    return make_contract(InputSpec(**entry), str(options.pop("name")), options, Skeleton.from_json(fields["skeleton"]),
                         fields.get(VISIBILITY, False))


def _completed(keypoints_xy: Float, scores: Float) -> Prediction:
    """A person whose missing keypoints lie in the middle of those that were found."""
    found = scores[:, None] > 0
    return Prediction(np.where(found, keypoints_xy, keypoints_xy.mean(0, where=found)), scores)


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
