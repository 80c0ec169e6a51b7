"""Keypoints and crops as a program gets them, through both packages, equal to the codecs and to the preprocessing."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from deploy.runtime.gpu.backend import open_driver
from deploy.runtime.gpu.decode import CudaCropper, Output, open_decoder
from deploy.runtime.gpu.driver import CudaDriver, Kernel, Stream
from deploy.runtime.gpu.kernel_cache import KERNELS
from deploy.runtime.gpu.scene_decode import open_scene_decoder
from edgekp.codecs import CODECS, Heatmap, build_codec
from edgekp.contract import Contract, SceneContract
from edgekp.preprocess import InputSpec, preprocess, transform
from edgekp.sample import Float
from edgekp.skeletons import COCO17, OPENPOSE18
from tests.deploy.cuda.emulated_gpu import CUBIN, EmulatedGpu
from tests.deploy.cuda.fake_gpu import install_fake_cuda_python, install_fake_pycuda
from tests.deploy.cuda.test_crop_kernel import BOXES, picture
from tests.deploy.cuda.test_decode_kernels import affines
from tests.deploy.cuda.test_scene_kernels import CODEC, TO_INPUT, scene

ATOL_PX = 1e-3
DECODED_HERE = ("heatmap", "offset", "integral", "simcc", "regression")
MOST = 5
Arrays = dict[str, np.ndarray[Any, Any]]


class Device:
    """A driver with its kernels, one stream, and arrays that come and go."""

    def __init__(self, gpu: EmulatedGpu) -> None:
        self.gpu = gpu
        self.driver: CudaDriver = open_driver()
        self.kernels: dict[str, Kernel] = self.driver.load(CUBIN + b"sm_87", KERNELS)
        self.stream: Stream = self.driver.new_stream()

    def put(self, values: np.ndarray[Any, Any]) -> int:
        host = self.driver.pinned(values.shape, values.dtype)
        host[...] = values
        address = self.driver.allocate(values.nbytes)
        self.driver.to_device(address, host, self.stream)
        return address

    def get(self, address: int, shape: tuple[int, ...], dtype: Any = np.float32) -> np.ndarray[Any, Any]:
        host = self.driver.pinned(shape, dtype)
        self.driver.to_host(host, address, self.stream)
        self.driver.synchronize(self.stream)
        return host.copy()


@pytest.fixture(params=[install_fake_pycuda, install_fake_cuda_python], ids=["pycuda", "cuda-python"])
def device(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, library: ctypes.CDLL) -> Iterator[Device]:
    """Without a byte left behind when it is closed."""
    opened = Device(request.param(monkeypatch, library))
    yield opened
    opened.driver.close()
    assert not opened.gpu.leaks()


def stored_as(kind: Any, meant: Float) -> tuple[np.ndarray[Any, Any], float]:
    """An array as an engine says it, and its scale."""
    if kind is not np.int8:
        return meant.astype(kind), 1.0
    scale = float(np.abs(meant).max()) / 127
    return np.round(meant / scale).astype(np.int8), scale


def network_says(contract: Contract, kind: Any, n: int, rng: np.random.Generator) -> tuple[Arrays, dict[str, float]]:
    h, w = contract.input.input_hw
    k = len(contract.skeleton)
    target = contract.codec.encode(rng.uniform((0, 0), (w - 1, h - 1), (n, k, 2)), np.full((n, k), 2))
    noisy = {name: array + rng.normal(0, 0.01, array.shape) for name, array in target.arrays.items()}
    stored = {name: stored_as(kind, array) for name, array in noisy.items()}
    return {name: array for name, (array, _) in stored.items()}, {name: scale for name, (_, scale) in stored.items()}


def layout(outputs: Arrays, scales: dict[str, float]) -> dict[str, Output]:
    return {name: (array.shape[1:], array.dtype, scales[name]) for name, array in outputs.items()}


def on_device(device: Device, contract: Contract, outputs: Arrays, scales: dict[str, float], to_image: Float) -> Float:
    """(N, K, 3) as the device decodes it, into memory for MOST people."""
    decoder = open_decoder(device.driver, device.kernels, contract, layout(outputs, scales))
    assert decoder
    n = len(to_image)
    addresses = {name: device.put(array) for name, array in outputs.items()}
    there = device.put(decoder.affines(to_image))
    keypoints = device.driver.allocate(MOST * int(np.prod(decoder.keypoints_shape)) * 4)
    decoder.queue(n, addresses, there, keypoints, device.stream)
    found = device.get(keypoints, (n, *decoder.keypoints_shape))
    decoder.close()
    return found


def by_the_contract(contract: Contract, outputs: Arrays, scales: dict[str, float], to_image: Float) -> Float:
    meant = {name: array.astype(np.float32) * np.float32(scales[name]) for name, array in outputs.items()}
    people = contract.interpret(meant, to_image)
    return np.stack([np.concatenate([person.keypoints_xy, person.scores[:, None]], -1) for person in people])


@pytest.mark.parametrize(("kind", "n"), [(np.float32, 1), (np.float32, 2), (np.float32, 4), (np.float16, 5),
                                         (np.float16, 3), (np.int8, 1), (np.int8, 5)])
@pytest.mark.parametrize("name", DECODED_HERE)
def test_keypoints_are_those_of_the_contract(
        device: Device, name: str, kind: Any, n: int, rng: np.random.Generator) -> None:
    contract = Contract(InputSpec((64, 48)), build_codec(name, (64, 48), {}), COCO17)
    outputs, scales = network_says(contract, kind, n, rng)
    to_image = affines(rng, n)
    np.testing.assert_allclose(on_device(device, contract, outputs, scales, to_image),
                               by_the_contract(contract, outputs, scales, to_image), atol=ATOL_PX)


@pytest.mark.parametrize("refine", ["none", "quarter", "quadratic", "dark"])
def test_every_refinement_reaches_the_kernel(device: Device, refine: Any, rng: np.random.Generator) -> None:
    contract = Contract(InputSpec((64, 48)), Heatmap((64, 48), refine=refine, sigma=1.5), COCO17)
    outputs, scales = network_says(contract, np.float32, 2, rng)
    to_image = affines(rng, 2)
    np.testing.assert_allclose(on_device(device, contract, outputs, scales, to_image),
                               by_the_contract(contract, outputs, scales, to_image), atol=ATOL_PX)


def test_what_the_network_says_of_visibility_does_not_disturb(device: Device, rng: np.random.Generator) -> None:
    contract = Contract(InputSpec((64, 48)), Heatmap((64, 48)), COCO17, visibility=True)
    outputs, scales = network_says(contract, np.float32, 1, rng)
    outputs["visibility"], scales["visibility"] = rng.normal(0, 1, (1, 17)).astype(np.float32), 1.0
    to_image = affines(rng, 1)
    np.testing.assert_allclose(on_device(device, contract, outputs, scales, to_image),
                               by_the_contract(contract, outputs, scales, to_image), atol=ATOL_PX)


@pytest.mark.parametrize("name", sorted(CODECS.keys() - DECODED_HERE))
def test_codecs_without_a_kernel_are_left_to_the_host(device: Device, name: str, rng: np.random.Generator) -> None:
    contract = Contract(InputSpec((64, 64)), build_codec(name, (64, 64), {}), COCO17)
    outputs, scales = network_says(contract, np.float32, 1, rng)
    assert open_decoder(device.driver, device.kernels, contract, layout(outputs, scales)) is None


@pytest.mark.parametrize("dtypes", [(np.float64, np.float64), (np.float32, np.float16), (np.int32, np.int32)])
def test_numbers_without_a_kernel_are_left_to_the_host(device: Device, dtypes: Any, rng: np.random.Generator) -> None:
    contract = Contract(InputSpec((64, 64)), build_codec("simcc", (64, 64), {}), COCO17)
    outputs, scales = network_says(contract, np.float32, 1, rng)
    changed = {name: array.astype(dtype) for (name, array), dtype in zip(outputs.items(), dtypes, strict=True)}
    assert open_decoder(device.driver, device.kernels, contract, layout(changed, scales)) is None


def test_a_captured_decoding_reads_new_outputs_and_new_affines(device: Device, rng: np.random.Generator) -> None:
    contract = Contract(InputSpec((64, 48)), Heatmap((64, 48)), COCO17)
    outputs, scales = network_says(contract, np.float32, 2, rng)
    decoder = open_decoder(device.driver, device.kernels, contract, layout(outputs, scales))
    assert decoder
    maps, there, keypoints = device.put(outputs["heatmaps"]), device.put(np.zeros((2, 2, 3), np.float32)), \
        device.driver.allocate(2 * 17 * 3 * 4)
    device.driver.synchronize(device.stream)
    graph = device.driver.capture(device.stream, lambda: decoder.queue(2, {"heatmaps": maps}, there, keypoints,
                                                                       device.stream))
    for _ in range(2):
        outputs, scales = network_says(contract, np.float32, 2, rng)
        to_image = affines(rng, 2)
        device.gpu.array_at(maps, outputs["heatmaps"].shape, np.float32)[...] = outputs["heatmaps"]
        device.gpu.array_at(there, (2, 2, 3), np.float32)[...] = decoder.affines(to_image)
        device.driver.replay(graph, device.stream)
        np.testing.assert_allclose(device.get(keypoints, (2, 17, 3)),
                                   by_the_contract(contract, outputs, scales, to_image), atol=ATOL_PX)


@pytest.mark.parametrize("n", [1, pytest.param(3, marks=pytest.mark.slow)])
def test_people_of_scenes_are_those_of_the_contract(device: Device, n: int, rng: np.random.Generator) -> None:
    contract = SceneContract(InputSpec(CODEC.input_hw, padding=1.0), CODEC, COCO17)
    heatmaps, pafs = (np.ascontiguousarray(np.concatenate(arrays), np.float32) for arrays in
                      zip(*(scene(rng, people) for people in (1, 0, 3)[:n]), strict=True))
    outputs = {"heatmaps": heatmaps, "pafs": pafs}
    decoder = open_scene_decoder(device.driver, device.kernels, contract,
                                 layout(outputs, dict.fromkeys(outputs, 1.0)), batch=MOST, most=8)
    assert decoder
    to_image = affines(rng, n)
    there = device.put(decoder.affines(to_image))
    people, found = device.driver.allocate(n * 8 * 18 * 3 * 4), device.driver.allocate(n * 4)
    decoder.queue(n, {name: device.put(array) for name, array in outputs.items()}, there, people, found, device.stream)
    keypoints, counts = device.get(people, (n, *decoder.people_shape)), device.get(found, (n,), np.int32)
    for number, expected in enumerate(contract.interpret(outputs, to_image)):
        mine = keypoints[number, :counts[number]]
        placed = contract.place(mine[..., :2], mine[..., 2], to_image[number])
        assert len(placed) == len(expected)
        for person, other in zip(placed, expected, strict=True):
            np.testing.assert_allclose(person.scores, other.scores, atol=1e-5)
            np.testing.assert_allclose(person.keypoints_xy, other.keypoints_xy, atol=0.02)  # 3 image px a cell's 5e-3
    decoder.close()


def test_scenes_in_half_precision_are_left_to_the_host(device: Device) -> None:
    contract = SceneContract(InputSpec(CODEC.input_hw, padding=1.0), CODEC, COCO17)
    outputs: dict[str, Output] = {name: ((1, 1, 1), np.dtype(np.float16), 1.0) for name in ("heatmaps", "pafs")}
    assert open_scene_decoder(device.driver, device.kernels, contract, outputs, batch=1, most=8) is None


def test_the_scenes_affines_are_those_from_cells_to_input(device: Device) -> None:
    contract = SceneContract(InputSpec(CODEC.input_hw, padding=1.0), CODEC, COCO17)
    outputs: dict[str, Output] = {name: ((19, 20, 24), np.dtype(np.float32), 1.0) for name in ("heatmaps", "pafs")}
    decoder = open_scene_decoder(device.driver, device.kernels, contract, outputs, batch=1, most=8)
    assert decoder
    np.testing.assert_array_equal(decoder.affines(np.zeros((2, 2, 3))), np.tile(TO_INPUT, (2, 1, 1)))
    assert decoder.people_shape == (8, len(OPENPOSE18), 3)


@pytest.mark.parametrize("n", [1, 2, 5])
@pytest.mark.parametrize("resize", ["bilinear", "nearest"])
def test_crops_of_a_cameras_picture_are_those_of_the_contract(
        device: Device, resize: Any, n: int, rng: np.random.Generator) -> None:
    spec = InputSpec((48, 36), resize=resize, mean=(127.5, 120.0, 110.0), std=(127.5, 60.0, 70.0), pad_value=114)
    rgb, boxes = picture(rng), BOXES[:n]
    inputs, to_image = zip(*(preprocess(rgb, box, spec) for box in boxes), strict=True)
    frame = np.ascontiguousarray(rgb[..., ::-1])
    address = device.driver.allocate(n * 3 * 48 * 36 * 4)
    CudaCropper(device.driver, device.kernels, spec.for_bgr_images()).queue(
        n, device.put(frame), frame.shape[:2], device.put(np.stack(to_image).astype(np.float32)), address,
        device.stream)
    levels = np.abs(device.get(address, (n, 3, 48, 36)) - np.stack(inputs)) * np.reshape(spec.std, (3, 1, 1))
    if resize == "nearest":  # where a position lies between two pixels, OpenCV may take the other one
        assert (levels > 0.5).mean() < 0.05
    else:  # as test_crop_kernel.py derives it
        steepest = max(np.abs(np.diff(rgb.astype(int), axis=axis)).max() for axis in (0, 1))
        assert levels.max() <= 2 * max(steepest, 128) / 64 + 1
        assert levels.mean() < 0.3


def test_a_point_goes_where_its_crop_was(rng: np.random.Generator) -> None:
    """What decoder and cropper are both given, stated once: affines from input pixels to the picture's."""
    _, to_image = preprocess(picture(rng), BOXES[0], InputSpec((48, 36), padding=1.0))
    x, y, w, h = BOXES[0]
    middle = transform(np.array([[(36 - 1) / 2, (48 - 1) / 2]]), to_image)
    np.testing.assert_allclose(middle, [[x + (w - 1) / 2, y + (h - 1) / 2]])
