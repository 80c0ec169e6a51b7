"""Regression's labels against mmpose's, which count from a corner where ours count from the centre."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from edgekp.codecs import Regression

INPUT_HW = (256, 192)
SIZE_WH = np.array([192.0, 256.0])


def test_labels_are_mmposes_moved_to_the_centre(real_data: Path) -> None:
    """mmpose says xy / size; ours is (xy - (size - 1) / 2) / size, which a mirror only turns in sign."""
    archive = np.load(real_data / "fixtures/oracle/mmpose_oracle.npz")
    labels, visibility = archive["RegressionLabel/keypoint_labels"], archive["keypoints_visible"].astype(np.int64)
    target = Regression(INPUT_HW).encode(archive["keypoints"], visibility)
    moved = labels - 0.5 + 0.5 / SIZE_WH
    np.testing.assert_allclose(target.arrays["coordinates"], moved, atol=2**-23)  # two float32 around 1
    xy, _ = Regression(INPUT_HW).decode({"coordinates": moved})
    np.testing.assert_allclose(xy, archive["keypoints"], atol=256 * 2**-23)


def test_where_mmpose_leaves_out_a_keypoint_outside_the_input_it_is_kept(real_data: Path) -> None:
    archive = np.load(real_data / "fixtures/oracle/mmpose_oracle.npz")
    visibility = archive["keypoints_visible"].astype(np.int64)
    weight = Regression(INPUT_HW).encode(archive["keypoints"], visibility).weight
    inside = ((archive["keypoints"] >= 0) & (archive["keypoints"] < SIZE_WH)).all(-1)
    np.testing.assert_array_equal(weight, visibility > 0)
    np.testing.assert_array_equal(weight * inside, archive["RegressionLabel/keypoint_weights"])
    assert (weight * ~inside).any()
