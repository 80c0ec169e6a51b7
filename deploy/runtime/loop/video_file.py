"""A video of what was drawn, whole or refused. Knows no keypoint."""

from __future__ import annotations

from pathlib import Path
from types import TracebackType

import cv2

from edgekp.atomic import flush
from edgekp.errors import DataError, is_utf8
from edgekp.preprocess import InputSpec, crop, crop_affine, frame_xywh
from edgekp.sample import Image

FOURCC = {".mp4": "mp4v", ".m4v": "mp4v", ".mov": "mp4v", ".mkv": "mp4v", ".avi": "MJPG"}
USUAL_FPS = 30.0


class VideoFile:
    """Frames of one size, that of the first; those of another size are fitted into it. Opened by the first frame.

    They go into ``NAME.partial.mp4``, which takes the name at the end, if the last of them can be read from it: OpenCV
    closes a file without a word on a disk that is full. The video that had the name stays until then. Where a partial
    one is there already, of a recording that was killed or still goes on, it is ``NAME.partial-2.mp4``, and so on.
    """

    def __init__(self, path: Path, fps: float | None) -> None:
        if path.suffix.lower() not in FOURCC:
            raise DataError(f"--save {path}: expected a name that ends in {', '.join(FOURCC)}")
        if not is_utf8(str(path)):
            raise DataError(f"--save {path}: a name that is not UTF-8, which OpenCV cannot write; name another file")
        if not path.parent.is_dir():
            raise DataError(f"--save {path}: there is no folder {path.parent}; make it, or name another file")
        self._path, self._partial = path, Path()  # the second from the first frame on
        self._fps, self._frames = fps or USUAL_FPS, 0
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
        self._frames += 1
        taken: object = self._writer.write(bgr if bgr.shape[:2] == self._hw else _fitted(bgr, self._hw))
        if taken is False:  # OpenCV 5; before, there is no answer
            raise self._unwritten()

    def _open(self, bgr: Image) -> None:
        self._hw = (bgr.shape[0], bgr.shape[1])
        code = cv2.VideoWriter.fourcc(*FOURCC[self._path.suffix.lower()])
        try:
            self._partial = _new_partial(self._path)
        except OSError as error:
            raise DataError(f"--save {self._path}: cannot be written ({error.strerror}); is there space, and may you "
                            "write there?") from error
        writer = cv2.VideoWriter(str(self._partial), code, self._fps, self._hw[::-1])
        if not writer.isOpened():
            self._partial.unlink(missing_ok=True)
            raise DataError(f"--save {self._path}: OpenCV cannot write it; is there space, and may you write there?")
        self._writer = writer

    def __enter__(self) -> VideoFile:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        if self._writer is None:
            return
        self._writer.release()
        if _has_frames(self._partial, self._frames):
            flush(self._partial)
            self._partial.replace(self._path)
            flush(self._path.parent)
            return
        if not _has_frames(self._partial, 1):  # an MP4 without its index
            self._partial.unlink(missing_ok=True)
        if error is None:
            raise self._unwritten()

    def _unwritten(self) -> DataError:
        return DataError(f"--save {self._path}: not all of {self._frames} frames could be written, as on a full disk; "
                         "make room, or name a file elsewhere")


def _new_partial(path: Path) -> Path:
    """An empty file beside it under the first name that nobody has."""
    number = 1
    while True:
        partial = path.with_suffix(f".partial{f'-{number}' if number > 1 else ''}{path.suffix}")
        try:
            partial.touch(exist_ok=False)
            return partial
        except FileExistsError:
            number += 1


def _has_frames(path: Path, frames: int) -> bool:
    """Whether the last of so many can be read; the number in a header says what was meant to follow it."""
    video = cv2.VideoCapture(str(path))
    try:
        return video.isOpened() and video.set(cv2.CAP_PROP_POS_FRAMES, frames - 1) and video.read()[0]
    finally:
        video.release()


def _fitted(bgr: Image, hw: tuple[int, int]) -> Image:
    """The picture as large as it can be in that size, its surroundings black."""
    return crop(bgr, crop_affine(frame_xywh(bgr), hw, padding=1.0), InputSpec(hw))
