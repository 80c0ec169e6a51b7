"""Files and folders that appear whole or not at all: write beside, flush to disk, rename. Knows no content.

Beside NAME lie, for a moment or after a kill: ``.NAME.PID.tmp``, what process PID was writing, and ``.NAME.retired``, a
whole folder whose successor was not yet in its place. The next write to NAME puts both right.
"""

from __future__ import annotations

import errno
import hashlib
import os
import re
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

TAKEN = (errno.ENOTEMPTY, errno.EEXIST)
STREAMS = (Path("/dev"), Path("/dev/fd"))  # /dev/stdout may lead to a file, but is no name to put a new file under


def sha256(path: Path) -> str:
    """Hex digest of a file's bytes."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def write_file(path: Path, data: bytes | str) -> None:
    """Replace ``path`` with ``data``; a crash leaves the old file or the new one. A pipe or device is written to."""
    content = data.encode() if isinstance(data, str) else data
    if path.parent in STREAMS or (path.exists() and not path.is_file()):
        _append(path, content)
        return
    path = Path(os.path.realpath(path))
    restore_retired(path.parent)  # else an empty folder would take its place
    path.parent.mkdir(parents=True, exist_ok=True)
    _drop_leftovers(path)
    beside = _beside(path)
    try:
        with beside.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
    except OSError as error:
        error.filename = error.filename or str(path)  # a full disk names no file
        raise
    finally:
        _drop(beside)
    flush(path.parent)


@contextmanager
def published_folder(folder: Path) -> Iterator[Path]:
    """A scratch folder beside ``folder`` that takes its place when the block ends without an error."""
    folder = Path(os.path.realpath(folder))  # so that a link stays one, and all is on one file system
    folder.parent.mkdir(parents=True, exist_ok=True)
    _drop_leftovers(folder)
    scratch = _beside(folder)
    _drop(scratch)
    _drop_retired(folder)
    scratch.mkdir()
    try:
        yield scratch
        for path in [*scratch.rglob("*"), scratch]:
            flush(path)
        _exchange(scratch, folder)
        flush(folder.parent)
        _drop_retired(folder)
    finally:
        _drop(scratch)
        restore_retired(folder)


def can_be_replaced(folder: Path) -> bool:
    """Whether a folder that is there can be renamed; one in the lower layer of an overlay, as in an image, cannot."""
    folder = Path(os.path.realpath(folder))
    if not folder.exists():
        return True
    try:
        folder.rename(_retired(folder))
    except OSError as error:
        if error.errno in (errno.EXDEV, errno.EBUSY):
            return False
        if error.errno not in TAKEN:  # an earlier retired one is put right by the next write
            raise
    restore_retired(folder)
    return True


def restore_retired(folder: Path) -> None:
    """Put back the old result if a crash fell between the two renames of ``published_folder``."""
    folder = Path(os.path.realpath(folder))
    if folder.exists() or not _retired(folder).exists():
        return
    try:
        _retired(folder).rename(folder)
    except OSError as error:  # another process has restored it, or put the new one there
        if error.errno not in (errno.ENOENT, *TAKEN):
            raise


def _exchange(scratch: Path, folder: Path) -> None:
    """Retire ``folder``, then put ``scratch`` in its place."""
    while True:
        if folder.exists():
            folder.rename(_retired(folder))
        try:
            scratch.rename(folder)
            return
        except OSError as error:  # a reader came between the two and has restored the old one
            if error.errno not in TAKEN:
                raise


def _drop_retired(folder: Path) -> None:
    """Restore or remove it; under its name it is whole at all times, because it is taken apart under another one."""
    restore_retired(folder)
    if _retired(folder).exists():
        _retired(folder).rename(_beside(folder))
        _drop(_beside(folder))


def _drop_leftovers(path: Path) -> None:
    """Remove what processes that are gone were writing to ``path``."""
    written_beside = re.compile(rf"\.{re.escape(path.name)}\.(\d+)\.tmp")
    for neighbour in path.parent.iterdir():
        found = written_beside.fullmatch(neighbour.name)
        if found and not _is_running(int(found[1])):
            _drop(neighbour)


def _is_running(process: int) -> bool:
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        return True
    return True


def _drop(path: Path) -> None:
    """Remove a file or a folder; what cannot be removed stays."""
    try:
        path.unlink()
    except FileNotFoundError:
        return
    except OSError:
        shutil.rmtree(path, ignore_errors=True)


def _append(stream: Path, content: bytes) -> None:
    """After what was printed so far, where the stream leads to the same place as the standard output."""
    if sys.stdout:  # None where it was closed from the start
        sys.stdout.flush()
    with stream.open("ab") as file:
        file.write(content)


def _beside(path: Path) -> Path:
    return path.with_name(f".{path.name}.{os.getpid()}.tmp")


def _retired(folder: Path) -> Path:
    return folder.with_name(f".{folder.name}.retired")


def flush(path: Path) -> None:
    """Put a file, or the names in a folder, on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno != errno.EINVAL:  # some file systems know no fsync of a folder
            raise
    finally:
        os.close(descriptor)
