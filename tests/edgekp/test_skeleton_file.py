"""Skeletons from a TOML file: names become indices, gaps in the sigmas are filled and said, contradictions refused."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from edgekp.contract import contract_from_json
from edgekp.errors import RecipeError
from edgekp.recipe_file import load_recipe
from edgekp.skeleton_file import skeleton_digest
from edgekp.skeletons import COCO17, IBUG68, SKELETONS, Skeleton, skeleton_named
from tests import tiny
from train.__main__ import train_key

ARM = """
name = "arm5"
keypoints = ["left_hand", "right_hand", "left_wrist", "right_wrist", "belt"]
limbs = [["left_hand", "left_wrist"], ["right_hand", "right_wrist"]]
flip_pairs = [["left_hand", "right_hand"], ["right_wrist", "left_wrist"]]
sigmas = [0.02, 0.03, 0.04, 0.05, 0.06]
normaliser = ["left_hand", "belt"]
"""
SIGMAS = "sigmas = [0.02, 0.03, 0.04, 0.05, 0.06]"
COCO_WRIST, COCO_HIP = 0.062, 0.107


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "arm.toml"
    path.write_text(ARM)
    return path


def with_sigmas(path: Path, sigmas: str) -> Skeleton:
    path.write_text(ARM.replace(SIGMAS, sigmas))
    return skeleton_named(str(path))


def test_names_become_indices_in_the_order_of_the_keypoints(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert skeleton_named(str(path)) == Skeleton(
        "arm5", ("left_hand", "right_hand", "left_wrist", "right_wrist", "belt"), ((0, 2), (1, 3)), ((0, 1), (3, 2)),
        (0.02, 0.03, 0.04, 0.05, 0.06), (0, 4))
    assert capsys.readouterr().err == ""


def test_only_name_and_keypoints_are_required(tmp_path: Path) -> None:
    (tmp_path / "dot.toml").write_text('name = "dot"\nkeypoints = ["tip"]\n')
    assert skeleton_named(str(tmp_path / "dot.toml")) == Skeleton(
        "dot", ("tip",), (), (), (0.05,), None, estimated_sigmas=("tip",))


def test_a_path_is_taken_from_the_current_folder(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(path.parent)
    assert skeleton_named("arm.toml") == skeleton_named(str(path))


@pytest.mark.parametrize("skeleton", SKELETONS.values(), ids=lambda s: s.name)
def test_a_known_skeleton_written_as_a_file_is_itself(tmp_path: Path, skeleton: Skeleton) -> None:
    def named(pairs: tuple[tuple[int, int], ...]) -> str:
        return json.dumps([[skeleton.keypoints[a], skeleton.keypoints[b]] for a, b in pairs])

    lines = ['name = "mine"', f"keypoints = {json.dumps(skeleton.keypoints)}", f"limbs = {named(skeleton.limbs)}",
             f"flip_pairs = {named(skeleton.flip_pairs)}", f"sigmas = {json.dumps(skeleton.sigmas)}"]
    if skeleton.normaliser:
        lines.append(f"normaliser = {named((skeleton.normaliser,))[1:-1]}")
    (tmp_path / "mine.toml").write_text("\n".join(lines))
    assert replace(skeleton_named(str(tmp_path / "mine.toml")), name=skeleton.name) == skeleton


def test_sigmas_by_name_are_those_in_order(path: Path) -> None:
    listed = skeleton_named(str(path))
    table = "{ belt = 0.06, left_hand = 0.02, right_hand = 0.03, left_wrist = 0.04, right_wrist = 0.05 }"
    assert with_sigmas(path, f"sigmas = {table}") == listed


@pytest.mark.parametrize(("sigmas", "expected", "estimated", "said"), [
    ("", [0.062] * 5, ["left_hand", "right_hand", "left_wrist", "right_wrist", "belt"],
     "left_hand, right_hand, belt 0.062, the median of the others; left_wrist, right_wrist as in coco17"),
    ("sigmas = { left_wrist = 0.01 }", [0.01] * 5, ["left_hand", "right_hand", "right_wrist", "belt"],
     "left_hand, right_hand, belt 0.01, the median of the others; right_wrist as their flip partners"),
    ("sigmas = { left_hand = 0.1, right_wrist = 0.02 }", [0.1, 0.1, 0.02, 0.02, 0.06],
     ["right_hand", "left_wrist", "belt"],
     "right_hand, left_wrist as their flip partners; belt 0.06, the median of the others"),
])
def test_missing_sigmas_come_from_the_nearest_source_and_are_said(
        path: Path, capsys: pytest.CaptureFixture[str], sigmas: str, expected: list[float], estimated: list[str],
        said: str) -> None:
    skeleton = with_sigmas(path, sigmas)
    np.testing.assert_allclose(skeleton.sigmas, expected, rtol=1e-12)
    assert skeleton.estimated_sigmas == tuple(estimated)
    assert capsys.readouterr().err == (
        f"{path}: sigmas estimated: {said}; OKS with them compares only with itself\n")


def test_a_partner_of_a_known_name_takes_its_sigma(tmp_path: Path) -> None:
    (tmp_path / "odd.toml").write_text('name = "odd"\nkeypoints = ["left_hip", "hip_of_the_other_side", "tail"]\n'
                                       'flip_pairs = [["hip_of_the_other_side", "left_hip"]]\nsigmas = {tail = 0.5}')
    skeleton = skeleton_named(str(tmp_path / "odd.toml"))
    assert skeleton.sigmas == (COCO_HIP, COCO_HIP, 0.5)
    assert skeleton.estimated_sigmas == ("left_hip", "hip_of_the_other_side")


def test_where_nothing_is_known_all_get_the_same(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "new.toml").write_text('name = "new"\nkeypoints = ["a", "b"]\n')
    assert skeleton_named(str(tmp_path / "new.toml")).sigmas == (0.05, 0.05)
    assert "a, b 0.05, as nothing is known" in capsys.readouterr().err


def test_estimates_are_said_once_and_again_after_a_change(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for _ in range(3):
        with_sigmas(path, "sigmas = { belt = 0.2 }")
    assert capsys.readouterr().err.count("sigmas estimated") == 1
    assert with_sigmas(path, "sigmas = { belt = 0.3 }").sigmas[-1] == 0.3
    assert capsys.readouterr().err.count("sigmas estimated") == 1


def test_the_record_of_estimates_survives_json_and_old_manifests_are_still_read(path: Path) -> None:
    skeleton = with_sigmas(path, "sigmas = { belt = 0.2 }")
    assert Skeleton.from_json(json.loads(json.dumps(skeleton.to_json()))) == skeleton
    for known in SKELETONS.values():
        assert "estimated_sigmas" not in known.to_json()
        assert Skeleton.from_json(known.to_json()) == known


def test_a_recipe_and_its_contract_take_the_file(path: Path, tmp_path: Path, repository: Path) -> None:
    recipe = load_recipe(repository / "recipes/quickstart.toml", [f"data.skeleton={path}", "codec.name=regression",
                                                                  "codec.options={}"])
    contract = recipe.contract()
    assert contract.skeleton.keypoints[-1] == "belt"
    assert contract_from_json(json.loads(json.dumps(contract.to_json()))) == contract


def test_the_digest_follows_the_content_and_a_known_skeleton_has_none(path: Path) -> None:
    before = skeleton_digest(str(path))
    assert list(before) == [str(path)]
    path.write_text(ARM.replace("0.02", "0.021"))
    assert skeleton_digest(str(path)) != before
    assert skeleton_digest("coco17") == {}


def test_the_keys_of_the_stages_follow_the_file(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = tiny.recipe()
    recipe = replace(recipe, data=replace(recipe.data, skeleton=str(path)))
    monkeypatch.setenv("EDGEKP_DATA", str(path.parent))
    (path.parent / "train.json").write_text('{"images": []}')
    before = train_key(recipe).to_json()
    path.write_text(ARM + "# a thought\n")
    after = train_key(recipe).to_json()
    assert {name for name in before["inputs"] if before["inputs"][name] != after["inputs"][name]} == {str(path)}


BAD = {
    "unknown key": ("limbs =", "limb =", "no key 'limb'; did you mean 'limbs'"),
    "no name": ('name = "arm5"', "", "expected a name"),
    "name of a known skeleton": ("arm5", "coco17", "'coco17' is a known skeleton"),
    "empty name": ('"arm5"', '""', "expected a name"),
    "empty keypoint": ('"belt"]', '""]', "none of them empty"),
    "a name twice": ('"belt"]', '"left_hand"]', r"keypoints: 'left_hand' occurs twice"),
    "keypoint a number": ('"belt"]', "5]", r"keypoints\[4\]: 5, expected str"),
    "unknown limb": ('["left_hand", "left_wrist"]', '["left_hand", "left_wirst"]',
                     r"limbs: no keypoint 'left_wirst'; did you mean 'left_wrist'"),
    "limb to itself": ('["left_hand", "left_wrist"]', '["belt", "belt"]', r"limbs: joins 'belt' to itself"),
    "limb of three": ('["left_hand", "left_wrist"]', '["belt", "left_hand", "left_wrist"]', "expected 2 values"),
    "limb of indices": ('["left_hand", "left_wrist"]', "[0, 2]", r"limbs\[0\]\[0\]: 0, expected str"),
    "unknown flip partner": ('["right_wrist", "left_wrist"]]', '["right", "left_wrist"]]',
                             "flip_pairs: no keypoint 'right'"),
    "keypoint in two flip pairs": ('["right_wrist", "left_wrist"]', '["right_wrist", "left_hand"]',
                                   r"flip_pairs: 'left_hand' occurs twice"),
    "flip pair with itself": ('["right_wrist", "left_wrist"]', '["belt", "belt"]', r"flip_pairs: 'belt' occurs twice"),
    "unknown normaliser": ('"left_hand", "belt"]\n', '"left_hand", "bell"]\n', r"normaliser: .*did you mean 'belt'"),
    "normaliser of one": ('"left_hand", "belt"]\n', '"belt", "belt"]\n', r"normaliser: joins 'belt' to itself"),
    "too few sigmas": (", 0.06]", "]", r"sigmas: 4 for 5 keypoints"),
    "sigma of a stranger": (SIGMAS, "sigmas = {bell = 0.1}", r"sigmas: no keypoint 'bell'; did you mean 'belt'"),
    "sigma 0": ("0.06]", "0]", r"sigmas\.belt: 0, expected a number above 0"),
    "sigma below 0": ("0.06]", "-0.1]", r"sigmas\.belt: -0\.1, expected"),
    "sigma NaN": ("0.06]", "nan]", r"sigmas\.belt: nan, expected"),
    "sigma infinite": ("0.06]", "inf]", r"sigmas\.belt: inf, expected"),
    "sigma a word": ("0.06]", '"small"]', r"sigmas\.belt: 'small', expected"),
    "sigma true": ("0.06]", "true]", r"sigmas\.belt: True, expected"),
    "sigmas a number": (SIGMAS, "sigmas = 0.1", r"sigmas: 0\.1, expected a table"),
    "broken TOML": ("limbs =", "limbs", "not a TOML file"),
    "no keypoints": ('keypoints = ["left_hand", "right_hand", "left_wrist", "right_wrist", "belt"]', "keypoints = []",
                     "sigmas: 5 for 0 keypoints"),
}


@pytest.mark.parametrize(("old", "new", "message"), BAD.values(), ids=BAD.keys())
def test_a_file_with_a_mistake_is_refused_by_its_place(path: Path, old: str, new: str, message: str) -> None:
    assert old in ARM
    path.write_text(ARM.replace(old, new, 1))
    with pytest.raises(RecipeError, match=message) as caught:
        skeleton_named(str(path))
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)


def test_a_skeleton_without_keypoints_is_refused(tmp_path: Path) -> None:
    (tmp_path / "none.toml").write_text('name = "none"\nkeypoints = []\n')
    with pytest.raises(RecipeError, match="at least one keypoint"):
        skeleton_named(str(tmp_path / "none.toml"))


def test_a_missing_file_and_a_folder_are_refused(tmp_path: Path) -> None:
    (tmp_path / "folder.toml").mkdir()
    for name in ("folder.toml", "nothing.toml"):
        with pytest.raises(RecipeError, match=rf"{re.escape(name)}: no such skeleton file"):
            skeleton_named(str(tmp_path / name))


def test_same_names_elsewhere_take_the_first_skeletons_sigma() -> None:
    """coco17 comes first: its sigmas were measured, those of lsp14 and wflw98 were taken over from others."""
    assert next(iter(SKELETONS)) == "coco17"
    assert COCO17.sigmas[COCO17.keypoints.index("left_wrist")] == COCO_WRIST
    assert list(SKELETONS).index("ibug68") < list(SKELETONS).index("wflw98")
    assert IBUG68.sigmas[0] == 0.042


def test_the_example_of_the_documentation_is_read_and_says_what_it_promises(
        tmp_path: Path, repository: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    text = (repository / "docs/import.md").read_text(encoding="utf-8")
    example, = re.findall(r"^```toml\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    promised, = re.findall(r"^```text\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    (tmp_path / "my").mkdir()
    (tmp_path / "my/face5.toml").write_text(example)
    monkeypatch.chdir(tmp_path)
    assert skeleton_named("my/face5.toml").flip_order.tolist() == [1, 0, 2, 4, 3]
    assert capsys.readouterr().err == promised
