"""``edgekp doctor device``: the arguments. Starts where numpy and OpenCV are missing, because it says so."""

from __future__ import annotations

import argparse
from pathlib import Path

from edgekp.cli import Commands, add_debug
from edgekp.errors import DeviceError


def add_to(subjects: Commands) -> None:
    device = subjects.add_parser("device", help="what this device has for running models, and what it lacks",
                                 description="What this device has for running models, and the command that mends each "
                                             "part. Exit code 2 if no model can run here.")
    device.add_argument("--json", type=Path, metavar="FILE", help="write the same for machines")
    add_debug(device)
    device.set_defaults(command=examine_device)


def examine_device(arguments: argparse.Namespace) -> int:
    from edgekp.doctor.device import examine, lacking, records, text
    from edgekp.doctor.device_line import Machine

    lines = examine(Machine())
    print(text(lines))
    if arguments.json:
        _save(arguments.json, records(lines))
    return 0 if any(not parts for parts in lacking(lines).values()) else 2


def _save(path: Path, text: str) -> None:
    from edgekp.atomic import write_file

    try:
        write_file(path, text + "\n")
    except OSError as error:
        raise DeviceError(f"{path}: cannot be written ({error.strerror})") from error
