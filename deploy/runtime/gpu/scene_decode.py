"""Queues the three kernels that find the people of a scene in OpenPose's maps and fields. Knows no engine."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from deploy.runtime.gpu.decode import Output, upload
from deploy.runtime.gpu.driver import CudaDriver, Kernel, Stream
from edgekp.codecs.openpose import LIMBS
from edgekp.codecs.openpose_decode import MOST_PEAKS
from edgekp.contract import SceneContract
from edgekp.sample import Float
from edgekp.skeletons import OPENPOSE18

BLOCK = 256
K, L = len(OPENPOSE18), len(LIMBS)
FLOAT_BYTES = INT_BYTES = 4


def open_scene_decoder(driver: CudaDriver, kernels: Mapping[str, Kernel], contract: SceneContract,
                       outputs: Mapping[str, Output], batch: int, most: int) -> CudaSceneDecoder | None:
    """What decodes these outputs on the GPU; None where they are not float32, which the kernels want.

    Args:
        batch: the most scenes at once.
        most: the most people of a scene; of more, the best are kept.
    """
    if any(np.dtype(dtype) != np.float32 for _, dtype, _ in outputs.values()):
        return None
    return CudaSceneDecoder(driver, kernels, contract, outputs["heatmaps"][0], batch, most)


class CudaSceneDecoder:
    """Peaks, limbs and people, with the memory between them.

    Attributes:
        people_shape: of one scene: (most, K, 3) as x, y in input pixels and score, for OpenPose's 18 keypoints.
    """

    def __init__(self, driver: CudaDriver, kernels: Mapping[str, Kernel], contract: SceneContract,
                 heatmaps_shape: tuple[int, ...], batch: int, most: int) -> None:
        self.people_shape = (most, K, 3)
        self._driver, self._kernels, self._grid, self._most = driver, kernels, contract.codec.grid, most
        self._channels, self._h, self._w = map(np.int32, heatmaps_shape)
        self._limbs = upload(driver, np.ascontiguousarray(LIMBS, np.int32))
        self._peaks = driver.allocate(batch * K * MOST_PEAKS * 3 * FLOAT_BYTES)
        self._counts = driver.allocate(batch * K * INT_BYTES)
        self._scores = driver.allocate(batch * L * MOST_PEAKS**2 * FLOAT_BYTES)

    def affines(self, input_to_image: Float) -> Float:
        """(N, 2, 3) float32 for ``affines_address``: from cells to input pixels, whatever the image is.

        ``SceneContract.place`` takes people from there to the image.
        """
        x, y = self._grid.stride_xy
        to_input = np.array([[x, 0, self._grid.origin], [0, y, self._grid.origin]], np.float32)
        return np.tile(to_input, (len(input_to_image), 1, 1))

    def queue(self, n: int, addresses: Mapping[str, int], affines_address: int, people_address: int,
              found_address: int, stream: Stream) -> None:
        """Queue the decoding of ``n`` scenes into people (N, most, K, 3) float32 and their numbers (N,) int32."""
        heatmaps, fields, peaks, counts, scores, limbs = map(np.uint64, (
            addresses["heatmaps"], addresses["pafs"], self._peaks, self._counts, self._scores, self._limbs))
        keypoints = np.int32(K)
        self._launch("find_scene_peaks", (K, n), stream, heatmaps, np.float32(1), self._channels, self._h, self._w,
                     peaks, counts)
        self._launch("score_scene_limbs", (L, n), stream, fields, self._h, self._w, peaks, counts, keypoints, limbs,
                     scores)
        self._launch("assemble_people", (n, 1), stream, peaks, counts, keypoints, scores, limbs, np.int32(L),
                     np.uint64(affines_address), np.int32(self._most), np.uint64(people_address),
                     np.uint64(found_address))

    def _launch(self, name: str, grid: tuple[int, int], stream: Stream, *numbers: np.generic) -> None:
        self._driver.launch(self._kernels[name], grid, BLOCK, numbers, stream)

    def close(self) -> None:
        for address in (self._limbs, self._peaks, self._counts, self._scores):
            self._driver.free(address)
