"""Names in files of others write on the terminal what they are, and do nothing else there."""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgekp.__main__ import main
from edgekp.printable import printable
from edgekp.stage import say

CLEARS, TITLES, FORGES = "\x1b[2J", "\x1b]0;title\x07", "a\nimport: all is well"


@given(st.text(st.characters(), max_size=20))
def test_any_text_becomes_one_line_without_a_control_character(text: str) -> None:
    told = printable(text)
    assert len(told.splitlines()) <= 1
    assert not {unicodedata.category(char) for char in told} & {"Cc", "Cf", "Cs", "Zl", "Zp"}
    assert printable(told) == told


@pytest.mark.parametrize("text", ["", "Füße", "骨格 左手首", "μύτη", "колено", "घुटना", "🦴.png", r"C:\new",
                                  "a 'b' \"c\" |"])
def test_what_can_be_read_stays_as_it_is(text: str) -> None:
    assert printable(text) == text


@pytest.mark.parametrize(("text", "told"), [
    (CLEARS, r"\x1b[2J"), (TITLES, r"\x1b]0;title\x07"), (FORGES, r"a\nimport: all is well"), ("a\rb", r"a\rb"),
    ("\x9b2J", r"\x9b2J"), ("gpj.\u202eexe", r"gpj.\u202eexe"), ("a\u2028b", r"a\u2028b"),
    ("s\udcff.png", r"s\udcff.png")])
def test_what_would_act_on_a_terminal_is_escaped(text: str, told: str) -> None:
    assert printable(text) == told


def test_progress_is_one_line_whatever_is_in_it(capsys: pytest.CaptureFixture[str]) -> None:
    say(f"import: left out: {CLEARS}{FORGES}")
    assert capsys.readouterr().err == "import: left out: \\x1b[2Ja\\nimport: all is well\n"


def labelme(folder: Path, path: str = "a.jpg", shape_type: str = "circle") -> list[str]:
    shapes = [{"shape_type": shape_type, "label": "x", "points": []},
              {"shape_type": "point", "label": "nose", "points": [[1, 1]]}]
    (folder / "a.json").write_text(json.dumps({"version": "5", "imagePath": path, "imageHeight": 4, "imageWidth": 4,
                                               "shapes": shapes}))
    return ["import", "labelme", str(folder), "--skeleton", "coco17", "--out", str(folder / "out.json")]


def coco(folder: Path, name: str = "a.json") -> str:
    (folder / name).write_text(json.dumps({"images": [], "annotations": [], "categories": [
        {"id": 1, "name": CLEARS + FORGES, "keypoints": [TITLES]}]}))
    return str(folder / name)


def recipe(folder: Path) -> list[str]:
    (folder / "a.toml").write_text(f"{json.dumps(CLEARS + FORGES)} = 1\n")
    return ["doctor", "data", "--recipe", str(folder / "a.toml"), str(folder / "a.json")]


@pytest.mark.parametrize("hostile", [
    lambda folder: labelme(folder, path=f"{TITLES}/../a.jpg"), lambda folder: labelme(folder, path=CLEARS),
    lambda folder: labelme(folder, shape_type=CLEARS + FORGES), recipe,
    lambda folder: ["show", "targets", "--data", coco(folder), "--codec", "heatmap", "--skeleton", "coco17", "--out",
                    str(folder / "out.png")],
    lambda folder: ["doctor", "data", coco(folder, f"{CLEARS}{TITLES}\nimport: b.json")]])
def test_no_command_passes_on_what_a_file_would_do_to_the_terminal(
        hostile: Callable[[Path], list[str]], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cv2.imwrite(str(tmp_path / "a.jpg"), np.zeros((4, 4, 3), np.uint8))
    main(hostile(tmp_path))
    told = capsys.readouterr()
    assert r"\x1b" in told.out + told.err
    assert (told.out + told.err).replace("\n", "").isprintable()
    assert "\nimport: all is well" not in told.out + told.err
    assert "\nimport: b.json" not in told.out + told.err
