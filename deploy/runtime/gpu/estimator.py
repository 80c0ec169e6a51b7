"""From a frame to keypoints on a GPU: crops, network and decoding, without a pixel or a heatmap that comes back.

Knows no camera. What crosses to the host is (N, K, 3), 204 bytes of a person with 17 keypoints; the heatmaps that they
are read from, 17 x 64 x 48, are 208,896.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from functools import partial
from itertools import pairwise
from time import perf_counter
from typing import Protocol

import numpy as np

from deploy.runtime.frame import Estimate
from deploy.runtime.gpu.answers import answer_of
from deploy.runtime.gpu.decode import CudaCropper
from deploy.runtime.gpu.device_memory import DeviceMemory
from deploy.runtime.gpu.driver import CudaDriver, Event, Kernel
from deploy.runtime.gpu.frame_upload import FrameUpload
from deploy.runtime.gpu.replayed_work import RUNS_BEFORE_CAPTURE, ReplayedWork
from deploy.runtime.trt.engine import Binding
from edgekp.contract import AnyContract, Contract
from edgekp.errors import EngineError
from edgekp.preprocess import crop_affine, frame_xywh, invert
from edgekp.sample import Float, Image


class Engine(Protocol):
    """A network on the GPU; an engine of TensorRT is one."""

    @property
    def inputs(self) -> Mapping[str, Binding]:
        """What ``bind`` is to be given memory for; one input."""

    @property
    def outputs(self) -> Mapping[str, Binding]:
        """The same for what it says."""

    @property
    def least(self) -> int:
        """The smallest batch."""

    @property
    def most(self) -> int:
        """The largest batch."""

    def set_batch(self, batch: int) -> None:
        """How many inputs the next runs have."""

    def bind(self, name: str, address: int) -> None:
        """Where a tensor lies."""

    def enqueue(self, stream: int) -> None:
        """Queue one run."""

    def close(self) -> None:
        """Give back what it holds."""


class GpuEstimator:
    """An engine, its contract and the kernels around it; an ``Estimator``. It owns the engine and the driver.

    Boxes go through the engine in parts of its largest batch. The parts of a frame are filled up to one size, because
    another size would cost the CUDA graph, as ``ReplayedWork`` says.

    Args:
        runs_before_capture: of one number of boxes and one size of frames, before they become a CUDA graph.
    """

    def __init__(self, contract: AnyContract, engine: Engine, driver: CudaDriver, kernels: Mapping[str, Kernel],
                 runs_before_capture: int = RUNS_BEFORE_CAPTURE) -> None:
        self.needs_boxes = isinstance(contract, Contract)
        self._driver, self._engine = driver, engine
        self._spec = contract.input.for_bgr_images()
        self._most = engine.most if self.needs_boxes else engine.least
        self._batch = 0
        with ExitStack() as undo:  # closes all of it where the rest fails
            undo.callback(driver.close)
            undo.callback(engine.close)
            memory = DeviceMemory(driver)
            undo.callback(memory.close)
            addresses = _bind(engine, memory)
            input_name, = engine.inputs
            _check_input(engine.inputs[input_name], self._spec.input_hw)
            self._inputs = addresses[input_name]
            self._affines = driver.pinned((2, self._most, 2, 3), np.float32)  # of the crops, of the answer
            self._affines_address = memory.take(self._affines.nbytes)
            self._cropper = CudaCropper(driver, kernels, self._spec)
            self._answer = answer_of(contract, driver, kernels, engine.outputs, addresses, self._most)
            undo.callback(self._answer.close)
            self._frame = FrameUpload(driver)
            undo.callback(self._frame.close)
            self._stream = driver.new_stream()
            self._replayed = ReplayedWork(driver, self._stream, runs_before_capture)
            self._marks: list[Event] = [driver.new_event() for _ in range(4)]
            self._owned = undo.pop_all()

    def estimate(self, bgr: Image, boxes_xywh: Float) -> Estimate:
        boxes = boxes_xywh if self.needs_boxes else frame_xywh(bgr)[None]
        if not len(boxes):
            return Estimate([], 0.0, 0.0, 0.0)
        batch = min(max(len(boxes), self._engine.least), self._most)
        self._driver.record(self._marks[0], self._stream)
        self._frame.queue(bgr, self._stream)
        parts = [self._estimate_some(bgr, boxes[first:first + batch], batch, is_first=not first)
                 for first in range(0, len(boxes), batch)]
        return Estimate([person for part in parts for person in part.people], sum(part.pre_ms for part in parts),
                        sum(part.infer_ms for part in parts), sum(part.decode_ms for part in parts))

    @property
    def replays_a_graph(self) -> bool:
        """Whether the last boxes went through a CUDA graph."""
        return self._replayed.is_graph

    def close(self) -> None:
        self._owned.close()

    def _estimate_some(self, bgr: Image, boxes_xywh: Float, batch: int, *, is_first: bool) -> Estimate:
        """The frame is on the device, or on its way there; ``is_first`` if the time of that counts here."""
        if not is_first:
            self._driver.record(self._marks[0], self._stream)
        input_to_image = np.stack([invert(crop_affine(box, self._spec.input_hw, self._spec.padding,
                                                      align=self._spec.align)) for box in boxes_xywh])
        self._place(input_to_image, batch)
        if batch != self._batch:
            self._engine.set_batch(batch)
            self._batch = batch
        self._replayed.run((batch, bgr.shape, self._frame.address), partial(self._queue, bgr.shape[:2], batch))
        self._driver.synchronize(self._stream)
        start = perf_counter()
        people = self._answer.people(len(boxes_xywh), input_to_image)
        pre_ms, infer_ms, decode_ms = (self._driver.elapsed_ms(*pair) for pair in pairwise(self._marks))
        return Estimate(people, pre_ms, infer_ms, decode_ms + 1e3 * (perf_counter() - start))

    def _place(self, input_to_image: Float, batch: int) -> None:
        """Write where each input of a batch lies in the frame; behind the last box come more of it."""
        filled = input_to_image[np.minimum(np.arange(batch), len(input_to_image) - 1)]
        self._affines[0, :batch] = filled
        self._affines[1, :batch] = self._answer.affines(filled)

    def _queue(self, frame_hw: tuple[int, int], batch: int) -> None:
        """All between an uploaded frame and an answer on the host; crops of all boxes are one launch."""
        driver, stream, (_, cropped, inferred, done) = self._driver, self._stream, self._marks
        driver.to_device(self._affines_address, self._affines, stream)
        self._cropper.queue(batch, self._frame.address, frame_hw, self._affines_address, self._inputs, stream)
        driver.record(cropped, stream)
        self._engine.enqueue(stream.handle)
        driver.record(inferred, stream)
        self._answer.queue(batch, self._affines_address + self._affines[0].nbytes, stream)
        driver.record(done, stream)


def _bind(engine: Engine, memory: DeviceMemory) -> dict[str, int]:
    """Memory for every tensor of an engine, for its largest batch."""
    tensors = {**engine.inputs, **engine.outputs}
    addresses = {name: memory.take(binding.bytes_of(engine.most)) for name, binding in tensors.items()}
    for name, address in addresses.items():
        engine.bind(name, address)
    return addresses


def _check_input(binding: Binding, input_hw: tuple[int, int]) -> None:
    """Crops are made in float32 and in planes; a network that asks for other numbers was not exported for this."""
    if binding.dtype != np.float32 or binding.shape != (3, *input_hw):
        raise EngineError(f"the engine's input is {np.dtype(binding.dtype)} {binding.shape}, expected float32 "
                          f"{(3, *input_hw)}; export the model with float32 inputs and build its engine again")
