"""One command at a time in a folder, by a lock that the kernel takes back when its holder ends, however it ends.

Knows nothing of what lies in the folder. The lock of NAME is that of the file ``.NAME.lock`` beside it, which says who
holds it, or who held it last. It stays for as long as there is a NAME.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import shlex
import socket
import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path

from edgekp.errors import StageError
from edgekp.stage import say

SPOKEN_CHARACTERS = 200  # of a command line in a message
_held: set[int] = set()


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Within the block nobody else is in ``locked`` for ``folder``, on this machine or by NFS.

    On a file system without locks, or where the file cannot be made, one line says that nobody is kept out.

    Raises:
        StageError: Somebody is; the message says who.
    """
    real = Path(os.path.realpath(folder))
    file, had_place = real.with_name(f".{real.name}.lock"), real.parent.exists()
    descriptor = _take(folder, file)
    while descriptor is not None and not _is_there(file, descriptor):  # the holder before took the file away
        _let_go(descriptor)
        descriptor = _take(folder, file)
    try:
        yield
    finally:
        if descriptor is not None:
            if not real.exists():  # the command was refused before it made anything
                _take_away(file, with_folder=not had_place)
            _let_go(descriptor)


def _take(folder: Path, file: Path) -> int | None:
    """The descriptor that holds the lock; None where there can be no lock."""
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        descriptor = _opened(file)
    except OSError as error:
        _say_unlocked(folder, error)
        return None
    _held.add(descriptor)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        holder = _holder(descriptor)
        _let_go(descriptor)
        raise StageError(f"{folder}: in use by {holder}; wait for its end, or stop it") from None
    except OSError as error:
        _let_go(descriptor)
        _say_unlocked(folder, error)
        return None
    with suppress(OSError):  # a full disk: the lock holds all the same
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, _myself(), 0)
    return descriptor


def _opened(file: Path) -> int:
    """The lock's file; to read, where it is another user's, for that is enough to lock it.

    Raises:
        StageError: A link or no plain file has its name: what it leads to would be written over.
    """
    try:
        descriptor = os.open(file, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK, 0o666)
    except PermissionError:
        if not file.exists():
            raise
        descriptor = os.open(file, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError as error:
        if error.errno != errno.ELOOP:
            raise
        raise StageError(f"{file}: a link, expected the plain file of a lock; remove it") from error
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise StageError(f"{file}: no plain file, expected that of a lock; remove it")
    return descriptor


def _is_there(file: Path, descriptor: int) -> bool:
    """Whether what was locked is still the file of that name."""
    try:
        return os.path.samestat(file.stat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False


def _take_away(file: Path, *, with_folder: bool) -> None:
    """Remove the file, which its holder still locks, and the folder that was made for it."""
    with suppress(OSError):
        file.unlink()
        if with_folder:
            file.parent.rmdir()


def _say_unlocked(folder: Path, error: OSError) -> None:
    say(f"{folder}: cannot be locked ({error.strerror}), so nobody keeps a second run out; do not start one")


def _myself() -> bytes:
    return json.dumps({"host": socket.gethostname(), "pid": os.getpid(), "command": shlex.join(sys.orig_argv),
                       "since": datetime.now().astimezone().isoformat(" ", "seconds")}).encode()


def _holder(descriptor: int) -> str:
    """Who holds the lock, as the holder says in the file."""
    try:
        found = json.loads(os.pread(descriptor, 1 << 16, 0))
        host, pid, command, since = (" ".join(str(found[name]).split()) for name in ("host", "pid", "command", "since"))
    except (OSError, ValueError, LookupError, TypeError, RecursionError):  # it has not said so yet
        return "another process"
    return f"process {pid} on {host} since {since} ({command[:SPOKEN_CHARACTERS]})"


def _let_go(descriptor: int) -> None:
    _held.discard(descriptor)
    os.close(descriptor)


def _hold_nothing() -> None:
    """In a forked child, a worker that loads data perhaps: it may outlive the holder, and must not hold on for it."""
    for descriptor in list(_held):
        _let_go(descriptor)


os.register_at_fork(after_in_child=_hold_nothing)
