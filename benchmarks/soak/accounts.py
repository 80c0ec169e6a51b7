"""Where every picture went: the camera's own counts, the loop's, and the files that came out, against each other."""

from __future__ import annotations

import json
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path

import cv2

from benchmarks.soak.unruly_camera import UnrulyCamera
from benchmarks.soak.whole_loop import LINES, NUMBERS, VIDEO
from deploy.runtime.camera import Counts


@dataclass(frozen=True)
class Written:
    """What the files of a run hold.

    Attributes:
        lines, pictures: of JSON, of the video.
        mismatched: frames that were handed out and have no whole line of their own, in order and of their size; or
            lines of frames that were not.
        most_people: on one frame.
        empty: lines without anybody.
    """

    lines: int
    pictures: int
    mismatched: int
    most_people: int
    empty: int


def read_back(folder: Path) -> Written:
    """Compare the files line by line; they may be larger than the memory."""
    lines = mismatched = most_people = empty = 0
    last = -1
    with (folder / LINES).open() as json_file, (folder / NUMBERS).open() as noted:
        for line, note in zip_longest(json_file, noted):
            people = _people(line, note, last)
            lines += line is not None
            if people is None:
                mismatched += 1
                continue
            last = int(note.split()[0])
            most_people, empty = max(most_people, people), empty + (people == 0)
    return Written(lines, pictures_in(folder / VIDEO), mismatched, most_people, empty)


def _people(line: str | None, note: str | None, last: int) -> int | None:
    """How many are on a line; None if it is not that of the noted frame, or not a later one than the last."""
    if line is None or note is None or not line.endswith("\n"):
        return None
    try:
        found = json.loads(line)
    except json.JSONDecodeError:
        return None
    number, width, height = map(int, note.split())
    if found["frame"] != number or found["size_wh"] != [width, height] or number <= last:
        return None
    return len(found["people"])


def pictures_in(path: Path) -> int:
    """Pictures of a video that can be decoded."""
    if not path.exists():
        return 0
    video = cv2.VideoCapture(str(path))
    count = 0
    while video.read()[0]:
        count += 1
    video.release()
    return count


def unaccounted(counts: Counts, unruly: UnrulyCamera, done: int, written: Written) -> dict[str, int]:
    """Pictures of which two accounts differ, by what was compared."""
    return {"given by the source - read": unruly.given - counts.read,
            "damaged by the source - found damaged": unruly.damaged - counts.damaged,
            "read - handed out - dropped - waiting (0 or 1)":
                counts.read - counts.handed_out - counts.dropped - min(max(counts.waiting, 0), 1),
            "handed out - done": counts.handed_out - done,
            "done - lines": done - written.lines,
            "done - pictures in the video": done - written.pictures,
            "frames without their line": written.mismatched,
            "connections opened - released": unruly.opened - unruly.released}
