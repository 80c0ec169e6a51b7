"""The label sets that arms learn from and are measured on; those that are made lie in runs/claims/data."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from benchmarks.claims.made_sets import Make, cut_behind_a_table, make_small, shake
from edgekp.atomic import sha256, write_file
from edgekp.data_folder import locate
from edgekp.json_file import read_labels
from edgekp.recipe import Drawn
from edgekp.stage import Key, run_stage
from train.drawn import write_dataset

VERSION = 1
ROOT = Path("runs/claims")
DRAWN = Drawn("people", train=2000, val=500)
FACES = "face_ibug68"
HINT = ("iBUG 300-W (ibug.doc.ic.ac.uk/resources/300-W) as COCO keypoints JSON; research use only. Without it, answer "
        "the claims on drawn people: --only C3,C4,C7,C8,C13,C18,C19,EMA,DARK")


@dataclass(frozen=True)
class Split:
    """A label file and the folder of its pictures."""

    labels: Path
    pictures: Path


@dataclass(frozen=True)
class Made:
    """A set made from another one.

    Attributes:
        draws: it has pictures of its own.
    """

    source: str
    make: Make
    draws: bool = True


MADE = {"small people": Made("people", make_small), "people behind a table": Made("people", cut_behind_a_table),
        "fuzzy faces": Made("faces", shake, draws=False)}
SETS = ("people", "faces", *MADE)


def split_of(name: str, split: str) -> Split:
    """One split of a set, made if it has to be.

    Raises:
        DataError: The faces are the user's own and not there.
    """
    if name == "people":
        return _drawn(split)
    if name == "faces":
        labels = locate(f"{FACES}/{split}.json", HINT)
        return Split(labels, labels.parent)
    made = MADE[name]
    source, folder = split_of(made.source, split), ROOT / "data" / f"{name.replace(' ', '-')}-{split}"

    def work(scratch: Path) -> None:
        document = made.make(read_labels(source.labels), source.pictures, scratch, split)
        write_file(scratch / "labels.json", json.dumps(document))

    run_stage(folder, Key(f"claims, {name}, {split}", VERSION, {}, {"labels": sha256(source.labels)}), work)
    return Split(folder / "labels.json", folder if made.draws else source.pictures)


def _drawn(split: str) -> Split:
    folder, key = ROOT / "data" / "people", Key("claims, people", VERSION, {"drawn": DRAWN}, {})
    run_stage(folder, key, lambda scratch: write_dataset(scratch, DRAWN))
    return Split(folder / f"{split}.json", folder)
