"""Real labels, made by people and looked at: no error is raised on them, and the rest is rare."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgekp.codecs import build_codec
from edgekp.doctor.dataset import Plan
from edgekp.doctor.examine import examine
from edgekp.doctor.reading import read_sets
from edgekp.preprocess import InputSpec

PLAN = Plan(InputSpec((256, 192)), build_codec("heatmap", (256, 192), {}))


def counts(*paths: Path) -> dict[str, int]:
    """Findings by code."""
    findings = examine(read_sets(paths, plan=PLAN))
    assert [finding for finding in findings if finding.fault.severity == "error"] == []
    return {finding.fault.code: finding.count for finding in findings}


@pytest.mark.slow
def test_coco(real_data: Path) -> None:
    """577 people of COCO 2017: what is found are its own mistakes, and people who are cut off by their box."""
    found = counts(real_data / "pose_coco17/train.json", real_data / "pose_coco17/val.json")
    assert found == {"left-right-instance": 3, "instance-duplicate": 6, "target-zero": 13}


def test_lsp(real_data: Path) -> None:
    found = counts(real_data / "pose_lspet14/val_14kp.json")
    assert found == {"left-right-instance": 1, "never-hidden": 1}


@pytest.mark.slow
def test_faces_with_nameless_keypoints_are_known_by_their_flip_pairs(real_data: Path) -> None:
    found = counts(real_data / "face_ibug68/val.json")
    assert found == {"never-hidden": 1, "image-near-duplicate": 1}


def test_third_party_files_of_coco_are_healthy(real_data: Path) -> None:
    assert counts(real_data / "fixtures/mmpose_tests_data/coco/test_coco.json") == {}
    assert counts(real_data / "fixtures/mmpose_tests_data/ochuman/test_ochuman.json") == {}


@pytest.mark.slow
def test_no_picture_of_lsp_is_in_two_splits(real_data: Path) -> None:
    """The set's authors made sure of it with a difference hash of their own."""
    found = counts(real_data / "pose_lspet14/train_14kp.json", real_data / "pose_lspet14/val_14kp.json")
    assert "image-near-duplicate-across-sets" not in found
    assert found["left-right-instance"] <= 0.01 * 2750
