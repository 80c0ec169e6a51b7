"""``edgekp import``: every format has help, bad arguments are one line, and a result replaces the last one whole."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from edgekp.importers import FORMATS
from edgekp.importers.command import OPTIONS
from edgekp.skeletons import SKELETONS


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_has_help(name: str, command: Any, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        command(name, "--help")
    assert ended.value.code == 0
    said = capsys.readouterr().out
    assert FORMATS[name].source.split()[0] in said
    assert ("--box-factor" in said) != FORMATS[name].has_boxes
    assert ("--skeleton" in said) != FORMATS[name].one_skeleton


def test_the_tables_fit_each_other() -> None:
    assert OPTIONS.keys() <= FORMATS.keys()
    assert {kind.skeleton for kind in FORMATS.values()} - {""} <= SKELETONS.keys()
    assert all(kind.skeleton for kind in FORMATS.values() if kind.one_skeleton)


@pytest.mark.parametrize("words", [
    ("labelme", "SRC", "--out", "x.json"),  # the skeleton is missing
    ("labelme", "SRC", "--skeleton", "coco17"),  # where to?
    ("dlib", "SRC", "--out", "x.json"),
    ("300w", "SRC", "--out", "x.json", "--box-factor", "0"),
    ("300w", "SRC", "--out", "x.json", "--box-factor", "much"),
    ("300w", "SRC", "--out", "x.json", "--first-pixel", "nan"),
    ("wflw", "SRC", "--out", "x.json", "--skeleton", "ibug68"),
    ("yolo-pose", "SRC", "--out", "x.json", "--class", "person"),
])
def test_bad_arguments_are_refused(command: Any, words: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        command(*words)
    assert ended.value.code == 2
    assert "usage:" in capsys.readouterr().err


@pytest.fixture
def face(tmp_path: Path, draw_image: Callable[..., Path]) -> Path:
    draw_image(tmp_path / "a.png")
    (tmp_path / "a.pts").write_text("\n".join(f"{x} {x % 7}" for x in range(1, 69)))
    return tmp_path


def test_an_unknown_skeleton_and_a_missing_source_are_one_line(face: Path, refusal: Any) -> None:
    assert "no skeleton 'ibug86'; did you mean 'ibug68'" in refusal("300w", face, "--skeleton", "ibug86")
    assert "no such file or folder" in refusal("300w", face / "nothing")
    assert "no such skeleton file" in refusal("300w", face, "--skeleton", face / "nothing.toml")


def test_what_is_said_goes_to_stderr_and_the_result_to_stdout(face: Path, import_labels: Any) -> None:
    result = import_labels("300w", face, skeleton="ibug68")
    assert result.stdout == f"{face / 'out.json'}: 1 images, 1 instances of 68 keypoints ('ibug68')\n"
    assert result.stderr == "import: 68 keypoints labelled, 0 of them hidden; 0 not; boxes: 1 from keypoints x 1\n"


@pytest.mark.parametrize(("name", "is_refused"), [("labelme", True), ("300w", False)])
def test_turned_images_matter_where_the_tool_turned_them(
        face: Path, bug: str, command: Any, name: str, is_refused: bool, capsys: pytest.CaptureFixture[str]) -> None:
    """EXIF orientation 6 in front of a JPEG's own segments: Labelme shows it upright, MATLAB does not."""
    jpeg = cv2.imencode(".jpg", np.zeros((90, 120, 3), np.uint8))[1].tobytes()
    exif = b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0"
    (face / "a.png").unlink()
    (face / "a.jpg").write_bytes(jpeg[:2] + b"\xff\xe1" + bytes([0, len(exif) + 2]) + exif + jpeg[2:])
    head = {"label": "head", "points": [[5, 5]], "shape_type": "point"}
    (face / "a.json").write_text(json.dumps({"imagePath": "a.jpg", "shapes": [head]}))
    skeleton = ["--skeleton", bug] if name == "labelme" else []
    assert command(name, face, *skeleton, "--out", face / "out/out.json") == (2 if is_refused else 0)
    assert ("is shown turned (EXIF orientation 6)" in capsys.readouterr().err) == is_refused


def test_a_refused_import_leaves_the_last_result(face: Path, command: Any) -> None:
    (face / "out.json").write_text("the last result")
    (face / "b.pts").write_text("1 2")
    assert command("300w", face, "--out", face / "out.json") == 2
    assert (face / "out.json").read_text() == "the last result"
    (face / "b.pts").unlink()
    assert command("300w", face, "--out", face / "out.json") == 0
    assert json.loads((face / "out.json").read_text())["info"] == {"format": "300w", "first_pixel": 1.0}
    assert [path.name for path in face.iterdir() if path.name.endswith(".tmp")] == []


def test_a_result_that_cannot_be_written_is_one_line(face: Path, command: Any,
                                                     capsys: pytest.CaptureFixture[str]) -> None:
    (face / "file").touch()
    assert command("300w", face, "--out", face / "file/out.json") == 2
    assert "cannot be written" in capsys.readouterr().err
    (face / "folder").mkdir()
    assert command("300w", face, "--out", face / "folder") == 2
    assert "cannot be written" in capsys.readouterr().err
