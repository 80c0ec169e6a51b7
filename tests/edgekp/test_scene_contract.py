"""The contract of networks of whole scenes: COCO's keypoints go in and come out, whatever the image's size."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgekp.artifact import boxed_contract, open_artifact, require_contract, verify_artifact, write_artifact
from edgekp.contract import Contract, SceneContract, contract_from_json, make_contract
from edgekp.errors import ArtifactError, RecipeError
from edgekp.golden import check_golden, make_golden
from edgekp.preprocess import InputSpec, frame_xywh, invert, transform
from edgekp.sample import Float, Image
from edgekp.skeletons import COCO17, LSP14, OPENPOSE18, coco_from_openpose, openpose_from_coco
from tests.edgekp.scenes import all_visible, scene

SPEC = InputSpec((368, 368), padding=1.0)
SCENE = make_contract(SPEC, "openpose", {}, COCO17)
assert isinstance(SCENE, SceneContract)


def coco_people(count: int, seed: int) -> Float:
    """(P, 17, 2) in input pixels of 368 x 368."""
    xy = scene(count, seed)
    return coco_from_openpose(xy, all_visible(xy))[0]


def maps_of(xy: Float) -> dict[str, Float]:
    return SCENE.encode(xy[None], all_visible(xy)[None], SPEC.input_hw).arrays


def test_what_openpose_adds_is_taken_off_again(rng: np.random.Generator) -> None:
    xy, visibility = rng.normal(size=(3, 17, 2)), rng.integers(0, 3, (3, 17))
    back_xy, back = coco_from_openpose(*openpose_from_coco(xy, visibility))
    np.testing.assert_array_equal(back_xy, xy)
    np.testing.assert_array_equal(back, visibility)


@pytest.mark.parametrize("image_hw", [(368, 368), (480, 640), (640, 427)])
def test_the_people_of_an_image_come_back_in_its_pixels_under_cocos_names(image_hw: tuple[int, int]) -> None:
    image: Image = np.zeros((*image_hw, 3), np.uint8)
    tensor, input_to_image = SCENE.prepare(image, frame_xywh(image))
    assert tensor.shape == (3, *SPEC.input_hw)
    in_input_xy = coco_people(3, seed=1)
    (people,) = SCENE.interpret(maps_of(in_input_xy), input_to_image[None])
    expected_xy = transform(in_input_xy, input_to_image)
    image_px_per_input_px = max(image_hw) / 368
    assert len(people) == 3
    for person in people:
        error_px = np.linalg.norm(person.keypoints_xy - expected_xy, axis=-1).mean(1).min()
        assert error_px < 0.5 * image_px_per_input_px  # the decoder's own tests ask for much less of clean maps
        assert (person.scores > 0.72).all()  # exp(-(4**2 + 4**2) / (2 * 7**2)): half a cell from the next centre


def test_the_whole_image_is_in_the_input_and_nothing_of_it_is_lost() -> None:
    image: Image = np.full((100, 200, 3), 255, np.uint8)
    _, input_to_image = SCENE.prepare(image, frame_xywh(image))
    corners_xy = np.array([[-0.5, -0.5], [199.5, 99.5]])
    in_input_xy = transform(corners_xy, invert(input_to_image))
    np.testing.assert_allclose(in_input_xy, [[-0.5, 91.5], [367.5, 275.5]])  # centred, from edge to edge


def test_a_keypoint_that_was_not_found_lies_amid_the_others_with_score_0() -> None:
    xy = coco_people(1, seed=2)
    visibility = all_visible(xy)
    visibility[0, COCO17.keypoints.index("left_ankle")] = 0
    maps = SCENE.encode(xy[None], visibility[None], SPEC.input_hw).arrays
    ((person,),) = SCENE.interpret(maps, np.eye(2, 3)[None])
    found = person.scores > 0
    assert [name for name, one in zip(COCO17.keypoints, found, strict=True) if not one] == ["left_ankle"]
    np.testing.assert_allclose(person.keypoints_xy[~found][0], person.keypoints_xy[found].mean(0))


def test_nobody_is_found_on_empty_maps() -> None:
    empty = {name: np.zeros_like(array) for name, array in maps_of(coco_people(1, 0)).items()}
    assert SCENE.interpret(empty, np.eye(2, 3)[None]) == [[]]


def test_the_contract_survives_json() -> None:
    assert contract_from_json(json.loads(json.dumps(SCENE.to_json()))) == SCENE
    assert isinstance(make_contract(SPEC, "heatmap", {}, COCO17), Contract)


def write_model(folder: Path, contract: SceneContract) -> Path:
    folder.mkdir()
    (folder / "model.bin").write_bytes(b"weights")
    write_artifact(folder, "checkpoint", contract, {"file": "model.bin"})
    return folder


def test_an_artifact_of_scenes_is_written_and_verified(tmp_path: Path) -> None:
    artifact = verify_artifact(write_model(tmp_path / "model", SCENE))
    assert artifact.contract == SCENE
    require_contract(artifact, SCENE, "make train")
    with pytest.raises(ArtifactError, match=r"codec\.stride: 8 there|codec\.stride: 4 here, 8 there"):
        require_contract(artifact, make_contract(SPEC, "openpose", {"stride": 4}, COCO17), "make train")


def test_the_golden_vectors_hold_people() -> None:
    scores = make_golden(SCENE)["scores"]
    assert scores.shape == (2, 17)  # the person, and the weaker echo that stands beside every golden target
    assert (scores > 0).all()


CHANGES: dict[str, Callable[[dict[str, Any]], Any]] = {
    "mean": lambda contract: contract["input"].update(mean=[0.0, 0.0, 0.0]),
    "color": lambda contract: contract["input"].update(color="BGR"),
    "resize": lambda contract: contract["input"].update(resize="nearest"),
    "align": lambda contract: contract["input"].update(align="corners"),
    "pad_value": lambda contract: contract["input"].update(pad_value=114),
    "stride": lambda contract: contract["codec"].update(stride=4),  # what decodes; the others are of the targets
}


@pytest.mark.parametrize("name", CHANGES)
def test_golden_vectors_catch_a_change_of(name: str) -> None:
    fields = json.loads(json.dumps(SCENE.to_json()))
    CHANGES[name](fields)
    assert check_golden(contract_from_json(fields), make_golden(SCENE))


def test_a_command_for_models_of_one_person_refuses_a_scene(tmp_path: Path) -> None:
    artifact = open_artifact(write_model(tmp_path / "model", SCENE))
    with pytest.raises(ArtifactError, match=r"is shown whole images, the waterfall is for models that are shown one"):
        boxed_contract(artifact, "the waterfall")


@pytest.mark.parametrize(("skeleton", "spec", "visibility", "message"), [
    (LSP14, SPEC, False, r"data\.skeleton: 'lsp14', but codec 'openpose' is made from the keypoints of 'coco17'"),
    (OPENPOSE18, SPEC, False, r"data\.skeleton: 'openpose18'"),
    (COCO17, InputSpec((368, 368)), False, r"input\.padding: 1\.25, .* set padding = 1\.0"),
    (COCO17, SPEC, True, r"model\.visibility: codec 'openpose' finds people in whole images"),
    (COCO17, InputSpec((100, 368), padding=1.0), False, "100")])
def test_what_a_scene_cannot_be_is_refused(skeleton: Any, spec: InputSpec, visibility: bool, message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        make_contract(spec, "openpose", {}, skeleton, visibility)
