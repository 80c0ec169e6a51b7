"""Arms: the trainings that claims compare, each a small base recipe plus the change that a claim is about.

Arms that a claim compares differ in that change alone; the same seed gives both the same pictures in the same order.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from edgekp.preprocess import InputSpec
from edgekp.recipe import CodecChoice, Data, Model, Recipe
from edgekp.recipe_augment import Augment
from edgekp.recipe_train import Train

SIGMA, LARGE_SIGMA = 1.0, 2.5  # cells of 4 input pixels; HRNet's 2 cells of 64 rows would be 0.75 of these 24
SECOND_SHARE = 0.3
ONE_CELL_SIGMA = 0.3  # of codec msra, which cuts off at 3 sigma: the target is 1 in one cell and 0 elsewhere

BACKBONE = {"width": 16, "output_stride": 16}
NECK = {"channels": 32}
PLAIN_NECK = {"channels": 32, "upsample": "bilinear"}  # the same without the finer maps
PEOPLE = Recipe("people", Data("coco17"), InputSpec((96, 64)), CodecChoice("heatmap", {"sigma": SIGMA}),
                Model("resnet", options=BACKBONE, neck="fpn", neck_options=NECK),
                Train(epochs=10, lr=3e-3, warmup_steps=50, ema_decay=0.99, workers=0),
                Augment(rotate_deg=15, scale=(0.8, 1.2)))
FACES = replace(PEOPLE, name="faces", data=Data("ibug68"), input=InputSpec((64, 64)),
                train=replace(PEOPLE.train, epochs=25), augment=Augment(rotate_deg=20, scale=(0.85, 1.2), shift=0.08))


@dataclass(frozen=True)
class Arm:
    """One training.

    Attributes:
        recipe: all of it but the data and the seed.
        train_set: name in SETS; its training split is learnt from.
        epoch_s: seconds of an epoch on one core of the machine of docs/claims.md, for the estimate.
        second: what is learnt beside it on the same backbone, with SECOND_SHARE of the loss.
    """

    name: str
    recipe: Recipe
    train_set: str
    epoch_s: float
    second: Arm | None = None

    @property
    def train_sets(self) -> tuple[str, ...]:
        """What is learnt from: a set a task."""
        return (self.train_set, *(self.second.train_sets if self.second else ()))

    def seconds(self, share: float = 1.0) -> float:
        """What one seed takes, about."""
        return self.seeded(0, share).train.epochs * self.epoch_s

    def seeded(self, seed: int, share: float = 1.0) -> Recipe:
        """The recipe of one seed, with a share of the epochs and at least one."""
        epochs = max(1, round(share * self.recipe.train.epochs))
        return replace(self.recipe, name=self.name, train=replace(self.recipe.train, seed=seed, epochs=epochs))


def _people(name: str, train_set: str = "people", **changes: Any) -> Arm:
    return Arm(name, replace(PEOPLE, **changes), train_set, epoch_s=6.0)


def _faces(name: str, train_set: str = "faces", **changes: Any) -> Arm:
    return Arm(name, replace(FACES, **changes), train_set, epoch_s=2.5)


def _attention(kind: str) -> Model:
    return replace(PEOPLE.model, options=BACKBONE | {"attention": kind})


def _sigma(cells: float) -> CodecChoice:
    return CodecChoice("heatmap", {"sigma": cells})


def _direct(base: Recipe, loss: str) -> dict[str, Any]:
    """What makes a network say coordinates: the paper's head on the same backbone."""
    return {"codec": CodecChoice("regression"), "train": replace(base.train, loss=loss),
            "model": Model("resnet", "gdconv", options=BACKBONE)}


# Two tasks that may share a network, alone and together: one input size, one kind of head, 62 steps an epoch of people
# and 31 one of faces, so that all three take the same number of steps.
BODIES = _people("bodies-alone", input=FACES.input, **_direct(PEOPLE, "wing"))
FACES_ALONE = _faces("faces-alone", **_direct(replace(FACES, train=replace(FACES.train, epochs=20)), "wing"))
TOGETHER = replace(BODIES, name="bodies-and-faces", epoch_s=10.0, second=FACES_ALONE)

ARMS = {arm.name: arm for arm in (
    _people("people"),
    _people("people-direct", **_direct(PEOPLE, "wing")),
    _people("people-offset", codec=CodecChoice("offset", {"sigma": SIGMA}),
            train=replace(PEOPLE.train, loss="heatmap_offset")),
    _people("people-one-cell", codec=CodecChoice("msra", {"sigma": ONE_CELL_SIGMA})),
    _people("people-se", model=_attention("se")),
    _people("people-cbam", model=_attention("cbam")),
    _people("people-half-body", augment=replace(PEOPLE.augment, half_body_p=0.3)),
    _people("small-fpn", "small people"),
    _people("small-plain", "small people", model=replace(PEOPLE.model, neck="deconv", neck_options=PLAIN_NECK)),
    _faces("faces-small-sigma", codec=_sigma(SIGMA)),
    _faces("faces-large-sigma", codec=_sigma(LARGE_SIGMA)),
    _faces("fuzzy-small-sigma", "fuzzy faces", codec=_sigma(SIGMA)),
    _faces("fuzzy-large-sigma", "fuzzy faces", codec=_sigma(LARGE_SIGMA)),
    _faces("faces-wing", **_direct(FACES, "wing")),
    _faces("faces-mse", **_direct(FACES, "mse")),
    BODIES, FACES_ALONE, TOGETHER,
)}
