"""A frame's people as one line of JSON. Knows no camera."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from deploy.runtime.frame import Frame
from deploy.runtime.people.track import Person
from edgekp.errors import DataError
from edgekp.whole_line import append_whole

DECIMALS_PX, DECIMALS_SCORE = 3, 4


def as_line(frame: Frame, people: list[Person]) -> str:
    """``{"frame", "time_s", "size_wh", "people": [{"id", "score", "bbox_xywh", "keypoints": [[x, y, score], ...]}]}``.

    Positions are pixels of the frame; ``time_s`` is the video's own time, or ``time.perf_counter`` of a camera.
    """
    height, width = frame.bgr.shape[:2]
    return json.dumps({"frame": frame.number, "time_s": round(frame.time_s, 6), "size_wh": [width, height],
                       "people": [_entry(person) for person in people]}, allow_nan=False)


def _entry(person: Person) -> dict[str, object]:
    keypoints_xy = np.nan_to_num(np.asarray(person.prediction.keypoints_xy, np.float64)).round(DECIMALS_PX)
    scores = np.nan_to_num(np.asarray(person.prediction.scores, np.float64)).round(DECIMALS_SCORE)
    return {"id": person.identity, "score": round(float(np.nan_to_num(person.score)), DECIMALS_SCORE),
            "bbox_xywh": np.asarray(person.bbox_xywh, np.float64).round(DECIMALS_PX).tolist(),
            "keypoints": np.column_stack([keypoints_xy, scores]).tolist()}


@dataclass(frozen=True)
class JsonLines:
    """Such lines on their way out; ``path`` names the file in errors."""

    path: str
    append: Callable[[str], object]

    def write(self, frame: Frame, people: list[Person]) -> None:
        """Append a line.

        Raises:
            DataError: It cannot be written any more.
        """
        try:
            self.append(as_line(frame, people) + "\n")
        except OSError as error:
            raise DataError(f"--json {self.path}: cannot be written any more ({error.strerror})") from error


@contextmanager
def json_lines(path: str) -> Iterator[JsonLines]:
    """Lines into a file, each written at once; ``-`` is the standard output.

    Raises:
        DataError: It cannot be written.
    """
    if path == "-":
        yield JsonLines(path, partial(print, end="", flush=True))
        return
    with ExitStack() as stack:
        try:
            file = stack.enter_context(Path(path).open("wb", buffering=0))
        except OSError as error:
            raise DataError(f"--json {path}: cannot be written ({error.strerror}); name a file in a folder that "
                            "exists") from error
        yield JsonLines(path, lambda line: append_whole(file, line.encode()))
