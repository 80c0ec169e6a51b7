"""What the doctor says of cameras, from a Linux that answers for them."""

from __future__ import annotations

import fcntl
import os
import struct
from dataclasses import dataclass
from pathlib import Path

import pytest

from edgekp import v4l2
from edgekp.doctor.device_cameras import camera_lines
from edgekp.doctor.device_line import Line, Machine

CAPTURE, OF_DEVICE, ENCODER = 0x1, 0x80000000, 0x8000


@dataclass(frozen=True)
class Fake:
    """A device of Linux: its name, what it can do, and its formats."""

    name: str
    can: int
    formats: tuple[bytes, ...] = ()


@pytest.fixture
def plugged_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Fake]:
    """Devices by name; those that a test adds are found below its folder."""
    devices: dict[str, Fake] = {}

    def answer(device: int, request: int, buffer: bytearray) -> None:
        fake = devices[Path(f"/proc/self/fd/{device}").readlink().name]
        if request == v4l2.QUERYCAP:
            struct.pack_into("=16s32s32sIII", buffer, 0, b"driver", fake.name.encode(), b"bus", 1,
                             OF_DEVICE | CAPTURE | ENCODER, fake.can)
        elif (number := struct.unpack_from("=I", buffer)[0]) < len(fake.formats):
            buffer[44:48] = fake.formats[number]
        else:
            raise OSError(22, "Invalid argument")

    monkeypatch.setattr(fcntl, "ioctl", answer)
    return devices


def lines(folder: Path, devices: dict[str, Fake]) -> list[Line]:
    (folder / "dev").mkdir()
    for name in devices:
        (folder / "dev" / name).touch()
    return camera_lines(Machine(folder, lambda *_: None))


def test_a_usb_camera_is_named_once_with_its_formats(tmp_path: Path, plugged_in: dict[str, Fake]) -> None:
    plugged_in |= {"video0": Fake("HD Pro Webcam C920", CAPTURE, (b"YUYV", b"MJPG")), "video1": Fake("notes", 0x800000)}
    assert lines(tmp_path, plugged_in) == [Line("/dev/video0", "HD Pro Webcam C920: YUYV, MJPG")]


def test_a_csi_sensor_is_sent_to_the_image_processor(tmp_path: Path, plugged_in: dict[str, Fake]) -> None:
    plugged_in["video0"] = Fake("vi-output, imx219 9-0010", CAPTURE, (b"RG10",))
    [line] = lines(tmp_path, plugged_in)
    assert line.state == "worth knowing"
    assert str(line.mend).endswith("--camera csi://0")


def test_cameras_come_in_the_order_of_their_numbers(tmp_path: Path, plugged_in: dict[str, Fake]) -> None:
    plugged_in |= {f"video{number}": Fake(f"camera {number}", CAPTURE, (b"MJPG",)) for number in (10, 2, 0)}
    assert [line.part for line in lines(tmp_path, plugged_in)] == ["/dev/video0", "/dev/video2", "/dev/video10"]


def test_no_camera_is_worth_knowing_and_no_fault(tmp_path: Path, plugged_in: dict[str, Fake]) -> None:
    [line] = lines(tmp_path, plugged_in)
    assert (line.part, line.state) == ("cameras", "worth knowing")


def test_what_is_no_device_at_all_is_passed_over(tmp_path: Path) -> None:
    (tmp_path / "dev").mkdir()
    (tmp_path / "dev/video0").touch()
    assert [line.part for line in camera_lines(Machine(tmp_path, lambda *_: None))] == ["cameras"]


@pytest.mark.parametrize(("groups", "said"), [("user sudo", "not in the video group"), ("user video", "though in")])
def test_a_camera_that_this_user_may_not_use_is_mended_by_the_group(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch, groups: str, said: str) -> None:
    def refuse(*_: object) -> int:
        raise PermissionError(13, "Permission denied")

    (tmp_path / "dev").mkdir()
    (tmp_path / "dev/video0").touch()
    monkeypatch.setattr(os, "open", refuse)
    [line] = camera_lines(Machine(tmp_path, lambda *_: groups))
    assert said in line.found
    assert line.state == "missing"
    assert str(line.mend).startswith("sudo usermod -aG video")


@pytest.mark.parametrize("name", ["RG10", "BG12", "GB10", "BA10", "BA81", "GRBG", "RGGB", "pRAA", "pgAA"])
def test_a_sensors_own_formats_are_told_from_colours(name: str) -> None:
    assert v4l2.is_bayer(name)


@pytest.mark.parametrize("name", ["MJPG", "YUYV", "NV12", "RGB3", "BGR3", "GREY", "BGR4", "H264"])
def test_formats_with_colours_are_not_taken_for_a_sensors(name: str) -> None:
    assert not v4l2.is_bayer(name)
