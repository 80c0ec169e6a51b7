"""Does the file say what the network says? Both run on the same inputs before an export is published."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import nn

from deploy.runtime.session import open_session
from edgekp.artifact import GOLDEN, Artifact, open_artifact
from edgekp.errors import ArtifactError
from edgekp.golden import load_golden
from edgekp.sample import Float

FLOAT_ATOL = 1e-4  # of the outputs' largest value; float32 sums in another order stay below 1e-5
INT8_MEAN_ATOL = 0.01  # the same, on average: integer kernels round ties in their own way, one step each
BOXES_XYWH = ((30.0, -14.0, 90.0, 130.0), (5.0, 5.0, 120.0, 100.0), (60.0, 40.0, 40.0, 40.0))  # on the golden image


def verify_export(folder: Path, net: nn.Module) -> dict[str, float]:
    """Largest and mean difference between file and network, as a fraction of the outputs' largest value.

    Raises:
        ArtifactError: They differ by more than rounding explains.
    """
    artifact = open_artifact(folder)
    inputs = _example_inputs(artifact)
    session = open_session(artifact)
    found = session.infer(inputs)
    session.close()
    with torch.no_grad():
        expected = net.eval()(torch.from_numpy(inputs))
    largest = mean = 0.0
    for name, tensor in zip(artifact.contract.outputs, expected, strict=True):
        reference = tensor.numpy()
        size = max(float(np.abs(reference).max()), 1e-6)
        difference = np.abs(found[name] - reference) / size
        largest, mean = float(np.maximum(largest, difference.max())), float(np.maximum(mean, difference.mean()))
    integer = artifact.model["precision"] == "int8"
    if not (mean <= INT8_MEAN_ATOL if integer else largest <= FLOAT_ATOL):
        raise ArtifactError(f"{folder}: the exported file differs from the network by {largest:.4g} at most and "
                            f"{mean:.4g} on average (of the largest output); do not use it, and report this")
    return {"largest_difference": largest, "mean_difference": mean}


def _example_inputs(artifact: Artifact) -> Float:
    """(3, 3, h, w): crops of the golden image, prepared as the contract says."""
    image = load_golden(artifact.folder / GOLDEN)["image"].astype(np.uint8)
    return np.stack([artifact.contract.prepare(image, np.array(box))[0] for box in BOXES_XYWH])
