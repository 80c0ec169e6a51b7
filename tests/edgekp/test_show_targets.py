"""``edgekp show targets``: what is drawn lies where the labels say, for every codec."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from edgekp.codecs import CODECS, SCENE_CODECS, build_codec, build_scene_codec
from edgekp.errors import EdgekpError
from edgekp.preprocess import InputSpec
from edgekp.sample import Float, Image
from edgekp.show_command import add_to
from edgekp.show_targets import DECODED_RGB, DROPPED_RGB, HIDDEN_RGB, VISIBLE_RGB, View, panels
from edgekp.skeletons import COCO17, OPENPOSE18, openpose_from_coco

HW = (128, 96)


def view(keypoints_xy: Float, visibility: int = 2) -> View:
    """One person in front of grey."""
    return View(np.full((*HW, 3), 90, np.uint8), keypoints_xy[None], np.full((1, len(keypoints_xy)), visibility))


@pytest.fixture
def keypoints_xy(rng: np.random.Generator) -> Float:
    return rng.uniform((20, 20), (75, 107), (17, 2)).round()


def has_color(pixels: Image, xy: Float, color: tuple[int, int, int]) -> bool:
    return bool((pixels[int(xy[1]), int(xy[0])] == color).all())


@pytest.mark.parametrize(("visibility", "color"), [(2, VISIBLE_RGB), (1, HIDDEN_RGB)])
def test_labels_are_drawn_where_they_are_in_the_color_of_their_visibility(
        keypoints_xy: Float, visibility: int, color: tuple[int, int, int]) -> None:
    first = panels(view(keypoints_xy, visibility), build_codec("heatmap", HW, {}), COCO17)[0]
    assert all(has_color(first.pixels, xy, color) for xy in keypoints_xy)
    assert first.caption == "17 keypoints"


def test_a_keypoint_that_leaves_nothing_to_learn_is_counted_and_of_another_color(keypoints_xy: Float) -> None:
    codec = build_codec("heatmap", HW, {"stride": 2, "sigma": 0.5})
    keypoints_xy[3] = (95.4 + 3.9, 60)  # 1.5 cells outside, where 3 sigma have ended; its dot still reaches in
    first = panels(view(keypoints_xy), codec, COCO17)[0]
    assert first.caption == "16 keypoints, 1 out of reach"
    assert (first.pixels == DROPPED_RGB).all(-1).sum() == 0  # wholly outside of what is shown
    keypoints_xy[3] = (95.4 + 3.2, 60)
    assert panels(view(keypoints_xy), codec, COCO17)[0].caption.startswith("16 keypoints, 1")


@pytest.mark.parametrize("name", sorted(CODECS))
def test_what_every_codec_decodes_again_lies_on_the_labels(keypoints_xy: Float, name: str) -> None:
    shown = panels(view(keypoints_xy), build_codec(name, HW, {}), COCO17)
    assert shown[-1].caption == "decoded again"
    assert all((shown[-1].pixels[y - 3:y + 4, x - 3:x + 4] == DECODED_RGB).all(-1).any()
               for x, y in keypoints_xy.astype(int).tolist())
    assert all(panel.pixels.shape == (*HW, 3) for panel in shown)


def test_the_map_is_reddest_at_the_keypoint_and_blue_far_away() -> None:
    lone = np.tile([[50.0, 60.0]], (17, 1))
    shown = {panel.caption: panel.pixels for panel in panels(view(lone), build_codec("heatmap", HW, {}), COCO17)}
    at_keypoint, far = shown["heatmaps"][60, 50].astype(int), shown["heatmaps"][10, 10].astype(int)
    assert at_keypoint[0] - at_keypoint[2] > 40  # red over blue
    assert far[2] - far[0] > 40


def test_offsets_point_towards_the_keypoint_from_both_sides() -> None:
    lone = np.tile([[50.0, 60.0]], (17, 1))
    shown = {panel.caption: panel.pixels for panel in panels(view(lone), build_codec("offset", HW, {}), COCO17)}
    left, right = (shown["offsets x"][60, x].astype(int) for x in (34, 66))
    assert left[0] > left[2]  # red: to the right
    assert right[2] > right[0]


def test_fields_run_from_the_first_keypoint_of_a_limb_to_its_second(rng: np.random.Generator) -> None:
    upright = np.full((1, 17, 2), 0.0)
    upright[0, [5, 6, 11, 12]] = [[60, 20], [60, 20], [60, 110], [60, 110]]  # shoulders above hips: neck to hip is down
    visibility = np.zeros((1, 17), np.int64)
    visibility[0, [5, 6, 11, 12]] = 2
    codec = build_scene_codec("openpose", HW, {})
    scene = View(np.full((*HW, 3), 90, np.uint8), *openpose_from_coco(upright, visibility))
    shown = {panel.caption: panel.pixels for panel in panels(scene, codec, OPENPOSE18)}
    middle = shown["PAFs y"][65, 60].astype(int)
    assert middle[0] > middle[2]  # red: down
    assert {"background", "PAFs x", "heatmaps"} < shown.keys()


@pytest.fixture
def labels(tmp_path: Path, rng: np.random.Generator) -> Path:
    """Three pictures of two people each."""
    images, annotations = [], []
    for number in range(1, 4):
        cv2.imwrite(str(tmp_path / f"{number}.jpg"), rng.integers(0, 255, (80, 100, 3), dtype=np.uint8))
        images.append({"id": number, "file_name": f"{number}.jpg", "width": 100, "height": 80})
        for person in range(2):
            xy = rng.uniform((10 + 40 * person, 10), (50 + 40 * person, 70), (17, 2))
            annotations.append({"id": 2 * number + person, "image_id": number, "category_id": 1, "area": 1000,
                                "bbox": [10 + 40 * person, 10, 40, 60],
                                "keypoints": np.column_stack([xy, np.full(17, 2)]).ravel().tolist()})
    path = tmp_path / "labels.json"
    category = {"id": 1, "name": "person", "keypoints": list(COCO17.keypoints)}
    path.write_text(json.dumps({"images": images, "annotations": annotations, "categories": [category]}))
    return path


def show(*words: str) -> int:
    parser = argparse.ArgumentParser()
    add_to(parser.add_subparsers())
    arguments = parser.parse_args(["show", "targets", *words])
    return int(arguments.command(arguments))


@pytest.mark.parametrize("codec", [*sorted(CODECS), *sorted(SCENE_CODECS)])
def test_the_command_writes_one_sheet_for_every_codec(labels: Path, tmp_path: Path, codec: str,
                                                      capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "sheets" / "targets.png"
    assert show("--data", str(labels), "--codec", codec, "--input", "64x64", "--count", "2", "--out", str(out)) == 0
    sheet = cv2.imread(str(out))
    said = capsys.readouterr().out
    people = 4 if codec in SCENE_CODECS else 2  # a scene shows all people of its picture
    assert said == f"{out}: {people} of 6 instances, {sheet.shape[1]} x {sheet.shape[0]} pixels\n"
    assert sheet.std() > 20


def test_options_reach_the_codec_and_a_recipe_can_give_them_all(labels: Path, tmp_path: Path,
                                                                repository: Path) -> None:
    sheets = []
    for number, words in enumerate((["--option", "sigma=1"], ["--option", "sigma=4"],
                                    ["--recipe", str(repository / "recipes/quickstart.toml")])):
        out = tmp_path / f"{number}.png"
        show("--data", str(labels), "--count", "1", "--out", str(out), *words)
        sheets.append(cv2.imread(str(out)))
    assert (sheets[0] != sheets[1]).any()
    assert sheets[2].shape[1] == sheets[0].shape[1]  # 128x96 and 256x192 have one aspect ratio


@pytest.mark.parametrize(("words", "message"), [
    (["--codec", "heatmpa"], "did you mean 'heatmap'"), (["--option", "sigma"], "expected KEY=VALUE"),
    (["--option", "sgima=1"], "did you mean 'sigma'"), (["--count", "0"], "expected 1 or more"),
    (["--skeleton", "lsp14"], "17 keypoints"), (["--data", "nowhere.json"], "no such file"),
])
def test_what_cannot_be_shown_is_refused_by_name(labels: Path, tmp_path: Path, words: list[str], message: str) -> None:
    with pytest.raises(EdgekpError, match=message):
        show("--data", str(labels), "--out", str(tmp_path / "out.png"), *words)
    assert not (tmp_path / "out.png").exists()


def test_openpose_is_made_from_cocos_keypoints_alone(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "1.png"), np.zeros((40, 40, 3), np.uint8))
    path = tmp_path / "faces.json"
    path.write_text(json.dumps({
        "images": [{"id": 1, "file_name": "1.png", "width": 40, "height": 40}], "categories": [],
        "annotations": [{"id": 1, "image_id": 1, "bbox": [5, 5, 30, 30], "area": 900, "keypoints": [20, 20, 2] * 68}]}))
    with pytest.raises(EdgekpError, match="17 keypoints of coco17, the labels have 68"):
        show("--data", str(path), "--skeleton", "ibug68", "--codec", "openpose", "--out", str(tmp_path / "out.png"))


def test_the_input_is_the_one_asked_for() -> None:
    with pytest.raises(SystemExit):
        show("--data", "x.json", "--out", "x.png", "--input", "256")
    assert InputSpec((64, 48)).input_hw == (64, 48)
