"""Recipes: one TOML file with every setting of a run, read strictly into frozen dataclasses.

A key that no stage reads is refused with the nearest known one, so a typo never passes as a default.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, TypeVar

from edgekp.codecs import Codec, SceneCodec
from edgekp.contract import AnyContract, make_contract
from edgekp.errors import RecipeError
from edgekp.preprocess import InputSpec
from edgekp.recipe_augment import Augment
from edgekp.recipe_search import Search
from edgekp.recipe_steps import Step
from edgekp.recipe_train import Train
from edgekp.skeletons import skeleton_named
from edgekp.strict import require_above_zero

T = TypeVar("T")

TAKEN = {"data", "train", "optimize", "export", "eval", "gate", "tensorboard",  # what else a run's folders are called
         "search", "float", "pruned", "distilled", "int8"}


@dataclass(frozen=True)
class LabelSet:
    """A COCO keypoints file; paths are relative to the data folder (environment EDGEKP_DATA).

    Attributes:
        images: folder of the image files; by default the folder of the labels.
        weak: at most this many instances, drawn anew each epoch; 0 means all. For labels of lesser quality.
    """

    labels: str
    images: str = ""
    weak: int = 0

    def __post_init__(self) -> None:
        if self.weak < 0:
            raise RecipeError(f"data: weak = {self.weak} for '{self.labels}', expected 0 (all) or more")


@dataclass(frozen=True)
class Drawn:
    """The embedded data: a seeded generator draws pictures of people or faces and labels them."""

    subject: Literal["people", "faces"]
    train: int = 2000
    val: int = 500
    seed: int = 0

    def __post_init__(self) -> None:
        require_above_zero("data.drawn", self, "train", "val")
        if self.seed < 0:
            raise RecipeError(f"data.drawn.seed: {self.seed}, expected 0 or more")


@dataclass(frozen=True)
class Data:
    """What is learnt from and measured on. Either ``drawn``, or ``train`` and ``val`` label sets.

    Attributes:
        hint: where a user gets the data, told when a file is missing.
    """

    skeleton: str
    train: tuple[LabelSet, ...] = ()
    val: tuple[LabelSet, ...] = ()
    drawn: Drawn | None = None
    hint: str = ""


@dataclass(frozen=True)
class Model:
    """Architecture by name; the options of each part are checked by it.

    Attributes:
        options: of the backbone.
        neck: makes one map of the backbone's, such as ``fpn`` or ``deconv``; by default there is none.
        head: by default the one that fits the codec.
        transformer: put the input upright by a spatial transformer first; for heads that say coordinates.
        visibility: say also which keypoints are visible; learnt with ``train.visibility_share``.
    """

    backbone: str
    head: str = ""
    options: dict[str, Any] = field(default_factory=dict)
    neck: str = ""
    neck_options: dict[str, Any] = field(default_factory=dict)
    head_options: dict[str, Any] = field(default_factory=dict)
    transformer: bool = False
    visibility: bool = False


@dataclass(frozen=True)
class CodecChoice:
    """Codec by name; ``options`` go to it and are checked by it."""

    name: str
    options: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Export:
    """How checkpoints become files.

    Attributes:
        opset: of ONNX files; by default the target's.
        embed: what a second ONNX file holds beside the network: ``preprocess`` (uint8 BGR crops in) and ``decode``
            (keypoints out).
    """

    opset: int | None = None
    embed: tuple[Literal["preprocess", "decode"], ...] = ()

    def __post_init__(self) -> None:
        if self.opset is not None and not 13 <= self.opset <= 20:
            raise RecipeError(f"export.opset: {self.opset}, expected 13 (scales per channel) to 20")
        if len(set(self.embed)) < len(self.embed):
            raise RecipeError(f"export.embed: {list(self.embed)} names a part twice; name each once")


@dataclass(frozen=True)
class Eval:
    """What is measured on the validation sets; ``metric`` is the one that the gate judges.

    Attributes:
        normaliser: what an error is divided by: for PCK the longer side of the box (``auto``), the head or the torso;
            for NME the distance of the outer eye corners (``auto``) or of the pupils, or the size of the box.
        threshold: of PCK, as a fraction of the normaliser.
    """

    metric: Literal["oks_ap", "pck", "nme"] = "oks_ap"
    normaliser: Literal["auto", "box", "head", "torso", "eye_corners", "pupils"] = "auto"
    threshold: float = 0.2
    pictures: int = 12

    def __post_init__(self) -> None:
        require_above_zero("eval", self, "threshold")
        fitting = {"oks_ap": ("auto",), "pck": ("auto", "box", "head", "torso"),
                   "nme": ("auto", "eye_corners", "pupils", "box")}[self.metric]
        if self.normaliser not in fitting:
            raise RecipeError(f"eval.normaliser: '{self.normaliser}' does not belong to metric '{self.metric}'; "
                              f"possible: {', '.join(fitting)}")
        if self.metric != "pck" and self.threshold != Eval.threshold:
            raise RecipeError(f"eval.threshold: {self.threshold}, but metric '{self.metric}' has none; leave it out")


@dataclass(frozen=True)
class Gate:
    """How much worse than the float baseline a model may be.

    Attributes:
        budget: allowed loss of the metric: points of AP or PCK as a fraction (0.02 is 2 points); for NME relative.
            By default what the validation set can tell: 2 points, and from 2000 instances on 1 % of the baseline's.
        slices: a part of the data (a keypoint, a size, what is hidden) that loses more than twice the budget fails
            the model, too. Such parts are always told.
        latency_ratio: largest allowed latency relative to the baseline.
        ledger: file in which a board recorded the latency (``python -m eval latency --record``), relative to the
            working folder; by default the latency is measured where the gate runs.
    """

    budget: float | None = None
    slices: bool = False
    resamples: int = 2000
    latency_ratio: float = 1.05
    ledger: str = ""

    def __post_init__(self) -> None:
        require_above_zero("gate", self, "resamples", "latency_ratio")
        if self.budget is not None:
            require_above_zero("gate", self, "budget")


@dataclass(frozen=True)
class SecondTask:
    """Another task on the backbone and neck of the main one: each step of the training learns a batch of both.

    Attributes:
        name: of its checkpoint, a folder within the main one's, and of its metrics.
        share: of the loss of a step; the main task has the rest.
        input: of the size of the main task's, which it is by default.
        metric: what its validation is about.
    """

    name: str
    data: Data
    codec: CodecChoice
    share: float = 0.3
    input: InputSpec | None = None
    head: str = ""
    head_options: dict[str, Any] = field(default_factory=dict)
    loss: str = "mse"
    augment: Augment = field(default_factory=Augment)
    metric: Literal["oks_ap", "pck", "nme"] = "oks_ap"

    def __post_init__(self) -> None:
        if not re.fullmatch("[a-z][a-z0-9_]*", self.name) or self.name in TAKEN:
            raise RecipeError(f"second.name: '{self.name}', expected a word of small letters, digits and _, other than "
                              f"{', '.join(sorted(TAKEN))}")
        if not 0 < self.share < 1:
            raise RecipeError(f"second.share: {self.share}, expected a share of the loss between 0 and 1")


@dataclass(frozen=True)
class Recipe:
    """All settings of a run; each stage reads its sections and nothing else."""

    name: str
    data: Data
    input: InputSpec
    codec: CodecChoice
    model: Model
    train: Train
    augment: Augment = field(default_factory=Augment)
    optimize: tuple[Step, ...] = ()
    export: Export = Export()
    eval: Eval = Eval()
    gate: Gate = Gate()
    search: Search = field(default_factory=Search)
    second: SecondTask | None = None

    @property
    def run_folder(self) -> Path:
        return Path("runs") / self.name

    def for_each_task(self, do: Callable[[Recipe], T]) -> list[T]:
        """What ``do`` makes of this recipe and, where there is a second task, of the recipe that would train it alone.

        Raises:
            RecipeError: As of ``do``; of the second task, with its name.
        """
        results = [do(self)]
        if self.second:
            try:
                results.append(do(self._alone(self.second)))
            except RecipeError as error:
                raise RecipeError(f"second task '{self.second.name}': {error}") from error
        return results

    def _alone(self, task: SecondTask) -> Recipe:
        model = replace(self.model, head=task.head, head_options=task.head_options, visibility=False)
        return Recipe(f"{self.name}/{task.name}", task.data, task.input or self.input, task.codec, model,
                      replace(self.train, loss=task.loss, keypoint_weights=()), task.augment, export=self.export,
                      eval=Eval(task.metric))

    def build_codec(self) -> Codec | SceneCodec:
        return self.contract().codec

    def contract(self) -> AnyContract:
        return make_contract(self.input, self.codec.name, self.codec.options, skeleton_named(self.data.skeleton),
                             self.model.visibility)
