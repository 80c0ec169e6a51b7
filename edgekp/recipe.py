"""Recipes: one TOML file with every setting of a run, read strictly into frozen dataclasses.

A key that no stage reads is refused with the nearest known one, so a typo never passes as a default.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field, fields
from math import inf
from pathlib import Path
from typing import Any, Literal

from edgekp.codecs import Codec, Regression, SimCC, build_codec
from edgekp.contract import Contract
from edgekp.errors import DataError, RecipeError
from edgekp.preprocess import InputSpec
from edgekp.skeletons import skeleton_named
from edgekp.strict import read_toml, require_above_zero, strict, toml_value


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
    """

    backbone: str
    head: str = ""
    options: dict[str, Any] = field(default_factory=dict)
    neck: str = ""
    neck_options: dict[str, Any] = field(default_factory=dict)
    head_options: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class CodecChoice:
    """Codec by name; ``options`` go to it and are checked by it."""

    name: str
    options: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Augment:
    """Random changes to a training sample, image and keypoints together.

    Attributes:
        scale: smallest and largest size of the crop relative to the box, 1 is the box with its padding.
        rotate_deg: largest rotation to either side; ``rotate_p`` is how often.
        shift: largest movement of the crop, as a fraction of it.
        color: largest change of brightness and of each channel's gain, as a fraction.
        blur_p, gray_p: how often the crop is blurred or made grey.
        noise_p: how often noise of ``noise_sigma``, a fraction of 255, is added.
        cutout_p: how often the crop is hidden behind a rectangle.
        occluder_p: how often a keypoint is hidden behind a polygon with a texture.
        half_body_p: how often the upper or the lower body is shown alone, where enough of it is labelled.
        multi_scale: sizes of the input relative to ``input.input_hw``, one of which is drawn for each step; for codecs
            of maps, whose heads take inputs of any size.
    """

    flip_p: float = 0.5
    scale: tuple[float, float] = (0.75, 1.3)
    rotate_deg: float = 40.0
    rotate_p: float = 0.6
    shift: float = 0.05
    color: float = 0.3
    blur_p: float = 0.1
    gray_p: float = 0.1
    noise_p: float = 0.0
    noise_sigma: float = 0.01
    cutout_p: float = 0.2
    occluder_p: float = 0.0
    half_body_p: float = 0.0
    multi_scale: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        for entry in fields(self):
            value = getattr(self, entry.name)
            if entry.name.endswith("_p") and not 0 <= value <= 1:
                raise RecipeError(f"augment.{entry.name}: {value}, expected a probability from 0 to 1")
        smallest, largest = self.scale
        if not 0 < smallest <= largest < inf:
            raise RecipeError(f"augment.scale: {list(self.scale)}, expected the smallest size of the crop, above 0, "
                              "and the largest; 1 is the box with its padding")
        for name, limit in (("rotate_deg", 180), ("shift", 1), ("color", 1), ("noise_sigma", 1)):
            if not 0 <= getattr(self, name) <= limit:
                raise RecipeError(f"augment.{name}: {getattr(self, name)}, expected 0 to {limit}")
        if not all(0.5 <= factor <= 2 for factor in self.multi_scale):
            raise RecipeError(f"augment.multi_scale: {list(self.multi_scale)}, expected factors from 0.5 to 2")


@dataclass(frozen=True)
class Train:
    """One run of gradient descent (AdamW, linear warm-up, cosine to zero, averaged weights).

    Attributes:
        loss: must fit the codec; another one is refused with those that fit.
    """

    epochs: int
    batch: int = 32
    lr: float = 2e-3
    weight_decay: float = 1e-2
    warmup_steps: int = 200
    ema_decay: float = 0.998
    clip_norm: float = 5.0
    loss: str = "mse"
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    workers: int = 2
    validate_every: int = 5
    seed: int = 0

    def __post_init__(self) -> None:
        require_above_zero("train", self, "epochs", "batch", "lr", "clip_norm", "validate_every")
        if self.workers < 0:
            raise RecipeError(f"train.workers: {self.workers}, expected 0 or more")


@dataclass(frozen=True)
class Prune:
    """Remove whole channels by dependency groups, then train on to recover."""

    method: Literal["prune"]
    macs_reduction: float = 0.3
    importance: Literal["l1", "l2", "bn_scale", "random"] = "l2"
    round_to: int = 8
    epochs: int = 5
    lr: float = 1e-3

    def __post_init__(self) -> None:
        require_above_zero("optimize.prune", self, "round_to", "epochs", "lr")
        if not 0 < self.macs_reduction < 1:
            raise RecipeError(f"optimize.prune.macs_reduction: {self.macs_reduction}, expected a share between 0 and 1")


@dataclass(frozen=True)
class Distill:
    """Train the current model on what a teacher says, mixed with the labels.

    Attributes:
        teacher: ``float`` for the baseline of this run, or the folder of any checkpoint with the same contract.
        weight: share of the teacher in the loss, 0 to 1.
    """

    method: Literal["distill"]
    teacher: str = "float"
    weight: float = 0.5
    epochs: int = 5
    lr: float = 1e-3

    def __post_init__(self) -> None:
        require_above_zero("optimize.distill", self, "epochs", "lr")
        if not 0 <= self.weight <= 1:
            raise RecipeError(f"optimize.distill.weight: {self.weight}, expected a share from 0 to 1")


@dataclass(frozen=True)
class Quantize:
    """INT8 weights (per channel) and activations (per tensor), symmetric, from training images only.

    Attributes:
        keep_float: modules that stay in float, by name; ``head.output`` is the last convolution.
    """

    method: Literal["quantize"]
    observer: Literal["minmax", "percentile", "mse"] = "mse"
    images: int = 256
    keep_float: tuple[str, ...] = ("head.output",)


Step = Prune | Distill | Quantize


@dataclass(frozen=True)
class Export:
    """How checkpoints become files."""

    opset: int = 17

    def __post_init__(self) -> None:
        if not 13 <= self.opset <= 20:
            raise RecipeError(f"export.opset: {self.opset}, expected 13 (scales per channel) to 20")


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
class Recipe:
    """All settings of a run; each stage reads its sections and nothing else."""

    name: str
    data: Data
    input: InputSpec
    codec: CodecChoice
    model: Model
    train: Train
    augment: Augment = Augment()
    optimize: tuple[Step, ...] = ()
    export: Export = Export()
    eval: Eval = Eval()
    gate: Gate = Gate()

    @property
    def run_folder(self) -> Path:
        return Path("runs") / self.name

    def build_codec(self) -> Codec:
        return build_codec(self.codec.name, self.input.input_hw, self.codec.options)

    def contract(self) -> Contract:
        return Contract(self.input, self.build_codec(), skeleton_named(self.data.skeleton))


def load_recipe(path: Path, overrides: list[str] | None = None) -> Recipe:
    """Read a recipe and apply ``section.key=value`` overrides.

    Raises:
        RecipeError: No such file, broken TOML, an unknown key, or a value of the wrong type.
    """
    table = read_toml(path)
    for override in overrides or []:
        _override(table, override)
    table.setdefault("name", path.stem)
    recipe = strict(Recipe, table, "")
    contract = recipe.contract()  # codec options and the skeleton's name are checked before any stage runs
    if recipe.eval.metric == "nme" and contract.skeleton.normaliser is None:
        raise RecipeError(f"{path}: eval.metric: 'nme' needs a skeleton with a normaliser, "
                          f"'{contract.skeleton.name}' has none; use oks_ap or pck")
    _check_augment(path, recipe.augment, contract)
    if not (recipe.data.drawn or (recipe.data.train and recipe.data.val)):
        raise RecipeError(f"{path}: data: expected either [data.drawn] or both [[data.train]] and [[data.val]]")
    return recipe


def _check_augment(path: Path, augment: Augment, contract: Contract) -> None:
    """Refuse what the skeleton or the codec has no use for."""
    if augment.half_body_p and not contract.skeleton.lower_body.any():
        raise RecipeError(f"{path}: augment.half_body_p: {augment.half_body_p}, but skeleton "
                          f"'{contract.skeleton.name}' is no body; leave it out")
    if augment.multi_scale and isinstance(contract.codec, (Regression, SimCC)):
        raise RecipeError(f"{path}: augment.multi_scale: {list(augment.multi_scale)}, but heads that say "
                          f"{list(contract.codec.outputs)} take inputs of one size; leave it out")


def data_root() -> Path:
    """The folder that label paths are relative to."""
    return Path(os.environ.get("EDGEKP_DATA", "../shared/data"))


def locate(name: str, hint: str = "") -> Path:
    """The file or folder of a label set, or a DataError that says where to put it."""
    path = data_root() / name
    if not path.exists():
        advice = f" {hint}" if hint else ""
        raise DataError(f"{path}: not there; set EDGEKP_DATA to the folder that holds '{name}'.{advice}")
    return path


def _override(table: dict[str, Any], text: str) -> None:
    """Apply ``a.b=c``; a step of [[optimize]] is addressed by its method, as in ``optimize.prune.epochs=3``."""
    name, separator, raw = text.partition("=")
    if not separator or not name:
        raise RecipeError(f"--set {text}: expected section.key=value")
    *path, key = name.split(".")
    place: Any = table
    for part in path:
        if isinstance(place, list):
            place = next((entry for entry in place if isinstance(entry, dict) and entry.get("method") == part), None)
        else:
            place = place.setdefault(part, {})
        if not isinstance(place, (dict, list)):
            raise RecipeError(f"--set {text}: there is no '{part}' in this recipe")
    if isinstance(place, list):
        raise RecipeError(f"--set {text}: name a step by its method, as in optimize.prune.epochs=3")
    place[key] = toml_value(raw)
