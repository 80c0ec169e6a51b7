"""Pictures of a few KB whose header claims thousands of millions of pixels: refused at once, without their memory."""

from __future__ import annotations

import resource
from functools import partial
from itertools import cycle, islice, product
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.faults.judging import verdict_of
from benchmarks.faults.outcome import Outcome, tally
from edgekp.stage import say

SIDES = ((30_000, 30_000), (65_535, 65_535), (65_535, 1_600), (10_001, 10_000))  # in pixels; GIF and JPEG end at 65,535
SIZE, LIMIT_S, LIMIT_KB = 37_000, 1.0, 50_000


def header_bombs(tries: int, seed: int) -> Outcome:
    """Each format with each size, through the function that all stages read pictures with."""
    from edgekp.preprocess import read_image
    from tests.edgekp.test_image_door import CLAIMING

    verdicts = []
    with TemporaryDirectory() as scratch:
        chosen = islice(cycle(product(CLAIMING, SIDES)), seed, seed + tries)
        for number, (claiming, (width, height)) in enumerate(chosen):
            path = Path(scratch) / f"{number}.img"
            path.write_bytes(claiming(width, height).ljust(SIZE, b"\0"))
            before = _peak_kb()
            verdict = verdict_of(f"header-bomb, {claiming.__name__}, {width} x {height}",
                                 partial(read_image, path), lambda found: False, LIMIT_S)
            if _peak_kb() - before > LIMIT_KB:
                say(f"faults: header-bomb, {claiming.__name__}, {width} x {height}: lost: it took memory first")
                verdict = "lost"
            verdicts.append(verdict)
    return tally("header-bomb", verdicts)


def _peak_kb() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
