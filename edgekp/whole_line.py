"""Lines appended to a file, whole or not at all. Knows no content."""

from __future__ import annotations

from io import FileIO


def append_whole(file: FileIO, line: bytes) -> None:
    """The whole line or, on a disk that is full, none of it: one ``write`` may take a part and say so by a number."""
    start, written = file.tell() if file.seekable() else None, 0
    try:
        while written < len(line):
            written += file.write(line[written:])
    except OSError:
        if start is not None:
            file.truncate(start)
        raise
