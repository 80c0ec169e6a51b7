"""``edgekp doctor data``: what it prints and writes, and its exit codes."""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import pytest

from edgekp.cli import run
from edgekp.doctor.command import add_to
from tests.edgekp.doctor.healthy import Case
from tests.edgekp.doctor.planted import FAULTS, person

Doctor = Callable[..., int]


@pytest.fixture
def doctor(case: Case) -> Doctor:
    """Runs the command on the files of the case, written first."""
    def command(*arguments: object, files: tuple[str, ...] = ("train", "val")) -> int:
        parser = argparse.ArgumentParser(prog="edgekp")
        add_to(parser.add_subparsers(required=True))
        for name in ("train", "val"):
            (case.folder / f"{name}.json").write_text(json.dumps(getattr(case, name)))
        words = [case.folder / f"{name}.json" for name in files] + list(arguments)
        return run(lambda parsed: int(parsed.command(parsed)), parser, ["doctor", "data", *map(str, words)])
    return command


def plant(case: Case, *names: str) -> None:
    for name in names:
        FAULTS[name][1](case)


def test_a_healthy_set_exits_0_and_says_what_was_not_looked_at(doctor: Doctor,
                                                                capsys: pytest.CaptureFixture[str]) -> None:
    assert doctor() == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[:3] == ["train.json: 14 images, 14 annotations, 14 of them with keypoints, skeleton 'coco17'",
                         "val.json: 3 images, 3 annotations, 3 of them with keypoints, skeleton 'coco17'",
                         "not looked at: targets: name a --recipe or a --codec"]
    assert lines[-1] == "nothing found"


def test_with_pixels_and_codec_nothing_is_left_out(doctor: Doctor, capsys: pytest.CaptureFixture[str]) -> None:
    assert doctor("--codec", "heatmap") == 0
    assert "not looked at" not in capsys.readouterr().out
    assert doctor("--no-pixels") == 0
    assert capsys.readouterr().out.count("not looked at") == 2


def test_errors_exit_1_and_warnings_do_not(case: Case, doctor: Doctor) -> None:
    plant(case, "no num_keypoints", "images from 0")
    assert doctor() == 0
    plant(case, "area 0")
    assert doctor() == 1


def test_the_table_and_the_explanations(case: Case, doctor: Doctor, capsys: pytest.CaptureFixture[str]) -> None:
    plant(case, "area 0", "no num_keypoints")
    doctor()
    out = capsys.readouterr().out
    table = [line for line in out.splitlines() if re.match(r"(code|area-not-positive|num-keypoints)  ", line)]
    assert [line.index("annotation") for line in table[1:]] == [table[0].index("first") + len("train.json: ")] * 2
    assert "\narea-not-positive (error, 1): " in out
    assert ".94 to .87" in out
    assert out.endswith("1 error, 1 warning\n")


def test_records_for_scripts(case: Case, doctor: Doctor, tmp_path: Path) -> None:
    plant(case, "area 0", "images from 0")
    doctor("--json", tmp_path / "out" / "findings.json")
    records = json.loads((tmp_path / "out" / "findings.json").read_text(encoding="utf-8"))
    assert [(record["code"], record["severity"], record["count"], record["fixable"]) for record in records] == [
        ("area-not-positive", "error", 1, True), ("id-zero", "note", 1, True)]
    assert records[0]["examples"] == ["train.json: annotation 1: area 0"]


def test_a_mended_copy_is_healthy(case: Case, doctor: Doctor, capsys: pytest.CaptureFixture[str]) -> None:
    plant(case, "area 0", "unknown image", "limbs from 0", "position without label")
    assert doctor("--fix", case.folder / "mended.json", files=("train",)) == 1
    assert "limbs-zero-based: 1 mended" in capsys.readouterr().out
    assert doctor(files=("mended",)) == 0
    assert capsys.readouterr().out.endswith("nothing found\n")


def test_a_file_whose_name_is_no_text_is_looked_through_as_any_other(
        case: Case, doctor: Doctor, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plant(case, "area 0")
    (case.folder / "n\udcffm.json").write_text(json.dumps(case.train))
    assert doctor("--html", tmp_path / "p.html", "--json", tmp_path / "f.json", files=("n\udcffm",)) == 1
    for said in (capsys.readouterr().out, (tmp_path / "p.html").read_text(encoding="utf-8")):
        assert r"n\udcffm.json: annotation 1" in said
    assert json.loads((tmp_path / "f.json").read_text())[0]["examples"][0].startswith(r"n\udcffm.json: ")


@pytest.mark.parametrize("option", ["--fix", "--html", "--json"])
def test_what_is_looked_through_is_never_written_over(case: Case, doctor: Doctor, option: str,
                                                      capsys: pytest.CaptureFixture[str]) -> None:
    plant(case, "area 0")
    (case.folder / "link.json").symlink_to("train.json")
    for name in ("train.json", "link.json"):
        assert doctor(option, case.folder / name, files=("train",)) == 2
        assert "which stay as they are" in capsys.readouterr().err
    assert json.loads((case.folder / "train.json").read_text()) == case.train


def test_several_files_are_not_mended_into_one(case: Case, doctor: Doctor, capsys: pytest.CaptureFixture[str]) -> None:
    assert doctor("--fix", case.folder / "mended.json") == 2
    assert "one file at a time" in capsys.readouterr().err


@pytest.mark.parametrize(("arguments", "message"), [
    (["--codec", "heatmaps"], "did you mean 'heatmap'"), (["--codec", "heatmap", "--option", "sigma"], "KEY=VALUE"),
    (["--codec", "heatmap", "--option", "sigma=0"], "codec.sigma"),
    (["--option", "sigma=2"], "none is named"), (["--input", "64x64", "--recipe", "a.toml"], "none is named"),
    (["--codec", "heatmap", "--recipe", "a.toml"], "name one of them"), (["--skeleton", "coco18"], "coco17"),
    (["--recipe", "nowhere.toml"], "no such recipe")])
def test_what_cannot_run_exits_2_with_one_line(doctor: Doctor, capsys: pytest.CaptureFixture[str],
                                               arguments: list[str], message: str) -> None:
    assert doctor(*arguments) == 2
    error = capsys.readouterr().err
    assert message in error
    assert "Traceback" not in error


def test_what_cannot_be_written_exits_2(case: Case, doctor: Doctor, capsys: pytest.CaptureFixture[str]) -> None:
    assert doctor("--json", case.folder) == 2
    assert "cannot be written" in capsys.readouterr().err


def test_what_is_no_json_exits_2(case: Case, doctor: Doctor, capsys: pytest.CaptureFixture[str]) -> None:
    (case.folder / "broken.json").write_text('{"images": [')
    assert doctor(files=("train", "broken")) == 2
    assert "broken JSON at line 1" in capsys.readouterr().err


def test_a_recipe_brings_codec_input_and_skeleton(case: Case, doctor: Doctor, tmp_path: Path,
                                                  capsys: pytest.CaptureFixture[str]) -> None:
    recipe = tmp_path / "mine.toml"
    recipe.write_text("""
data = { skeleton = "coco17", drawn = { subject = "people" } }
input = { input_hw = [256, 192] }
codec = { name = "heatmap", options = { sigma = 9.0 } }
model = { backbone = "hrnet_lite" }
train = { epochs = 1 }
""")
    case.train["categories"][0]["keypoints"] = case.val["categories"][0]["keypoints"] = None
    assert doctor("--recipe", recipe) == 0
    out = capsys.readouterr().out
    assert "skeleton 'coco17'" in out
    assert "sigma 9 cells of 4 px = 36 px" in out


class Page(HTMLParser):
    """Tags and attributes of a page, and whether its tags are balanced."""

    EMPTY = ("meta", "img")

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in self.EMPTY:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def test_the_page_needs_no_other_file_and_runs_nothing(case: Case, doctor: Doctor, tmp_path: Path) -> None:
    plant(case, "area 0", "one person's shoulders", "a picture at another quality")
    case.train["images"][5]["file_name"] = "none.jpg"
    doctor("--html", tmp_path / "page.html")
    text = (tmp_path / "page.html").read_text(encoding="utf-8")
    page = Page(text)
    assert page.open == []
    assert {tag for tag, _ in page.tags}.isdisjoint({"script", "link", "iframe", "object"})
    assert not re.search(r"https?://", text)
    sources = [attributes["src"] or "" for tag, attributes in page.tags if tag == "img"]
    assert len(sources) == 1 + 1 + 2  # no area, exchanged shoulders, two pictures alike; the missing one is not drawn
    assert all(source.startswith("data:image/jpeg;base64,") for source in sources)
    assert all(attributes["alt"] for tag, attributes in page.tags if tag == "img")
    anchors = {attributes["id"] for _, attributes in page.tags if "id" in attributes}
    links = {(attributes["href"] or "")[1:] for tag, attributes in page.tags if tag == "a"}
    assert links == anchors
    assert len(links) == 4


def test_a_page_without_pixels_leaves_out_what_does_not_decode(case: Case, doctor: Doctor, tmp_path: Path) -> None:
    plant(case, "area 0", "cut off")
    person(case, 1)["area"] = 0
    doctor("--no-pixels", "--html", tmp_path / "page.html")
    assert (tmp_path / "page.html").read_text(encoding="utf-8").count("<img") == 1


def test_hostile_names_stay_text(case: Case, doctor: Doctor, tmp_path: Path) -> None:
    case.train["images"][0]["file_name"] = case.train["categories"][0]["name"] = '"><script>alert(1)</script>'
    doctor("--html", tmp_path / "page.html")
    text = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert "<script" not in text
    assert "alert(1)" in Page(text).text
