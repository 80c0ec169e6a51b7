"""ONNX Runtime on both spellings and the fake-quantized network put the keypoints in the same places."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch

from deploy.export.qdq import SPELLINGS
from deploy.export.verify import MOVED_SHARE, moved_share, verify_export
from edgekp.codecs import Heatmap
from edgekp.contract import Contract
from edgekp.errors import ArtifactError
from edgekp.preprocess import InputSpec
from edgekp.sample import Float
from edgekp.skeletons import COCO17
from tests.deploy.quantized_networks import on_the_grid, spelled
from train.models.checkpoint import Checkpoint

NETWORKS = ("hrnet_lite", "hrnet_lite, simcc", "mobilefacenet, integral", "resnet, deconv, offset",
            "resnet, fpn, offset")
# What moved on trained networks, 100 validation crops of HRNet-lite, stride 4 (p50 / p90, input pixels):
#   integer kernels: int8 0.09 / 0.22 drawn people, 0.14 / 0.50 photographs; uint8 0.08 / 0.19, 0.13 / 0.43
#   without WeightBiasQuantization: int8 0.07 / 0.18, 0.12 / 0.44; uint8 the same, its biases are integers already
#   node by node: int8 0.05 / 0.13, 0.09 / 0.31; uint8 0.08 / 0.19, 0.13 / 0.44
# An untrained network's maps have many peaks of nearly one height, and those that swap move far; so half of the
# keypoints are held to a bound of twice the worst median, and the rest to what noise would do (moved_share).
MEDIAN_PX = 0.3


@cache
def outputs(name: str) -> tuple[Contract, dict[str, dict[str, Float]]]:
    """What the network says on the grid, and what ONNX Runtime does, by spelling and switched off optimizer."""
    net, contract, x = on_the_grid(name)
    with torch.no_grad():
        values = [value.numpy() for value in net(x)]
    said = {"torch": dict(zip(contract.outputs, values, strict=True))}
    for spelling in SPELLINGS:
        model = spelled(name, spelling).SerializeToString()
        for disabled in ((), ("WeightBiasQuantization",)):
            session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"],
                                                   disabled_optimizers=list(disabled))
            found = session.run(None, {"input": x.numpy()})
            said["-".join((spelling, *disabled))] = dict(zip(contract.outputs, found, strict=True))
    return contract, said


@pytest.mark.slow
@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("runtime", ["int8", "uint8", "int8-WeightBiasQuantization", "uint8-WeightBiasQuantization"])
def test_keypoints_of_the_runtime_are_those_of_the_network(name: str, runtime: str) -> None:
    contract, said = outputs(name)
    expected, found = (contract.codec.decode(said[who])[0] for who in ("torch", runtime))
    assert np.ptp(expected) > 5  # they are not all in one place
    moved_px = np.linalg.norm(found - expected, axis=-1)
    assert np.median(moved_px) < MEDIAN_PX
    assert moved_share(contract, said["torch"], said[runtime]) < 0.05  # 0.015 was the most


@pytest.fixture(scope="module")
def maps() -> tuple[Contract, dict[str, Float]]:
    """Clear peaks, as a trained network's."""
    contract = Contract(InputSpec((64, 64)), Heatmap((64, 64)), COCO17)
    rng = np.random.default_rng(0)
    target = contract.codec.encode(rng.uniform(12, 52, (3, 17, 2)), np.full((3, 17), 2))
    return contract, {"heatmaps": target.arrays["heatmaps"]}


def test_maps_a_cell_off_are_told_from_rounded_ones(maps: tuple[Contract, dict[str, Float]]) -> None:
    contract, expected = maps
    step = expected["heatmaps"].max() / 127
    rounded = {"heatmaps": np.round(expected["heatmaps"] / step) * step}
    assert moved_share(contract, expected, rounded) < 0.05
    for cells in (1, 2):
        off = {"heatmaps": np.roll(expected["heatmaps"], cells, axis=-1)}
        assert moved_share(contract, expected, off) > 0.95
    half = {"heatmaps": (expected["heatmaps"] + np.roll(expected["heatmaps"], 1, axis=-2)) / 2}
    assert moved_share(contract, expected, half) > 0.8


def test_maps_without_a_peak_raise_no_alarm(maps: tuple[Contract, dict[str, Float]]) -> None:
    """As an untrained network's: where there is no clear maximum, noise of a tenth moves it anywhere."""
    contract, _ = maps
    rng = np.random.default_rng(0)
    flat = {"heatmaps": rng.normal(0.5, 0.01, (3, 17, 16, 16)).astype(np.float32)}
    found = {"heatmaps": flat["heatmaps"] + rng.normal(0, 0.005, (3, 17, 16, 16)).astype(np.float32)}
    assert moved_share(contract, flat, found) < MOVED_SHARE / 2


def test_an_export_whose_keypoints_lie_elsewhere_is_refused(
        monkeypatch: pytest.MonkeyPatch, export_of: Callable[[str, str], Path],
        checkpoint_of: Callable[[str, bool], Checkpoint]) -> None:
    folder, net = export_of("hrnet", "uint8"), checkpoint_of("hrnet", True).net
    verify_export(folder, net)
    monkeypatch.setattr("deploy.export.verify.MOVED_SHARE", -1.0)
    with pytest.raises(ArtifactError, match="of the keypoints lie elsewhere than the network says"):
        verify_export(folder, net)
