"""Leeds Sports Pose: two joints.mat that say opposite things about visibility."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.io import savemat

N = 3
XY = np.random.default_rng(0).uniform(10, 80, (N, 14, 2))
MARKS = np.random.default_rng(1).integers(0, 2, (N, 14)).astype(float)


def original() -> np.ndarray:
    """(3, 14, N); a mark says hidden."""
    return np.concatenate([XY, MARKS[..., None]], axis=-1).transpose(2, 1, 0)


def extended() -> np.ndarray:
    """(14, 3, N); a mark says labelled."""
    xy = np.where(MARKS[..., None] > 0, XY, [-20.0, 0.0])
    return np.concatenate([xy, MARKS[..., None]], axis=-1).transpose(1, 2, 0)


@pytest.fixture
def source(tmp_path: Path, draw_image: Callable[..., Path]) -> Path:
    for number in range(1, N + 1):
        draw_image(tmp_path / f"lsp/images/im{number:04d}.jpg")
        draw_image(tmp_path / f"lsp/images/im{number:05d}.jpg")
    return tmp_path / "lsp/joints.mat"


def test_in_the_original_a_mark_is_hidden_and_every_joint_has_a_place(source: Path, import_labels: Any) -> None:
    savemat(source, {"joints": original()})
    result = import_labels("lsp", source, skeleton="lsp14")
    np.testing.assert_allclose(result.triplets[..., :2], XY - 1, rtol=0, atol=1e-6)
    np.testing.assert_array_equal(result.triplets[..., 2], np.where(MARKS > 0, 1, 2))
    assert [image["file_name"] for image in result.document["images"]] == [
        f"lsp/images/im000{number}.jpg" for number in (1, 2, 3)]


def test_in_the_extended_set_a_mark_is_labelled_and_others_have_no_place(source: Path, import_labels: Any) -> None:
    savemat(source, {"joints": extended()})
    result = import_labels("lsp", source, skeleton="lsp14")
    np.testing.assert_allclose(result.triplets[MARKS > 0, :2], (XY - 1)[MARKS > 0], rtol=0, atol=1e-6)
    np.testing.assert_array_equal(result.triplets[..., 2], MARKS * 2)
    assert not result.triplets[MARKS == 0].any()
    assert result.document["images"][0]["file_name"] == "lsp/images/im00001.jpg"


def test_integers_one_image_and_another_first_pixel(source: Path, import_labels: Any) -> None:
    joints = np.tile(np.array([[50], [40], [0]], dtype=np.int16), (1, 14))
    joints[0] += np.arange(14, dtype=np.int16)
    savemat(source, {"joints": joints})
    result = import_labels("lsp", source, "--first-pixel", "0", skeleton="lsp14")
    np.testing.assert_array_equal(result.triplets[0], np.stack([50 + np.arange(14), [40] * 14, [2] * 14], axis=1))


def changed(joints: np.ndarray, value: float, place: tuple[int, ...]) -> np.ndarray:
    joints[place] = value
    return joints


@pytest.mark.parametrize(("joints", "message"), [
    (np.zeros((3, 16, N)), "joints of shape 3 x 16 x 3, expected 3 x 14 x N (original) or 14 x 3 x N (extended)"),
    (np.zeros((2, 14, N)), "joints of shape 2 x 14 x 3"),
    (np.zeros((N, 14, 3, 2)), "joints of shape 3 x 14 x 3 x 2"),
    (np.zeros(14), "joints of shape 1 x 14,"),
    (np.array(["left"]), "joints is no array of numbers"),
    (changed(original(), 2, (2, 0, 1)), "joints(:,:,2): visibility 2, expected 0 or 1"),
    (changed(original(), np.nan, (2, 0, 1)), "joints(:,:,2): visibility nan, expected 0 or 1"),
    (changed(original(), np.nan, (0, 5, 2)), "joints(:,:,3): a joint is NaN"),
    (changed(original(), 900, (0, 5, 2)), "joints(:,:,3): image 'im0003.jpg': keypoint (899.0, "),
    (original().repeat(2, axis=2), "3 of 6 images are not there: im0004.jpg, im0005.jpg, im0006.jpg"),
], ids=["16 joints", "no marks", "four dimensions", "one dimension", "words", "mark 2", "mark NaN", "joint NaN",
        "joint far outside", "images missing"])
def test_damaged_joints_are_refused(source: Path, refusal: Any, joints: np.ndarray, message: str) -> None:
    savemat(source, {"joints": joints})
    line = refusal("lsp", source)
    assert message in line


def test_an_extended_joint_without_a_place_may_be_nan(source: Path, import_labels: Any) -> None:
    index = np.argwhere(MARKS == 0)[0]
    savemat(source, {"joints": changed(extended(), np.nan, (index[1], 0, index[0]))})
    assert not import_labels("lsp", source, skeleton="lsp14").triplets[tuple(index)].any()


def test_another_mat_is_refused(source: Path, refusal: Any) -> None:
    savemat(source, {"points": np.zeros(3)})
    assert "no variable 'joints'; it has: points" in refusal("lsp", source)
