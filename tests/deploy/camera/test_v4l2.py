"""What V4L2 knows of a device is asked before OpenCV, which would only answer False."""

from __future__ import annotations

import errno
import fcntl
import os
import re
import struct
from pathlib import Path
from typing import Any

import cv2
import pytest

from deploy.runtime.camera import CameraError, v4l2
from edgekp import v4l2 as v4l2_of_linux

HEADER = Path("/usr/include/linux/videodev2.h")


class Driver:
    """In place of the kernel, by the layouts of linux/videodev2.h."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, formats: list[bytes], *, device_caps: int = 0x04200001,
                 busy: bool = False) -> None:
        self.formats, self.device_caps, self.busy = formats, device_caps, busy
        monkeypatch.setattr(fcntl, "ioctl", self.ioctl)

    def ioctl(self, device: int, request: int, argument: bytearray) -> int:
        os.fstat(device)  # it is open
        assert len(argument) == request >> 16 & 0x3FFF  # the size that is part of the number
        if request == v4l2_of_linux.QUERYCAP:  # driver[16], card[32], bus_info[32], version, capabilities, device_caps
            struct.pack_into("=16s32s32sIII", argument, 0, b"uvcvideo", b"Camera", b"usb", 0, 0x84A00001,
                             self.device_caps)
        elif request == v4l2_of_linux.ENUM_FMT:  # index, type, flags, description[32], pixelformat
            index, kind = struct.unpack_from("=II", argument)
            assert kind == 1
            if index >= len(self.formats):
                raise OSError(errno.EINVAL, "no more")
            struct.pack_into("=I32s4s", argument, 8, 0, b"Format", self.formats[index])
        else:
            assert (request, struct.unpack_from("=III", argument)) == (v4l2.REQBUFS, (0, 1, 1))
            if self.busy:
                raise OSError(errno.EBUSY, "busy")
        return 0


@pytest.fixture
def device(tmp_path: Path) -> str:
    (tmp_path / "video0").touch()
    return str(tmp_path / "video0")


def test_a_usb_camera_passes(device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    Driver(monkeypatch, [b"MJPG", b"YUYV"])
    v4l2.check(device)


@pytest.mark.parametrize(("driver", "why"), [
    ({"formats": [b"RG10"]}, r"raw Bayer pictures \(RG10\), which V4L2 cannot turn into colours; use csi://0"),
    ({"formats": [b"BA81", b"pRAA"]}, "use csi://0"),
    ({"formats": [b"MJPG"], "busy": True}, "another program is using it; which one: fuser -v"),
    ({"formats": [], "device_caps": 0x04A00000}, "not a camera"),  # the notes of a USB camera
    ({"formats": [b"H264"], "device_caps": 0x04004000}, "not a camera"),  # an encoder
])
def test_a_device_that_gives_no_colours_says_why(driver: dict[str, Any], why: str, device: str,
                                                 monkeypatch: pytest.MonkeyPatch) -> None:
    Driver(monkeypatch, **driver)
    with pytest.raises(CameraError, match=why):
        v4l2.check(device)


def test_a_bayer_sensor_that_also_gives_colours_is_let_through(device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    Driver(monkeypatch, [b"RG10", b"YUYV"])
    v4l2.check(device)


@pytest.mark.parametrize(("number", "why"), [
    (errno.EACCES, r"permission denied; join the video group: sudo usermod -aG video \$USER"),
    (errno.EBUSY, "another program is using it"), (errno.ENODEV, "is it plugged in"),
])
def test_a_device_that_does_not_open_says_why(number: int, why: str, device: str,
                                              monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> int:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(CameraError, match=why):
        v4l2.check(device)


def test_a_missing_camera_names_those_that_are_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Driver(monkeypatch, [b"MJPG"])
    for name in ("video0", "video2", "null"):
        (tmp_path / name).touch()
    monkeypatch.setattr(v4l2, "Path", lambda path: tmp_path if path == "/dev" else Path(path))
    with pytest.raises(CameraError, match=r"no such camera; found: \S*/video0, \S*/video2$"):
        v4l2.check("/dev/video99")


@pytest.mark.skipif(not HEADER.exists(), reason="needs the kernel's header linux/videodev2.h")
def test_bayer_formats_are_those_that_the_kernel_names_so() -> None:
    found = re.findall(r"define V4L2_PIX_FMT_(\w+)\s+v4l2_fourcc(?:_be)?\('(.)', '(.)', '(.)', '(.)'\)",
                       HEADER.read_text())
    assert len(found) > 100
    for name, *letters in found:
        bayer = re.match(r"S(BGGR|GBRG|GRBG|RGGB)\d", name) is not None
        assert v4l2_of_linux.is_bayer("".join(letters)) == bayer, name


class Asked:
    """In place of cv2.VideoCapture: keeps what was set, in order."""

    def __init__(self) -> None:
        self.opened: tuple[str, int] | None = None
        self.settings: list[tuple[int, float]] = []

    def __call__(self, path: str, backend: int) -> Asked:
        self.opened = path, backend
        return self

    def isOpened(self) -> bool:
        return True

    def set(self, prop: int, value: float) -> bool:
        self.settings.append((prop, value))
        return True


def test_mjpg_is_asked_for_before_size_and_rate(device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    Driver(monkeypatch, [b"MJPG"])
    asked = Asked()
    monkeypatch.setattr(cv2, "VideoCapture", asked)
    v4l2.open_device(device, (1280, 720), 30.0)
    assert asked.opened == (device, cv2.CAP_V4L2)
    assert asked.settings == [
        (cv2.CAP_PROP_FOURCC, cv2.VideoWriter.fourcc(*"MJPG")), (cv2.CAP_PROP_FRAME_WIDTH, 1280),
        (cv2.CAP_PROP_FRAME_HEIGHT, 720), (cv2.CAP_PROP_FPS, 30.0), (cv2.CAP_PROP_BUFFERSIZE, 1)]
