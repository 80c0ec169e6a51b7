"""What the tests of all importers share: a skeleton of one's own, images, and the command itself."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from edgekp.cli import run
from edgekp.coco import Labels, read_coco
from edgekp.importers.command import add_to
from edgekp.skeletons import skeleton_named

BUG = """
name = "bug"
keypoints = ["head", "left_wing", "right_wing", "tail"]
limbs = [["head", "tail"]]
flip_pairs = [["left_wing", "right_wing"]]
sigmas = [0.03, 0.05, 0.05, 0.04]
"""
WIDTH, HEIGHT = 120, 90


@dataclass(frozen=True)
class Imported:
    """What a run wrote and said; ``labels`` is the written file, read again as a stage would."""

    document: dict[str, Any]
    labels: Labels
    stdout: str
    stderr: str

    @property
    def triplets(self) -> np.ndarray:
        """(N, K, 3) x, y, v of all instances."""
        return np.array([entry["keypoints"] for entry in self.document["annotations"]]).reshape(
            len(self.document["annotations"]), -1, 3)


Command = Callable[..., int]
Import = Callable[..., Imported]
Refusal = Callable[..., str]


@pytest.fixture
def bug(tmp_path: Path) -> str:
    """File of a skeleton with four keypoints: head, left_wing, right_wing, tail."""
    path = tmp_path / "bug.toml"
    path.write_text(BUG)
    return str(path)


@pytest.fixture
def draw_image() -> Callable[..., Path]:
    """Writes an image of 120 x 90 pixels, or of another size."""
    def draw(path: Path, width: int = WIDTH, height: int = HEIGHT) -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        assert cv2.imwrite(str(path), np.zeros((height, width, 3), np.uint8))
        return path

    return draw


@pytest.fixture
def command() -> Command:
    """``edgekp import WORDS``; the exit code."""
    def call(*words: object) -> int:
        parser = argparse.ArgumentParser(prog="edgekp")
        add_to(parser.add_subparsers(required=True))
        return run(lambda arguments: int(arguments.command(arguments)), parser, ["import", *map(str, words)])

    return call


@pytest.fixture
def import_labels(tmp_path: Path, command: Command, capsys: pytest.CaptureFixture[str]) -> Import:
    """Imports to out.json and reads that with ``read_coco``; ``skeleton`` is what the labels should be of."""
    def call(*words: object, skeleton: str, images: Path | None = None) -> Imported:
        capsys.readouterr()
        code, out = command(*words, "--out", tmp_path / "out.json"), capsys.readouterr()
        assert code == 0, out.err
        document = json.loads((tmp_path / "out.json").read_text())
        labels = read_coco(tmp_path / "out.json", skeleton_named(skeleton), images)
        assert all(Path(image.path).is_file() for image in labels.images)
        assert len(labels.instances) == len(document["annotations"])
        return Imported(document, labels, out.out, out.err)

    return call


@pytest.fixture
def refusal(tmp_path: Path, command: Command, capsys: pytest.CaptureFixture[str]) -> Refusal:
    """The one line that an import is refused with; nothing is written."""
    def call(*words: object) -> str:
        capsys.readouterr()
        code, out = command(*words, "--out", tmp_path / "out.json"), capsys.readouterr()
        assert code == 2
        assert out.out == ""
        assert out.err.count("\n") == 1, out.err
        assert not (tmp_path / "out.json").exists()
        return out.err

    return call
