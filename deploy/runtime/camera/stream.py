"""Video that comes over a network, by FFmpeg or GStreamer."""

from __future__ import annotations

import os
import socket

import cv2

from deploy.runtime.camera import gstreamer, quiet
from deploy.runtime.camera.pictures import Capture
from edgekp.address import ADDRESS, shown
from edgekp.errors import CameraError

PORTS = {"rtsp": 554, "rtsps": 322, "http": 80, "https": 443}
TIMEOUT_S = 5.0
HINT = "is it the right address, user and password? try: ffplay ADDRESS"
# TCP loses no packets and passes firewalls. OpenCV gives these to the container alone: what a decoder understands, such
# as low_delay, does nothing here. Not nobuffer: the variable holds for every file that OpenCV opens later, and with it
# the last picture of a saved video is not found.
OPTIONS = "rtsp_transport;tcp"
THREADS = getattr(cv2, "CAP_PROP_N_THREADS", None)  # JetPack 6's OpenCV 4.5 has none, and refuses what it does not know
FULL_HD = 1920 * 1088  # pixels of a picture that one core decodes as fast as they come; 4K takes four


def open_stream(address: str) -> Capture:
    """Open an address.

    Raises:
        CameraError: Nobody answers there, or gives no video.
    """
    if not gstreamer.built_in("FFMPEG"):
        return gstreamer.open_pipeline(shown(address), gstreamer.stream_pipeline(address))
    quiet.opencv()
    os.environ.setdefault("OPENCV_FFMPEG_CAPTURE_OPTIONS", OPTIONS)
    capture = _capture(address, threads=1)
    pixels = capture.get(cv2.CAP_PROP_FRAME_WIDTH) * capture.get(cv2.CAP_PROP_FRAME_HEIGHT)
    if THREADS is not None and pixels > FULL_HD:
        capture.release()
        capture = _capture(address, threads=4)
    if not capture.isOpened():
        raise CameraError(f"{shown(address)}: {_why_not(address)}")
    return capture


def _capture(address: str, threads: int) -> cv2.VideoCapture:
    """Every thread beyond the first holds one picture back: the decoder fills all of them before it gives the first."""
    limit_ms = int(TIMEOUT_S * 1000)
    wishes = [cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, limit_ms, cv2.CAP_PROP_READ_TIMEOUT_MSEC, limit_ms]
    if THREADS is not None:
        wishes += [THREADS, threads]
    return cv2.VideoCapture(address, cv2.CAP_FFMPEG, wishes)


def _why_not(address: str) -> str:
    """OpenCV does not say why it cannot open an address: see whether anybody listens there."""
    found = ADDRESS.fullmatch(address)
    if found is None:
        return "no address; expected rtsp://USER:PASSWORD@HOST:PORT/PATH, with %40 for @ and %2F for / in a password"
    host, port = found[2].strip("[]"), int(found[3][1:]) if found[3] else PORTS[found[1].lower()]
    try:
        socket.create_connection((host, port), TIMEOUT_S).close()
    except (OSError, OverflowError, UnicodeError) as error:  # no port; no name of a host
        return f"nobody answers at port {port} ({error}); is it switched on and in this network?"
    return f"it answers, but gives no video; {HINT}"
