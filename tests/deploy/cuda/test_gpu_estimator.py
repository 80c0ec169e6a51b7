"""The estimator of the GPU, on an emulated one: what the contract says of the same crops, by few copies and a graph."""

from __future__ import annotations

import ctypes
import shutil
import sys
from argparse import Namespace
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from deploy.export.checkpoint_to_artifact import export_checkpoint
from deploy.export.target import target_named
from deploy.runtime.gpu.backend import open_driver
from deploy.runtime.gpu.estimator import GpuEstimator
from deploy.runtime.gpu.kernel_cache import load_kernels
from deploy.runtime.gpu.replayed_work import RUNS_BEFORE_CAPTURE
from deploy.runtime.host_estimator import HostEstimator, for_frames
from deploy.runtime.loop.trt_command import _open_estimator
from deploy.runtime.session import open_session
from edgekp.artifact import open_artifact
from edgekp.codecs import UDP, Codec, Heatmap, HeatmapOffset, Integral, OpenPose, Regression, SimCC
from edgekp.contract import VISIBILITY, AnyContract, Contract, SceneContract
from edgekp.errors import EngineError
from edgekp.preprocess import InputSpec, frame_xywh
from edgekp.sample import Float, Image
from edgekp.skeletons import COCO17
from tests.deploy.cuda.emulated_gpu import EmulatedGpu
from tests.deploy.cuda.fake_gpu import install_fake_cuda_python, install_fake_nvcc, install_fake_pycuda
from tests.deploy.cuda.numpy_engine import Network, NumpyEngine
from tests.deploy.cuda.test_scene_kernels import scene
from tests.deploy.trt.fake_tensorrt import fake_tensorrt
from train.models.checkpoint import Checkpoint

INPUT_HW = (64, 48)
SMALL_HW = (16, 12)
ATOL_PX = 1e-3
INSTALL = {"pycuda": install_fake_pycuda, "cuda-python": install_fake_cuda_python}
BOXES = np.array([[20.0, 10, 50, 70], [-20, -10, 60, 90], [100, 60, 80, 60], [40, 30, 12, 15], [0, 0, 130, 90]])


@pytest.fixture(params=INSTALL)
def device(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path,
           library: ctypes.CDLL) -> EmulatedGpu:
    install_fake_nvcc(monkeypatch, tmp_path)
    return INSTALL[request.param](monkeypatch, library)


@pytest.fixture
def opened(device: EmulatedGpu) -> Iterator[Callable[..., tuple[GpuEstimator, NumpyEngine]]]:
    """Opens estimators; each is closed in the end, and must then have given back all that it took."""
    made: list[GpuEstimator] = []

    def open_one(contract: AnyContract, network: Network, **batches: int) -> tuple[GpuEstimator, NumpyEngine]:
        engine = NumpyEngine(device, contract.input.input_hw, contract.outputs, network, **batches)
        driver = open_driver()
        made.append(GpuEstimator(contract, engine, driver, load_kernels(driver)))
        return made[-1], engine
    yield open_one
    while made:
        made.pop().close()
    assert device.leaks() == []


def contract_of(codec: Codec, **changes: Any) -> Contract:
    return Contract(InputSpec(codec.input_hw), codec, COCO17, **changes)


def frame_of(rng: np.random.Generator, frame_hw: tuple[int, int] = (90, 130)) -> Image:
    return rng.integers(0, 256, (*frame_hw, 3), dtype=np.uint8)


def network_of(codec: Codec) -> Network:
    """Says something of each input, whichever outputs the codec has."""
    target = codec.encode(np.full((1, len(COCO17), 2), 9.0), np.full((1, len(COCO17)), 2))
    shapes = {name: target.arrays[name].shape[1:] for name in codec.outputs}

    def say(inputs: Float) -> dict[str, Float]:
        means = inputs.reshape(len(inputs), -1)[:, ::7].mean(1)
        return {name: np.stack([_lively(shape, mean) for mean in means]) for name, shape in shapes.items()}
    return say


def _lively(shape: tuple[int, ...], mean: float) -> Float:
    """Numbers that look random, of a size as networks say them, and the same for the same input."""
    return np.random.default_rng(abs(int(1e6 * mean))).normal(0, 0.3, shape).astype(np.float32)


def check(estimator: GpuEstimator, engine: NumpyEngine, contract: Contract, bgr: Image, boxes: Float) -> None:
    """The people are those that the contract reads from what the engine said, and the crops are the contract's."""
    engine.seen.clear()
    found = estimator.estimate(bgr, boxes)
    inputs = np.concatenate(engine.seen)[:len(boxes)]
    by_host, affines = zip(*(for_frames(contract).prepare(bgr, box) for box in boxes), strict=True)
    levels = np.abs(inputs - np.stack(by_host)) * np.reshape(contract.input.std, (3, 1, 1))
    assert levels.max() <= 2 * 255 / 64 + 1  # as test_crop_kernel.py says, where neighbours may be 255 apart
    expected = contract.interpret(engine.network(inputs), np.stack(affines))
    assert len(found.people) == len(boxes)
    for person, other in zip(found.people, expected, strict=True):
        np.testing.assert_allclose(person.keypoints_xy, other.keypoints_xy, atol=ATOL_PX, rtol=1e-6)
        np.testing.assert_allclose(person.scores, other.scores, atol=1e-5)
    assert min(found.pre_ms, found.infer_ms, found.decode_ms) > 0


@pytest.mark.parametrize("codec", [Heatmap(INPUT_HW), HeatmapOffset(INPUT_HW), Integral(INPUT_HW), SimCC(INPUT_HW),
                                   Regression(INPUT_HW)], ids=lambda codec: type(codec).__name__)
def test_people_are_those_of_the_contract(opened: Any, codec: Codec, rng: np.random.Generator) -> None:
    contract = contract_of(codec)
    check(*opened(contract, network_of(codec), most=8), contract, frame_of(rng), BOXES)


def test_frames_of_any_size_and_strides_are_taken(opened: Any, rng: np.random.Generator) -> None:
    contract = contract_of(Regression(SMALL_HW))
    estimator, engine = opened(contract, network_of(contract.codec), most=8)
    wide, tall, tiny = frame_of(rng, (60, 200)), frame_of(rng, (200, 60)), frame_of(rng, (3, 2))
    for bgr in (wide, tall, tiny, wide[::2, ::3], wide[::-1], tall[:, :, ::-1], frame_of(rng, (240, 320))):
        check(estimator, engine, contract, bgr, BOXES[:2])


def test_nobody_in_view_costs_nothing(opened: Any, device: EmulatedGpu, rng: np.random.Generator) -> None:
    estimator, _ = opened(contract_of(Regression(SMALL_HW)), network_of(Regression(SMALL_HW)))
    found = estimator.estimate(frame_of(rng), np.empty((0, 4)))
    assert (found.people, found.pre_ms, found.infer_ms, found.decode_ms) == ([], 0, 0, 0)
    assert device.launched == []


def test_fifty_boxes_go_through_the_engine_in_parts_of_one_size(opened: Any, rng: np.random.Generator) -> None:
    contract = contract_of(Regression(SMALL_HW))
    estimator, engine = opened(contract, network_of(contract.codec), most=8)
    boxes = np.concatenate([rng.uniform(0, 60, (50, 2)), rng.uniform(10, 60, (50, 2))], 1)
    check(estimator, engine, contract, frame_of(rng), boxes)
    assert engine.batches == [8]
    assert len(engine.seen) == 7


def test_an_engine_of_one_batch_size_is_filled_up(opened: Any, rng: np.random.Generator) -> None:
    contract = contract_of(Regression(SMALL_HW))
    estimator, engine = opened(contract, network_of(contract.codec), least=4, most=4)
    for count in (1, 4, 5):
        check(estimator, engine, contract, frame_of(rng), BOXES[:count])
    assert engine.batches == [4]


def test_after_some_runs_all_of_it_is_one_graph(opened: Any, rng: np.random.Generator) -> None:
    contract = contract_of(Regression(SMALL_HW))
    estimator, engine = opened(contract, network_of(contract.codec), most=8)
    for run in range(RUNS_BEFORE_CAPTURE + 3):
        check(estimator, engine, contract, frame_of(rng), BOXES[:2] + run)
        assert estimator.replays_a_graph == (run >= RUNS_BEFORE_CAPTURE)
    assert engine.enqueued == RUNS_BEFORE_CAPTURE + 1  # the last of them while it was captured
    for bgr, boxes in ((frame_of(rng), BOXES[:3]), (frame_of(rng, (50, 60)), BOXES[:3])):
        for run in range(2 + RUNS_BEFORE_CAPTURE):
            check(estimator, engine, contract, bgr, boxes - run)
            assert estimator.replays_a_graph == (run >= RUNS_BEFORE_CAPTURE)


def test_a_graph_holds_in_the_order_of_the_work(opened: Any, device: EmulatedGpu, rng: np.random.Generator) -> None:
    estimator, engine = opened(contract_of(Regression(SMALL_HW)), network_of(Regression(SMALL_HW)))
    engine.when_run = lambda: device.launched.append("network")
    for _ in range(RUNS_BEFORE_CAPTURE + 1):
        device.launched.clear()
        estimator.estimate(frame_of(rng), BOXES[:1])
    assert estimator.replays_a_graph
    assert device.launched == ["crop_pictures", "network", "decode_coordinates_f32"]


def test_an_engine_that_cannot_be_captured_is_launched(
        opened: Any, rng: np.random.Generator, capsys: pytest.CaptureFixture[str]) -> None:
    contract = contract_of(Regression(SMALL_HW))
    estimator, engine = opened(contract, network_of(contract.codec))
    for boxes in (BOXES[:1], BOXES[:2]):
        for run in range(RUNS_BEFORE_CAPTURE + 2):
            engine.fails_next = run == RUNS_BEFORE_CAPTURE and len(boxes) == 1
            check(estimator, engine, contract, frame_of(rng), boxes)
            assert not estimator.replays_a_graph
    assert capsys.readouterr().err.count("CUDA graph") == 1


def test_only_keypoints_come_back(opened: Any, device: EmulatedGpu, monkeypatch: pytest.MonkeyPatch,
                                  rng: np.random.Generator) -> None:
    estimator, _ = opened(contract_of(Heatmap(INPUT_HW)), network_of(Heatmap(INPUT_HW)), most=8)
    copied: list[int] = []
    copy = device.copy_to_host
    monkeypatch.setattr(device, "copy_to_host", lambda *given: (copied.append(given[2]), copy(*given)))
    estimator.estimate(frame_of(rng), BOXES)
    assert copied == [len(BOXES) * len(COCO17) * 3 * 4]


def test_people_stay_what_they_were_when_the_next_frame_comes(opened: Any, rng: np.random.Generator) -> None:
    """The memory that they came back to is written again."""
    for codec in (Regression(SMALL_HW), UDP(INPUT_HW)):
        estimator, _ = opened(contract_of(codec, visibility=True), with_visibility(codec, rng))
        person, = estimator.estimate(frame_of(rng), BOXES[:1]).people
        before = person.keypoints_xy.copy(), person.scores.copy(), np.copy(person.visible)
        estimator.estimate(frame_of(rng), BOXES[1:2])
        for was, now in zip(before, (person.keypoints_xy, person.scores, person.visible), strict=True):
            np.testing.assert_array_equal(was, now)


def with_visibility(codec: Codec, rng: np.random.Generator) -> Network:
    network = network_of(codec)
    return lambda inputs: network(inputs) | {
        VISIBILITY: rng.normal(0, 2, (len(inputs), len(COCO17))).astype(np.float32)}


def test_visibility_comes_back_too(opened: Any, rng: np.random.Generator) -> None:
    contract = contract_of(Regression(SMALL_HW), visibility=True)
    logits = rng.normal(0, 2, (8, len(COCO17))).astype(np.float32)
    network = network_of(contract.codec)
    estimator, _ = opened(contract, lambda inputs: network(inputs) | {VISIBILITY: logits[:len(inputs)]}, most=8)
    people = estimator.estimate(frame_of(rng), BOXES).people
    np.testing.assert_allclose([person.visible for person in people], 1 / (1 + np.exp(-logits[:len(BOXES)])), atol=1e-6)


def test_a_codec_without_a_kernel_is_decoded_by_the_host_and_said_once(
        opened: Any, rng: np.random.Generator, capsys: pytest.CaptureFixture[str]) -> None:
    contract = contract_of(UDP(INPUT_HW))
    estimator, engine = opened(contract, network_of(contract.codec), most=3)
    for _ in range(3):
        check(estimator, engine, contract, frame_of(rng), BOXES)
    assert capsys.readouterr().err.count("no kernel decodes outputs of codec 'UDP' in float32") == 1


@pytest.mark.parametrize("people", [0, 2, 3])
def test_the_people_of_a_scene_are_found_by_kernels(
        opened: Any, device: EmulatedGpu, people: int, rng: np.random.Generator) -> None:
    codec = OpenPose((160, 192))
    contract = SceneContract(InputSpec(codec.input_hw, padding=1.0), codec, COCO17)
    outputs = dict(zip(codec.outputs, scene(rng, people), strict=True))
    estimator, _ = opened(contract, lambda inputs: outputs, most=1)
    assert not estimator.needs_boxes
    bgr = frame_of(rng, (200, 320))
    _, input_to_image = contract.prepare(bgr, frame_xywh(bgr))
    expected, = contract.interpret(outputs, input_to_image[None])
    found = estimator.estimate(bgr, np.empty((0, 4))).people
    assert len(found) == len(expected)
    for person, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(person.keypoints_xy, other.keypoints_xy, atol=0.02)  # 5e-3 input pixels, enlarged
        np.testing.assert_allclose(person.scores, other.scores, atol=1e-6)
    assert "assemble_people" in device.launched


@pytest.mark.parametrize("changes", [{"dtype": np.float16}, {"input_hw": (12, 16)}], ids=str)
def test_an_engine_with_another_input_is_refused_and_all_is_given_back(
        device: EmulatedGpu, changes: dict[str, Any]) -> None:
    contract = contract_of(Regression(SMALL_HW))
    settings = {"input_hw": SMALL_HW} | changes
    engine = NumpyEngine(device, settings.pop("input_hw"), contract.outputs, network_of(contract.codec), **settings)
    driver = open_driver()
    with pytest.raises(EngineError, match=r"expected float32 \(3, 16, 12\)"):
        GpuEstimator(contract, engine, driver, load_kernels(driver))
    assert engine.closed
    assert device.leaks() == []


@pytest.fixture(scope="session")
def export(tmp_path_factory: pytest.TempPathFactory, checkpoint_of: Callable[[str, bool], Checkpoint]) -> Path:
    """Folder of a float export for a Jetson, made before anything stands in for TensorRT. Not to be changed."""
    folder = tmp_path_factory.mktemp("jetson") / "export"
    export_checkpoint(checkpoint_of("hrnet", False), folder, target_named("jetson"))
    return folder


# 10.3 is given float16, in which one cell or another of a network without training is the highest.
@pytest.mark.parametrize(("version", "share", "atol_px"), [("8.6.1", 1.0, ATOL_PX), ("10.3.0", 0.9, 0.2)])
def test_an_export_runs_through_tensorrt_as_it_does_on_the_host(
        export: Path, device: EmulatedGpu, version: str, share: float, atol_px: float, tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch, rng: np.random.Generator) -> None:
    """Engine built and opened, kernels around it, a graph: by the way that deploy/run_trt.py goes."""
    monkeypatch.setitem(sys.modules, "tensorrt", fake_tensorrt(version, gpu=device))
    artifact = open_artifact(Path(shutil.copytree(export, tmp_path / "export")))
    # At 64 x 64 pixels and padded by 1.25, these boxes are cut out pixel by pixel, whatever interpolates.
    boxes = np.array([[6.4, 6.4, 51.2, 51.2], [26.4, 16.4, 51.2, 51.2], [60.4, 30.4, 51.2, 51.2]])
    with closing(_open_estimator(artifact, Namespace())) as estimator, \
            closing(HostEstimator(open_session(artifact), artifact.contract)) as host:
        distances_px = []
        for _ in range(RUNS_BEFORE_CAPTURE + 2):
            bgr = frame_of(rng, (100, 130))
            ours, theirs = (np.stack([person.keypoints_xy for person in one.estimate(bgr, boxes).people])
                            for one in (estimator, host))
            distances_px.append(np.linalg.norm(ours - theirs, axis=-1))
        assert np.quantile(distances_px, share) <= atol_px
        assert estimator.replays_a_graph
    del estimator
    assert device.leaks() == []
