"""Skeletons: flip orders, limbs and sigmas that fit their names."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from pycocotools.cocoeval import Params

from edgekp.errors import RecipeError
from edgekp.skeletons import SKELETONS, Skeleton, skeleton_named

each_skeleton = pytest.mark.parametrize("skeleton", SKELETONS.values(), ids=lambda s: s.name)


@each_skeleton
def test_flipping_twice_changes_nothing(skeleton: Skeleton) -> None:
    order = skeleton.flip_order
    np.testing.assert_array_equal(order[order], np.arange(len(skeleton)))
    assert len(skeleton.flip_pairs) * 2 == (order != np.arange(len(skeleton))).sum()  # no keypoint is in two pairs


@each_skeleton
def test_flip_pairs_join_left_with_right_and_leave_no_side_alone(skeleton: Skeleton) -> None:
    for index, partner in enumerate(skeleton.flip_order):
        name, mirrored = skeleton.keypoints[index], skeleton.keypoints[partner]
        if "left" in name or "right" in name:
            swapped = name.replace("left", "*").replace("right", "left").replace("*", "right")
            # numbered parts (brow_left_3) pair with some number of the other side
            assert swapped.rstrip("0123456789") == mirrored.rstrip("0123456789")
        else:
            assert name.rstrip("0123456789") == mirrored.rstrip("0123456789")


@each_skeleton
def test_the_limbs_are_their_own_mirror_image(skeleton: Skeleton) -> None:
    order = skeleton.flip_order
    limbs = {frozenset(limb) for limb in skeleton.limbs}
    assert {frozenset((int(order[a]), int(order[b]))) for a, b in skeleton.limbs} == limbs


@each_skeleton
def test_limbs_join_two_keypoints_that_exist_and_each_pair_once(skeleton: Skeleton) -> None:
    assert all(0 <= a < len(skeleton) and 0 <= b < len(skeleton) and a != b for a, b in skeleton.limbs)
    assert len({frozenset(limb) for limb in skeleton.limbs}) == len(skeleton.limbs)


@each_skeleton
def test_every_keypoint_has_one_name_and_one_positive_sigma(skeleton: Skeleton) -> None:
    assert len(set(skeleton.keypoints)) == len(skeleton) == len(skeleton.sigmas)
    assert (skeleton.sigma_array > 0).all()


@each_skeleton
def test_the_normaliser_joins_mirror_images(skeleton: Skeleton) -> None:
    if skeleton.normaliser is not None:  # the outer corners of the eyes
        first, second = skeleton.normaliser
        assert skeleton.flip_order[first] == second


@each_skeleton
def test_a_skeleton_survives_json(skeleton: Skeleton) -> None:
    assert Skeleton.from_json(json.loads(json.dumps(skeleton.to_json()))) == skeleton


def test_coco_sigmas_are_those_of_pycocotools() -> None:
    np.testing.assert_allclose(SKELETONS["coco17"].sigma_array, Params("keypoints").kpt_oks_sigmas, rtol=0, atol=1e-12)


def test_names_and_limbs_agree_with_real_coco_annotations(real_data: Path) -> None:
    category = json.loads((real_data / "pose_coco17/val.json").read_bytes())["categories"][0]
    assert SKELETONS["coco17"].keypoints == tuple(category["keypoints"])
    assert {frozenset((a - 1, b - 1)) for a, b in category["skeleton"]} == {
        frozenset(limb) for limb in SKELETONS["coco17"].limbs}


def test_flip_pairs_agree_with_real_face_annotations(real_data: Path) -> None:
    category = json.loads((real_data / "face_ibug68/val.json").read_bytes())["categories"][0]
    assert {frozenset(pair) for pair in category["flip_pairs"]} == {
        frozenset(pair) for pair in SKELETONS["ibug68"].flip_pairs}


def test_a_mirrored_face_of_the_mean_shape_looks_the_same(real_data: Path) -> None:
    """Faces are symmetric: a wrong flip pair would put a mouth corner onto the other side."""
    document = json.loads((real_data / "face_ibug68/train.json").read_bytes())
    triplets = np.array([entry["keypoints"] for entry in document["annotations"]]).reshape(-1, 68, 3)
    xy = triplets[..., :2]
    xy = (xy - xy.mean(1, keepdims=True)) / np.linalg.norm(xy[:, 36] - xy[:, 45], axis=-1)[:, None, None]
    mean_shape = xy.mean(0)
    mirrored = (mean_shape * [-1, 1])[SKELETONS["ibug68"].flip_order]
    # neighbours are at least 0.1 of the eyes' distance apart
    assert np.linalg.norm(mirrored - mean_shape, axis=-1).max() < 0.05


def test_an_unknown_skeleton_is_refused_with_the_nearest_name() -> None:
    with pytest.raises(RecipeError, match="did you mean 'coco17'"):
        skeleton_named("coco_17")


def test_the_flip_order_follows_the_pairs() -> None:
    skeleton = replace(SKELETONS["lsp14"], flip_pairs=((0, 3),))
    assert skeleton.flip_order.tolist() == [3, 1, 2, 0, *range(4, 14)]
