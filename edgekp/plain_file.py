"""Opens foreign files at the door: a plain file of a limited size, never a folder, pipe or device. Knows no format."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path
from typing import BinaryIO


def open_plain(path: str | Path) -> BinaryIO:
    """A plain file, opened to read; a pipe or a device is refused without waiting for what it has to say.

    Raises:
        OSError: Missing, not readable, or no plain file; ``strerror`` says which.
    """
    try:
        file = open(path, "rb", opener=_without_waiting)  # noqa: SIM115 (the caller closes it)
    except ValueError as error:  # a NUL, or what has no bytes in the file system's encoding
        raise OSError(errno.EINVAL, "no name that a file can have") from error
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise OSError(errno.EINVAL, "a pipe or a device, expected a plain file")
    return file


def read_plain(path: str | Path, limit_bytes: int) -> bytes:
    """The bytes of a plain file.

    Raises:
        OSError: As ``open_plain``, or the file is larger than ``limit_bytes``, or than the system says.
    """
    with open_plain(path) as file:
        size = os.fstat(file.fileno()).st_size
        if size > limit_bytes:
            raise OSError(errno.EFBIG, f"{size >> 20} MB, at most {limit_bytes >> 20} MB are read")
        data = file.read(size + 1)  # not all that comes: a file may grow meanwhile, or lie
    if len(data) > size:
        raise OSError(errno.EFBIG, "it grows while it is read")
    return data


def _without_waiting(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NONBLOCK)
