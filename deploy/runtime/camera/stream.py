"""Video that comes over a network, by FFmpeg or GStreamer. Never shows who may see it."""

from __future__ import annotations

import os
import re
import socket

import cv2

from deploy.runtime.camera import gstreamer, quiet
from deploy.runtime.camera.pictures import Capture
from edgekp.errors import CameraError

PORTS = {"rtsp": 554, "rtsps": 322, "http": 80, "https": 443}
TIMEOUT_S = 5.0
HINT = "is it the right address, user and password? try: ffplay ADDRESS"
# TCP loses no packets and passes firewalls; low_delay keeps the decoder from holding pictures back. Not nobuffer: the
# variable holds for every file that OpenCV opens later, and with it the last picture of a saved video is not found.
OPTIONS = "rtsp_transport;tcp|flags;low_delay"
# What cannot be read without doubt is not shown: a password may hold any character, a path or a query may hold one.
ADDRESS = re.compile(r"([A-Za-z]+)://(?:[^@/?#]*@)?(\[[0-9A-Fa-f:.]+\]|[\w.-]+)(:\d+)?(?:[/?#][^@]*)?")


def shown(name: str) -> str:
    """A name without what may be secret in it: user, password, path and query, and all properties of a pipeline."""
    scheme, separator, rest = name.partition("://")
    if not separator:
        return name if "@" not in name else "(a name with an @ in it, not shown because of a password it may hold)"
    if scheme == "gst":
        return f"gst://{re.match('[a-z0-9_]*', rest.strip())[0]} ..."  # type: ignore[index]  # it matches nothing too
    found = ADDRESS.fullmatch(name)
    return f"{found[1]}://{found[2]}{found[3] or ''}/..." if found else f"{scheme}://..."


def open_stream(address: str) -> Capture:
    """Open an address.

    Raises:
        CameraError: Nobody answers there, or gives no video.
    """
    if not gstreamer.built_in("FFMPEG"):
        return gstreamer.open_pipeline(shown(address), gstreamer.stream_pipeline(address))
    quiet.opencv()
    os.environ.setdefault("OPENCV_FFMPEG_CAPTURE_OPTIONS", OPTIONS)
    limit_ms = int(TIMEOUT_S * 1000)
    capture = cv2.VideoCapture(address, cv2.CAP_FFMPEG, [cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, limit_ms,
                                                         cv2.CAP_PROP_READ_TIMEOUT_MSEC, limit_ms])
    if not capture.isOpened():
        raise CameraError(f"{shown(address)}: {_why_not(address)}")
    return capture


def _why_not(address: str) -> str:
    """OpenCV does not say why it cannot open an address: see whether anybody listens there."""
    found = ADDRESS.fullmatch(address)
    if found is None:
        return "no address; expected rtsp://USER:PASSWORD@HOST:PORT/PATH, with %40 for @ and %2F for / in a password"
    host, port = found[2].strip("[]"), int(found[3][1:]) if found[3] else PORTS[found[1].lower()]
    try:
        socket.create_connection((host, port), TIMEOUT_S).close()
    except (OSError, OverflowError) as error:
        return f"nobody answers at port {port} ({error}); is it switched on and in this network?"
    return f"it answers, but gives no video; {HINT}"
