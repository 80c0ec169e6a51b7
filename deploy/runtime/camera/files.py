"""Videos and pictures on a disk. Knows no camera."""

from __future__ import annotations

import os
from pathlib import Path

import cv2
import numpy as np

from deploy.runtime.camera import quiet
from deploy.runtime.camera.pictures import Capture
from edgekp.address import shown
from edgekp.errors import CameraError, DataError
from edgekp.image_header import begins_as_image, read_image_file
from edgekp.sample import Image

SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp")


def open_video(path: Path) -> Capture:
    """Open a video file.

    Raises:
        CameraError: It is not there, OpenCV cannot read it, or it is a picture that may not be decoded.
    """
    _check_readable(path)
    try:
        if begins_as_image(path):  # FFmpeg decodes pictures too, whatever their name
            read_image_file(path)
    except (DataError, OSError) as error:
        raise CameraError(str(error)) from error
    quiet.opencv()
    capture = cv2.VideoCapture(str(path.resolve()), cv2.CAP_ANY)  # the whole path: a name may look like an address
    if not capture.isOpened():
        raise CameraError(f"{path}: OpenCV cannot read it as a video; is it cut short? try: ffprobe {path}")
    return capture


class PictureFiles:
    """A picture, or the pictures of a folder by name, behind the protocol of a video."""

    def __init__(self, path: Path) -> None:
        if path.is_dir():
            self._paths = sorted(one for one in path.iterdir() if one.suffix.lower() in SUFFIXES)
            if not self._paths:
                raise CameraError(f"{path}: no pictures in this folder; expected names with {', '.join(SUFFIXES)}")
        else:
            _check_readable(path)
            self._paths = [path]
        self._next = 0

    def grab(self) -> bool:
        self._next += 1
        return self._next <= len(self._paths)

    def retrieve(self) -> tuple[bool, Image | None]:
        try:
            data = read_image_file(self._paths[self._next - 1])
            bgr = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
        except (DataError, cv2.error):
            return False, None
        return bgr is not None, None if bgr is None else np.asarray(bgr, dtype=np.uint8)

    def get(self, prop: int, /) -> float:
        return float(len(self._paths)) if prop == cv2.CAP_PROP_FRAME_COUNT else 0.0

    def release(self) -> None:
        self._next = len(self._paths)


def _check_readable(path: Path) -> None:
    if not path.exists():
        raise CameraError(f"{shown(str(path))}: no such file; expected a video, a folder of pictures, or a camera such "
                          "as 0, /dev/video0, csi://0 or rtsp://HOST/PATH")
    if not path.is_file():
        raise CameraError(f"{path}: neither a file nor a folder; expected a video, a picture or a folder of pictures")
    if not os.access(path, os.R_OK):
        raise CameraError(f"{path}: may not be read by you; try: chmod +r {path}")
    if path.stat().st_size == 0:
        raise CameraError(f"{path}: an empty file, expected a video or a picture")
