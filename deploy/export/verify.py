"""Does the file say what the network says? Both run on the same inputs before an export is published."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import nn

from deploy.runtime.session import open_session
from edgekp.artifact import GOLDEN, Artifact, open_artifact
from edgekp.contract import Contract
from edgekp.errors import ArtifactError
from edgekp.golden import load_golden
from edgekp.sample import Float

FLOAT_ATOL = 1e-4  # of the outputs' largest value; float32 sums in another order stay below 1e-5
FP16_ATOL = 0.01  # the same, where weights are float16: each is off by up to 2^-11, which adds up over the layers
INT8_MEAN_ATOL = 0.01  # the same, on average: integer kernels round ties in their own way, one step each
# A network that is sure of nothing passes such a step on, and more: faces looked for where none is move by 0.02 for a
# tenth of a step of the input. So the bound is no smaller than what half a step of the input does to the network.
STEPS = 127  # of the input's largest value
# The mean hardly notices peaks in the wrong place: a heatmap is flat nearly everywhere, and one cell off is 0.0065 to
# 0.0086 (two trained networks). So keypoints are decoded, and may move no farther than noise moves them that is some
# times what integers do; where a map says nothing clear, that is far. Too far went 8 to 16 % of the keypoints of sound
# exports, 59 to 69 % with all maps half a cell off, 77 to 80 % with a whole one.
NOISE = 0.02  # standard deviation, of the outputs' largest value
NOISE_DRAWS = 4
SLACK_PX = 0.5
MOVED_SHARE = 0.4
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
    references = _says(artifact, net, inputs)
    largest, mean = differences(references, found)
    exact = {"fp32": FLOAT_ATOL, "fp16": FP16_ATOL}.get(artifact.model["precision"])
    if not (largest <= exact if exact is not None else
            mean <= INT8_MEAN_ATOL or mean <= restlessness(artifact, net, inputs, references)):
        raise ArtifactError(f"{folder}: the exported file differs from the network by {largest:.4g} at most and "
                            f"{mean:.4g} on average (of the largest output); do not use it, and report this")
    share = 0.0
    if exact is None and isinstance(artifact.contract, Contract):
        share = moved_share(artifact.contract, references, found)
    if share > MOVED_SHARE:
        raise ArtifactError(f"{folder}: {share:.0%} of the keypoints lie elsewhere than the network says, farther than "
                            "rounding explains; do not use it, and report this")
    return {"largest_difference": largest, "mean_difference": mean}


def differences(expected: dict[str, Float], found: dict[str, Float]) -> tuple[float, float]:
    """Largest and mean difference, as fractions of an output's largest value; of the output where each is worst."""
    largest = mean = 0.0
    for name, reference in expected.items():
        difference = np.abs(found[name] - reference) / max(float(np.abs(reference).max()), 1e-6)
        largest, mean = float(np.maximum(largest, difference.max())), float(np.maximum(mean, difference.mean()))
    return largest, mean


def restlessness(artifact: Artifact, net: nn.Module, inputs: Float, expected: dict[str, Float]) -> float:
    """The largest mean difference that half a step of the input's grid, up or down, makes to the network's outputs."""
    rng = np.random.default_rng(0)
    step = float(np.abs(inputs).max()) / STEPS
    noisy = (inputs + rng.uniform(-step / 2, step / 2, inputs.shape).astype(np.float32) for _ in range(NOISE_DRAWS))
    return max(differences(expected, _says(artifact, net, values))[1] for values in noisy)


def moved_share(contract: Contract, expected: dict[str, Float], found: dict[str, Float]) -> float:
    """Share of the keypoints that ``found`` puts farther from where ``expected`` does than noise would."""
    rng = np.random.default_rng(0)
    keypoints_xy, _ = contract.codec.decode(expected)

    def moved_px(outputs: dict[str, Float]) -> Float:
        return np.asarray(np.linalg.norm(contract.codec.decode(outputs)[0] - keypoints_xy, axis=-1))

    def noisy() -> dict[str, Float]:
        return {name: values + rng.normal(0, NOISE * np.abs(values).max(), values.shape).astype(np.float32)
                for name, values in expected.items()}

    allowed_px = np.max([moved_px(noisy()) for _ in range(NOISE_DRAWS)], axis=0) + SLACK_PX
    return float((moved_px(found) > allowed_px).mean())


@torch.no_grad()
def _says(artifact: Artifact, net: nn.Module, inputs: Float) -> dict[str, Float]:
    outputs = net.eval()(torch.from_numpy(inputs))
    return {name: tensor.numpy() for name, tensor in zip(artifact.contract.outputs, outputs, strict=True)}


def _example_inputs(artifact: Artifact) -> Float:
    """(3, 3, h, w): crops of the golden image, prepared as the contract says."""
    image = load_golden(artifact.folder / GOLDEN)["image"].astype(np.uint8)
    return np.stack([artifact.contract.prepare(image, np.array(box))[0] for box in BOXES_XYWH])
