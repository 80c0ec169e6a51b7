"""A video of what was drawn. Knows no keypoint."""

from __future__ import annotations

from pathlib import Path
from types import TracebackType

import cv2

from edgekp.errors import DataError
from edgekp.preprocess import InputSpec, crop, crop_affine, frame_xywh
from edgekp.sample import Image

FOURCC = {".mp4": "mp4v", ".m4v": "mp4v", ".mov": "mp4v", ".mkv": "mp4v", ".avi": "MJPG"}
USUAL_FPS = 30.0


class VideoFile:
    """Frames of one size, that of the first; those of another size are fitted into it. Opened by the first frame."""

    def __init__(self, path: Path, fps: float | None) -> None:
        if path.suffix.lower() not in FOURCC:
            raise DataError(f"--save {path}: expected a name that ends in {', '.join(FOURCC)}")
        if not path.parent.is_dir():
            raise DataError(f"--save {path}: there is no folder {path.parent}; make it, or name another file")
        self._path, self._fps = path, fps or USUAL_FPS
        self._writer: cv2.VideoWriter | None = None
        self._hw = (0, 0)

    def write(self, bgr: Image) -> None:
        """Append a picture.

        Raises:
            DataError: The file cannot be written.
        """
        if self._writer is None:
            self._open(bgr)
        assert self._writer is not None
        self._writer.write(bgr if bgr.shape[:2] == self._hw else _fitted(bgr, self._hw))

    def _open(self, bgr: Image) -> None:
        self._hw = (bgr.shape[0], bgr.shape[1])
        code = cv2.VideoWriter.fourcc(*FOURCC[self._path.suffix.lower()])
        self._writer = cv2.VideoWriter(str(self._path), code, self._fps, self._hw[::-1])
        if not self._writer.isOpened():
            raise DataError(f"--save {self._path}: OpenCV cannot write it; is there space, and may you write there?")

    def __enter__(self) -> VideoFile:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        if self._writer is not None:
            self._writer.release()


def _fitted(bgr: Image, hw: tuple[int, int]) -> Image:
    """The picture as large as it can be in that size, its surroundings black."""
    return crop(bgr, crop_affine(frame_xywh(bgr), hw, padding=1.0), InputSpec(hw))
