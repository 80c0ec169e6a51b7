"""Queues what the kernels do for a batch: crops before the network, keypoints after it. Knows no engine and no camera.

Everything lies in device memory whose addresses the caller has; nothing here waits, allocates or copies once it is set
up, so that all of it can be captured as a CUDA graph. Affines are (N, 2, 3) float32, written anew for every frame.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from deploy.runtime.gpu.decode_plan import DecodePlan, plan_of
from deploy.runtime.gpu.driver import Array, CudaDriver, Kernel, Stream
from edgekp.contract import Contract
from edgekp.preprocess import InputSpec
from edgekp.sample import Float

Output = tuple[tuple[int, ...], "np.dtype[np.generic]", float]  # shape without the batch, type, and what a 1 stands for
Number = np.generic

SUFFIXES = {np.dtype(np.float32): "f32", np.dtype(np.float16): "f16", np.dtype(np.int8): "i8"}
BLOCKS = {"decode_heatmaps": 128, "decode_offsets": 128, "decode_means": 128, "decode_simcc": 64,
          "decode_coordinates": 32}
CROP_BLOCK = 256


def open_decoder(driver: CudaDriver, kernels: Mapping[str, Kernel], contract: Contract,
                 outputs: Mapping[str, Output]) -> CudaDecoder | None:
    """What decodes these outputs on the GPU; None where the host must do it.

    Args:
        outputs: by name, as the engine has them; scales are those of int8, otherwise 1.
    """
    plan = plan_of(contract.codec)
    stored = [outputs[name] for name in contract.codec.outputs]
    suffixes = {SUFFIXES.get(np.dtype(dtype)) for _, dtype, _ in stored}
    if plan is None or len(suffixes) > 1 or None in suffixes:
        return None
    return CudaDecoder(driver, kernels[f"{plan.kernel}_{suffixes.pop()}"], plan,
                       dict(zip(contract.codec.outputs, stored, strict=True)))


class CudaDecoder:
    """One kernel that turns a batch of a codec's outputs into keypoints."""

    def __init__(self, driver: CudaDriver, kernel: Kernel, plan: DecodePlan, outputs: Mapping[str, Output]) -> None:
        self._driver, self._kernel, self._plan, self._outputs = driver, kernel, plan, outputs
        self._shape = next(iter(outputs.values()))[0]
        self._taps = upload(driver, plan.taps)

    @property
    def keypoints_shape(self) -> tuple[int, int]:
        """Of one person: (K, 3) as x, y in image pixels and score."""
        return self._shape[0], 3

    def affines(self, input_to_image: Float) -> Float:
        """(N, 2, 3) float32: what must lie at ``affines_address`` when the kernel runs."""
        return self._plan.to_image(input_to_image)

    def queue(self, n: int, addresses: Mapping[str, int], affines_address: int, keypoints_address: int,
              stream: Stream) -> None:
        """Queue the decoding of ``n`` people into (N, K, 3) float32.

        Args:
            addresses: of the outputs, by name.
        """
        numbers = [number for name, output in self._outputs.items() for number in self._of(addresses[name], output)]
        if self._plan.kernel in ("decode_heatmaps", "decode_offsets", "decode_means"):
            numbers += map(np.int32, self._shape[1:])
        numbers.append(np.uint64(affines_address))
        if self._plan.kernel == "decode_heatmaps":
            numbers += [np.int32(self._plan.refine), np.uint64(self._taps), np.int32(self._plan.reach)]
        if self._plan.kernel == "decode_means":
            numbers.append(np.float32(self._plan.sharpest))
        numbers.append(np.uint64(keypoints_address))
        self._driver.launch(self._kernel, (self._shape[0], n), BLOCKS[self._plan.kernel], numbers, stream)

    def _of(self, address: int, output: Output) -> list[Number]:
        shape, _, scale = output
        bins = [np.int32(shape[1])] if self._plan.kernel == "decode_simcc" else []
        return [np.uint64(address), np.float32(scale), *bins]

    def close(self) -> None:
        self._driver.free(self._taps)


class CudaCropper:
    """One kernel that makes a network's inputs of the places in a picture where people are."""

    def __init__(self, driver: CudaDriver, kernels: Mapping[str, Kernel], spec: InputSpec) -> None:
        """``spec`` is that of an RGB picture; for BGR, as cameras give it, ``InputSpec.for_bgr_images``."""
        self._driver, self._kernel, self._spec = driver, kernels["crop_pictures"], spec
        sources = (0, 1, 2) if spec.color == "RGB" else (2, 1, 0)
        floats = np.array([*spec.mean, *spec.std, *(spec.pad_value,) * 3], np.float32)
        self._normalisation = np.void(floats.tobytes() + np.array(sources, np.int32).tobytes())

    def queue(self, n: int, picture_address: int, picture_hw: tuple[int, int], affines_address: int,
              inputs_address: int, stream: Stream) -> None:
        """Queue ``n`` inputs, (N, 3, h, w) float32.

        Args:
            picture_address: of (H, W, 3) bytes without gaps.
            affines_address: of those from input pixels to the picture's.
        """
        (height, width), (h, w) = picture_hw, self._spec.input_hw
        numbers = [np.uint64(picture_address), np.int32(height), np.int32(width), np.int32(3 * width),
                   np.uint64(affines_address), np.int32(h), np.int32(w), self._normalisation,
                   np.int32(self._spec.resize == "nearest"), np.uint64(inputs_address)]
        self._driver.launch(self._kernel, (-(-h * w // CROP_BLOCK), n), CROP_BLOCK, numbers, stream)


def upload(driver: CudaDriver, constant: Array) -> int:
    """The address of device memory that holds a contiguous array."""
    host, stream = driver.pinned(constant.shape, constant.dtype), driver.new_stream()
    host[...] = constant
    address = driver.allocate(constant.nbytes)
    driver.to_device(address, host, stream)
    driver.synchronize(stream)
    return address
