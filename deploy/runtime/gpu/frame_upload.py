"""A frame's way to the GPU: through page-locked memory, in bands. Knows no model.

A copy from page-locked memory does not block, so that the GPU fetches one band while the processor writes the next.
There is room for a whole frame, so that no band waits for another; an estimator has one frame at a time in its hands.
"""

from __future__ import annotations

import numpy as np

from deploy.runtime.gpu.driver import CudaDriver, Stream
from edgekp.sample import Image

BANDS = 4


class FrameUpload:
    """Memory for one frame on the host and on the device; it grows with the frames and never shrinks.

    Attributes:
        address: of the uploaded frame, (height, width, 3) bytes without gaps.
    """

    def __init__(self, driver: CudaDriver) -> None:
        self._driver = driver
        self._host = np.empty(0, np.uint8)
        self.address = 0

    def queue(self, bgr: Image, stream: Stream) -> None:
        """Copy a frame, of whatever size and strides; nothing on the stream may still read the one before."""
        if bgr.size > self._host.size:
            self._grow(bgr.size)
        frame = self._host[:bgr.size].reshape(bgr.shape)
        height, row_bytes = len(bgr), bgr[0].size
        for band in range(BANDS):
            first, end = height * band // BANDS, height * (band + 1) // BANDS
            if first < end:
                np.copyto(frame[first:end], bgr[first:end])
                self._driver.to_device(self.address + first * row_bytes, frame[first:end], stream)

    def close(self) -> None:
        if self.address:
            self._driver.free(self.address)
            self.address = 0

    def _grow(self, size_bytes: int) -> None:
        self.close()
        self._host = self._driver.pinned((size_bytes,), np.uint8)
        self.address = self._driver.allocate(size_bytes)
