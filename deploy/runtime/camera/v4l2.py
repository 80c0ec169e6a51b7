"""Cameras that Linux shows as /dev/videoN, by V4L2. Knows no CSI sensor, but recognises one."""

from __future__ import annotations

import errno
import fcntl
import os
import struct
from pathlib import Path

import cv2

from deploy.runtime.camera import quiet
from deploy.runtime.camera.pictures import Capture
from edgekp.errors import CameraError
from edgekp.v4l2 import camera_formats, camera_name, is_bayer

# linux/videodev2.h; the sizes of the structures are part of the numbers, so they hold wherever Linux runs
REQBUFS, REQBUFS_BYTES = 0xC0145608, 20
CAPTURE_BUFFERS, MEMORY_MMAP = 1, 1


def open_device(path: str, size_wh: tuple[int, int] | None, fps: float | None) -> Capture:
    """Open a camera for MJPG and the newest picture.

    Raises:
        CameraError: It is not there, it is taken, or it gives no colours.
    """
    check(path)
    quiet.opencv()
    capture = cv2.VideoCapture(path, cv2.CAP_V4L2)
    if not capture.isOpened():
        raise CameraError(f"{path}: V4L2 cannot open it; {hint(path)}")
    # MJPG first: it decides which sizes and rates there are. Raw, USB 2 carries 1280 x 720 only 10 times a second.
    capture.set(cv2.CAP_PROP_FOURCC, cv2.VideoWriter.fourcc(*"MJPG"))
    if size_wh is not None:
        capture.set(cv2.CAP_PROP_FRAME_WIDTH, size_wh[0])
        capture.set(cv2.CAP_PROP_FRAME_HEIGHT, size_wh[1])
    if fps is not None:
        capture.set(cv2.CAP_PROP_FPS, fps)
    capture.set(cv2.CAP_PROP_BUFFERSIZE, 1)
    return capture


def hint(path: str) -> str:
    return f"is another program using it? try: fuser -v {path}; a CSI sensor of a Jetson is csi://0"


def check(path: str) -> None:
    """What OpenCV would answer with a mere False.

    Raises:
        CameraError: There is no such camera, you may not use it, another program does, or it gives raw Bayer pictures.
    """
    if not Path(path).exists():
        raise CameraError(f"{path}: no such camera; {_found()}")
    try:
        device = os.open(path, os.O_RDWR | os.O_NONBLOCK)
    except PermissionError as error:
        raise CameraError(f"{path}: permission denied; join the video group: sudo usermod -aG video $USER, "
                          "and log in again") from error
    except OSError as error:
        if error.errno == errno.EBUSY:
            raise CameraError(f"{path}: another program is using it; which one: fuser -v {path}") from error
        raise CameraError(f"{path}: cannot be opened: {error.strerror}; is it plugged in?") from error
    try:
        _check_open(path, device)
    finally:
        os.close(device)


def _check_open(path: str, device: int) -> None:
    if camera_name(device) is None:
        raise CameraError(f"{path}: not a camera; {_found()}")
    formats = camera_formats(device)
    if formats and all(is_bayer(one) for one in formats):
        raise CameraError(f"{path}: a CSI sensor that gives raw Bayer pictures ({formats[0]}), which V4L2 cannot "
                          "turn into colours; use csi://0")
    if _busy(device):
        raise CameraError(f"{path}: another program is using it; which one: fuser -v {path}")


def _busy(device: int) -> bool:
    """Asking for no buffers does nothing, but is refused while another program has some."""
    question = bytearray(REQBUFS_BYTES)
    struct.pack_into("=III", question, 0, 0, CAPTURE_BUFFERS, MEMORY_MMAP)
    try:
        fcntl.ioctl(device, REQBUFS, question)
    except OSError as error:
        return error.errno == errno.EBUSY
    return False


def _found() -> str:
    """Which cameras there are."""
    found = sorted(str(path) for path in Path("/dev").glob("video*") if _is_camera(path))
    return f"found: {', '.join(found)}" if found else "no camera found; is it plugged in? a CSI sensor is csi://0"


def _is_camera(path: Path) -> bool:
    try:
        device = os.open(path, os.O_RDWR | os.O_NONBLOCK)
    except OSError:
        return True  # taken or forbidden: worth naming
    try:
        return camera_name(device) is not None
    finally:
        os.close(device)
