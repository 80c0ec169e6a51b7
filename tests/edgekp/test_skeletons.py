"""Skeletons: flip orders, limbs and sigmas that fit their names."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from pycocotools.cocoeval import Params

from edgekp.errors import RecipeError
from edgekp.skeletons import COCO17, MPII16, OPENPOSE18, SKELETONS, Skeleton, openpose_from_coco, skeleton_named

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


def test_keypoints_of_several_skeletons_have_the_sigma_of_coco() -> None:
    coco = dict(zip(COCO17.keypoints, COCO17.sigmas, strict=True))
    for skeleton in (SKELETONS["lsp14"], MPII16, OPENPOSE18):
        own = dict(zip(skeleton.keypoints, skeleton.sigmas, strict=True))
        assert {name: own[name] for name in own.keys() & coco} == {name: coco[name] for name in own.keys() & coco}


def test_openpose_limbs_are_those_that_others_draw_fields_for(real_data: Path) -> None:
    theirs = np.load(real_data / "fixtures/oracle/paf_openpose_oracle.npz")["limbs_kpt_idx"]
    np.testing.assert_array_equal(OPENPOSE18.limbs, theirs)


def test_mpii_names_agree_with_real_annotations(real_data: Path) -> None:
    """MPII's pelvis and thorax are the middles of hips and shoulders, rounded to pixels."""
    people = json.loads((real_data / "fixtures/mmpose_tests_data/mpii/test_mpii.json").read_bytes())
    xy = np.array([person["joints"] for person in people])[np.array([all(person["joints_vis"]) for person in people])]
    at = {name: xy[:, MPII16.keypoints.index(name)] for name in MPII16.keypoints}
    assert len(xy) > 1
    for middle, ends in (("pelvis", "hip"), ("thorax", "shoulder")):
        np.testing.assert_allclose(at[middle], (at[f"left_{ends}"] + at[f"right_{ends}"]) / 2, rtol=0, atol=1)


@pytest.mark.parametrize(("left", "right", "neck"), [(2, 2, 2), (2, 1, 1), (1, 1, 1), (0, 2, 0), (1, 0, 0), (0, 0, 0)])
def test_trap_the_neck_is_second_and_there_for_everyone_but_labelled_where_both_shoulders_are(
        left: int, right: int, neck: int) -> None:
    rng = np.random.default_rng(0)
    xy, visibility = rng.uniform(0, 100, (3, 17, 2)), rng.integers(0, 3, (3, 17))
    shoulders = [COCO17.keypoints.index(f"{side}_shoulder") for side in ("left", "right")]
    visibility[1, shoulders] = left, right
    before = xy.copy(), visibility.copy()
    openpose_xy, openpose_visibility = openpose_from_coco(xy, visibility)
    assert (openpose_xy.shape, openpose_visibility.shape) == ((3, 18, 2), (3, 18))
    assert OPENPOSE18.keypoints[1] == "neck"
    assert openpose_visibility[1, 1] == neck
    np.testing.assert_allclose(openpose_xy[:, 1], xy[:, shoulders].mean(1))
    for index, name in enumerate(OPENPOSE18.keypoints):
        if name != "neck":
            np.testing.assert_array_equal(openpose_xy[:, index], xy[:, COCO17.keypoints.index(name)])
            np.testing.assert_array_equal(openpose_visibility[:, index], visibility[:, COCO17.keypoints.index(name)])
    np.testing.assert_array_equal(xy, before[0])
    np.testing.assert_array_equal(visibility, before[1])
