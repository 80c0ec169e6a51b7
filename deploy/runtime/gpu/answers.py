"""What comes back from a GPU after the network: keypoints where kernels decode, else its outputs. Knows no frame."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import numpy as np

from deploy.runtime.gpu.decode import CudaDecoder, open_decoder
from deploy.runtime.gpu.device_memory import DeviceMemory
from deploy.runtime.gpu.driver import Array, CudaDriver, Kernel, Stream
from deploy.runtime.gpu.scene_decode import CudaSceneDecoder, open_scene_decoder
from deploy.runtime.host_estimator import read
from deploy.runtime.trt.engine import Binding
from edgekp.contract import VISIBILITY, AnyContract, Contract, SceneContract
from edgekp.sample import Float, Prediction
from edgekp.stage import say

MOST_PEOPLE = 32  # of a scene


class Answer(Protocol):
    """How the outputs of a network become people."""

    def affines(self, input_to_image: Float) -> Float:
        """(N, 2, 3) that must lie at ``affines_address`` before the work that ``queue`` queued is run."""

    def queue(self, n: int, affines_address: int, stream: Stream) -> None:
        """Queue what follows the network, copies to the host included."""

    def people(self, n: int, input_to_image: Float) -> list[Prediction]:
        """Those of the first ``n`` inputs, once the stream is empty."""

    def close(self) -> None:
        """Give back what it holds."""


class CopiedBack:
    """Arrays on the device that come to page-locked memory; the first axis is the batch."""

    def __init__(self, driver: CudaDriver, most: int) -> None:
        self._driver, self._most = driver, most
        self._copies: dict[str, tuple[int, Array]] = {}

    def add(self, name: str, address: int, binding: Binding) -> None:
        self._copies[name] = address, self._driver.pinned((self._most, *binding.shape), binding.dtype)

    def queue(self, n: int, stream: Stream) -> None:
        for address, array in self._copies.values():
            self._driver.to_host(array[:n], address, stream)

    def first(self, n: int) -> dict[str, Array]:
        """Valid until the next run, which writes to the same memory."""
        return {name: array[:n] for name, (_, array) in self._copies.items()}


class DecodedKeypoints:
    """One person for each input, by the codec's kernel. Of the network's outputs only visibility is copied."""

    def __init__(self, contract: Contract, driver: CudaDriver, decoder: CudaDecoder, outputs: Mapping[str, Binding],
                 addresses: Mapping[str, int], most: int) -> None:
        self._contract, self._decoder, self._addresses = contract, decoder, addresses
        self._memory, self._copied = DeviceMemory(driver), CopiedBack(driver, most)
        keypoints = Binding(decoder.keypoints_shape, np.float32)
        self._keypoints = self._memory.take(keypoints.bytes_of(most))
        self._copied.add("keypoints", self._keypoints, keypoints)
        if contract.visibility:
            self._copied.add(VISIBILITY, addresses[VISIBILITY], outputs[VISIBILITY])

    def affines(self, input_to_image: Float) -> Float:
        return self._decoder.affines(input_to_image)

    def queue(self, n: int, affines_address: int, stream: Stream) -> None:
        self._decoder.queue(n, self._addresses, affines_address, self._keypoints, stream)
        self._copied.queue(n, stream)

    def people(self, n: int, input_to_image: Float) -> list[Prediction]:
        arrays = self._copied.first(n)
        visible = self._contract.visible(arrays)
        return [Prediction(rows[:, :2], rows[:, 2], None if visible is None else visible[number])
                for number, rows in enumerate(arrays["keypoints"].astype(np.float64))]

    def close(self) -> None:
        self._decoder.close()
        self._memory.close()


class DecodedScene:
    """The people of the first input, by OpenPose's kernels."""

    def __init__(self, contract: SceneContract, driver: CudaDriver, decoder: CudaSceneDecoder,
                 addresses: Mapping[str, int], most: int) -> None:
        self._contract, self._decoder, self._addresses = contract, decoder, addresses
        self._memory, self._copied = DeviceMemory(driver), CopiedBack(driver, most)
        self._places = {}
        for name, binding in (("people", Binding(decoder.people_shape, np.float32)), ("found", Binding((), np.int32))):
            self._places[name] = self._memory.take(binding.bytes_of(most))
            self._copied.add(name, self._places[name], binding)

    def affines(self, input_to_image: Float) -> Float:
        return self._decoder.affines(input_to_image)

    def queue(self, n: int, affines_address: int, stream: Stream) -> None:
        self._decoder.queue(n, self._addresses, affines_address, self._places["people"], self._places["found"], stream)
        self._copied.queue(n, stream)

    def people(self, n: int, input_to_image: Float) -> list[Prediction]:
        arrays = self._copied.first(1)
        people = arrays["people"][0, :int(arrays["found"][0])].astype(np.float64)
        return self._contract.place(people[..., :2], people[..., 2], input_to_image[0])

    def close(self) -> None:
        self._decoder.close()
        self._memory.close()


class DecodedByHost:
    """People by the contract itself, from all outputs."""

    def __init__(self, contract: AnyContract, driver: CudaDriver, outputs: Mapping[str, Binding],
                 addresses: Mapping[str, int], most: int) -> None:
        self._contract, self._copied = contract, CopiedBack(driver, most)
        for name, binding in outputs.items():
            self._copied.add(name, addresses[name], binding)

    def affines(self, input_to_image: Float) -> Float:
        return input_to_image

    def queue(self, n: int, affines_address: int, stream: Stream) -> None:
        self._copied.queue(n, stream)

    def people(self, n: int, input_to_image: Float) -> list[Prediction]:
        arrays = {name: array.astype(np.float32) for name, array in self._copied.first(n).items()}
        return read(self._contract, arrays, input_to_image)

    def close(self) -> None:
        """Nothing: page-locked memory belongs to the driver."""


def answer_of(contract: AnyContract, driver: CudaDriver, kernels: Mapping[str, Kernel],
              outputs: Mapping[str, Binding], addresses: Mapping[str, int], most: int) -> Answer:
    """By kernels if they know the codec, and the type of the numbers that the engine's outputs are."""
    stored = {name: (binding.shape, np.dtype(binding.dtype), 1.0) for name, binding in outputs.items()}
    if isinstance(contract, SceneContract):
        scenes = open_scene_decoder(driver, kernels, contract, stored, most, MOST_PEOPLE)
        if scenes:
            return DecodedScene(contract, driver, scenes, addresses, most)
    else:
        decoder = open_decoder(driver, kernels, contract, stored)
        if decoder:
            return DecodedKeypoints(contract, driver, decoder, outputs, addresses, most)
    numbers = ", ".join(sorted({str(np.dtype(binding.dtype)) for binding in outputs.values()}))
    say(f"gpu: no kernel decodes outputs of codec '{type(contract.codec).__name__}' in {numbers}; the host does")
    return DecodedByHost(contract, driver, outputs, addresses, most)
