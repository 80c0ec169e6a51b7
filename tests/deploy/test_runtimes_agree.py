"""run_onnx.py and run_tflite.py say the same of the same video, and as fast as it plays."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from deploy import run_onnx, run_tflite
from deploy.export.checkpoint_to_artifact import export_checkpoint
from deploy.export.target import target_named
from edgekp.sample import Float
from tests.deploy.conftest import MakeCheckpoint

pytest.importorskip("ai_edge_litert", reason="LiteRT is not installed (extra: tflite)")
FRAMES = 12


def keypoints(path: Path) -> tuple[list[Any], Float]:
    """What the lines say of frames, and (N, K, 3) keypoints."""
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    people = [person for line in lines for person in line["people"]]
    return ([[line["frame"], line["time_s"], line["size_wh"], len(line["people"])] for line in lines],
            np.array([person["keypoints"] for person in people]))


@pytest.mark.slow
@pytest.mark.parametrize("video", ["walk.mkv", "head-pose-face-detection-female.mp4"])
def test_the_same_lines_within_the_parity_bound(video: str, real_data: Path, tmp_path: Path,
                                                checkpoint_of: MakeCheckpoint) -> None:
    said = {}
    for target, main in (("cpu", run_onnx.main), ("tflite", run_tflite.main)):
        export_checkpoint(checkpoint_of("hrnet", False), tmp_path / target, target_named(target))
        options: Sequence[str] = ["--artifact", str(tmp_path / target), "--camera", str(real_data / "video" / video),
                                  "--frames", str(FRAMES), "--boxes", "frame", "--score", "0", "--no-smoothing",
                                  "--no-window", "--json", str(tmp_path / f"{target}.jsonl")]
        assert main(options) == 0
        said[target] = keypoints(tmp_path / f"{target}.jsonl")
    assert said["cpu"][0] == said["tflite"][0]
    assert len(said["cpu"][1]) == FRAMES
    image_px = 640 * 1.25 / 64  # of an input pixel, of which parity allows 0.05
    distance_px = np.linalg.norm(said["cpu"][1][..., :2] - said["tflite"][1][..., :2], axis=-1)
    # An untrained network may have two peaks of one height, between which rounding decides.
    assert (distance_px <= 0.05 * image_px).mean() > 0.98
