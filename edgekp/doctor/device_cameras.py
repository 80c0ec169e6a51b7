"""The cameras of a device, and whether this user may use them. Opens no stream."""

from __future__ import annotations

import os
from pathlib import Path

from edgekp.doctor.device_line import Line, Machine
from edgekp.v4l2 import camera_formats, camera_name, is_bayer

JOIN_VIDEO = "sudo usermod -aG video $USER  # then log in again"


def camera_lines(machine: Machine) -> list[Line]:
    """One line for each camera; devices beside a camera that take no pictures have none."""
    devices = sorted((machine.root / "dev").glob("video*"), key=lambda path: (len(path.name), path.name))
    lines = [line for device in devices if (line := _camera(device, machine)) is not None]
    if lines:
        return lines
    mend = "docker run --device /dev/video0 ..." if machine.is_container else "v4l2-ctl --list-devices"
    return [Line("cameras", "none at /dev/video*; videos, streams and pictures work without", "worth knowing", mend)]


def _camera(path: Path, machine: Machine) -> Line | None:
    shown = f"/dev/{path.name}"
    try:
        device = os.open(path, os.O_RDWR | os.O_NONBLOCK)
    except PermissionError:
        groups = (machine.output("id", "-Gn") or "").split()
        who = "this user, though in the video group," if "video" in groups else "this user, not in the video group,"
        mend = "docker run --group-add video ..." if machine.is_container else JOIN_VIDEO
        return Line(shown, f"{who} may not use it", "missing", mend)
    except OSError as error:
        return Line(shown, f"cannot be opened: {error.strerror}", "worth knowing", f"fuser -v {shown}")
    try:
        name, formats = camera_name(device), camera_formats(device)
    finally:
        os.close(device)
    return None if name is None else _described(shown, name, formats)


def _described(shown: str, name: str, formats: list[str]) -> Line:
    found = f"{name}: {', '.join(formats) or 'no formats'}"
    if formats and all(map(is_bayer, formats)):
        return Line(shown, f"{found}; raw pictures of a CSI sensor, which V4L2 does not turn into colours",
                    "worth knowing", "python deploy/run_trt.py --camera csi://0")
    return Line(shown, found)
