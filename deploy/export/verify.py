"""Does the file say what the network says? Both run on the same inputs before an export is published."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import torch
from torch import nn

from deploy.export.embed import DECODE, KEYPOINTS_NAME, PREPROCESS, embedded_outputs
from deploy.export.float16 import with_grid_in_float32
from deploy.runtime.onnx_session import OnnxSession
from deploy.runtime.session import Session, open_session
from edgekp.artifact import GOLDEN, Artifact, open_artifact
from edgekp.contract import Contract
from edgekp.errors import ArtifactError
from edgekp.golden import load_golden
from edgekp.preprocess import crop, crop_affine, normalise
from edgekp.sample import Float, Image

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
# A decoder in the graph computes in float32 what the codec does in float64. Where two cells are equal to the last bit
# or DARK's step is just too long, it may choose otherwise; a wrong one is wrong nearly everywhere.
EMBEDDED_PX = 0.01
EMBEDDED_SHARE = 0.1
BOXES_XYWH = ((30.0, -14.0, 90.0, 130.0), (5.0, 5.0, 120.0, 100.0), (60.0, 40.0, 40.0, 40.0))  # on the golden image


def verify_export(folder: Path, net: nn.Module) -> dict[str, float]:
    """Largest and mean difference between file and network, as a fraction of the outputs' largest value.

    Raises:
        ArtifactError: They, or another file of the artifact and the network, differ by more than rounding explains.
    """
    artifact = open_artifact(folder)
    inputs, precision = _example_inputs(artifact), str(artifact.model["precision"])
    references = _says(artifact, net, inputs)
    found = _answer(open_session(artifact), inputs)
    result = _require_equal(artifact, net, inputs, (references, found), precision)
    if "fp16_file" in artifact.model:
        in_float16 = _answer(float16_session(artifact), inputs)
        precision_of_it = "fp16" if precision == "fp32" else precision
        _require_equal(artifact, net, inputs, (references, in_float16), precision_of_it, sources=2)
    if "embedded_file" in artifact.model:
        _require_equal_embedded(artifact, net, inputs, (references, found))
    return result


def _require_equal(artifact: Artifact, net: nn.Module, inputs: Float,
                   answers: tuple[dict[str, Float], dict[str, Float]], precision: str,
                   sources: int = 1) -> dict[str, float]:
    """The differences of what network and file say of some inputs, if rounding explains them.

    Args:
        sources: what moves near ties on the grid: integer kernels, and float16 beside them.
    """
    references, found = answers
    largest, mean = differences(references, found)
    exact = {"fp32": FLOAT_ATOL, "fp16": FP16_ATOL}.get(precision)
    if not (largest <= exact if exact is not None else
            mean <= sources * INT8_MEAN_ATOL or mean <= sources * restlessness(artifact, net, inputs, references)):
        raise ArtifactError(f"{artifact.folder}: the exported file differs from the network by {largest:.4g} at most "
                            f"and {mean:.4g} on average (of the largest output); do not use it, and report this")
    share = 0.0
    if exact is None and isinstance(artifact.contract, Contract):
        share = moved_share(artifact.contract, references, found)
    if share > MOVED_SHARE:
        raise ArtifactError(f"{artifact.folder}: {share:.0%} of the keypoints lie elsewhere than the network says, "
                            "farther than rounding explains; do not use it, and report this")
    return {"largest_difference": largest, "mean_difference": mean}


def _require_equal_embedded(artifact: Artifact, net: nn.Module, inputs: Float,
                            answers: tuple[dict[str, Float], dict[str, Float]]) -> None:
    """Refuse a file with preprocessing or decoding in it that says something else than the model and the contract."""
    parts, contract = tuple(artifact.model["embedded"]), artifact.contract
    crops_bgr = np.stack([crop_rgb[:, :, ::-1] for crop_rgb in _example_crops(artifact)])
    session = embedded_session(artifact)
    found = session.infer(crops_bgr if PREPROCESS in parts else inputs)
    session.close()
    if DECODE not in parts:
        _require_equal(artifact, net, inputs, (answers[0], found), str(artifact.model["precision"]))
        return
    assert isinstance(contract, Contract)  # no other has a decoder in a graph
    moved_px = np.linalg.norm(found[KEYPOINTS_NAME][..., :2] - contract.codec.decode(answers[1])[0], axis=-1)
    share = float((~(moved_px <= EMBEDDED_PX)).mean())
    if share > EMBEDDED_SHARE:
        raise ArtifactError(f"{artifact.folder / artifact.model['embedded_file']}: {share:.0%} of the keypoints lie "
                            f"more than {EMBEDDED_PX} px from where the contract decodes them; do not use it, and "
                            "report this")


def float16_session(artifact: Artifact) -> OnnxSession:
    """The file in float16, in ONNX Runtime on the CPU."""
    path = artifact.folder / str(artifact.model["fp16_file"])
    model = with_grid_in_float32(onnx.load(path))
    return OnnxSession(model.SerializeToString(), artifact.contract.outputs, str(path))


def embedded_session(artifact: Artifact) -> OnnxSession:
    """The file with preprocessing or decoding in it."""
    path, parts = artifact.folder / str(artifact.model["embedded_file"]), tuple(artifact.model["embedded"])
    return OnnxSession(path.read_bytes(), embedded_outputs(artifact.contract, parts), str(path))


def _answer(session: Session, inputs: Float) -> dict[str, Float]:
    found = session.infer(inputs)
    session.close()
    return found


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
    return np.stack([normalise(crop_rgb, artifact.contract.input) for crop_rgb in _example_crops(artifact)])


def _example_crops(artifact: Artifact) -> list[Image]:
    image, spec = load_golden(artifact.folder / GOLDEN)["image"].astype(np.uint8), artifact.contract.input
    return [crop(image, crop_affine(np.array(box), spec.input_hw, spec.padding, align=spec.align), spec)
            for box in BOXES_XYWH]
