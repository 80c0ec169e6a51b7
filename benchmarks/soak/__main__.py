"""``python -m benchmarks.soak``: the camera loop for half an hour before a camera with every fault there is.

    drawn people, or videos -> unruly camera -> camera loop -> JSON lines and video -> read back and accounted for

Memory and latency must stay flat, and no picture may be unaccounted for. Exits 1 where a check fails.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from itertools import cycle, islice
from pathlib import Path
from tempfile import TemporaryDirectory

import cv2

from benchmarks.soak import checks
from benchmarks.soak.accounts import read_back, unaccounted
from benchmarks.soak.crowd import Crowd
from benchmarks.soak.network import write_steady_artifact
from benchmarks.soak.samples import Held, SampledTimes, Sampler
from benchmarks.soak.unruly_camera import Drawn, Looped, Reel, UnrulyCamera, endless_plan
from benchmarks.soak.whole_loop import whole_loop
from deploy.runtime.camera import Patience
from deploy.runtime.camera.capture import MOST_STUCK
from deploy.runtime.loop.loop import Stop
from deploy.runtime.loop.outputs import Outputs
from edgekp.artifact import open_artifact
from edgekp.atomic import write_file
from edgekp.cli import Parser, add_debug, run
from edgekp.errors import DataError
from edgekp.stage import say

FPS = 30.0
EVERY = 120  # pictures between two faults, in the mean: one in four seconds
PATIENCE = Patience(stuck_s=1.5, damaged_s=1.0, pauses_s=(0.05, 0.5))  # as unruly as the camera, to lose many a time
OWN_THREADS = 4  # the loop's, the reader's, the outputs' and the sampler's


def main(argv: Sequence[str] | None = None) -> int:
    parser = Parser(prog="python -m benchmarks.soak", description=__doc__.split("\n")[0])
    parser.add_argument("--minutes", type=float, default=30.0, help="(default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of the faults (default: %(default)s)")
    parser.add_argument("--video", nargs="+", default=[], metavar="FILE",
                        help="played again and again, another at each reconnect (default: drawn people)")
    parser.add_argument("--artifact", type=Path, metavar="DIR", help="an ONNX export that is run (default: a small "
                        "network that sees the same person in every bright box)")
    parser.add_argument("--out", type=Path, default=Path("runs/soak.json"), help="(default: %(default)s)")
    add_debug(parser)
    return run(_soak, parser, argv)


def _soak(arguments: argparse.Namespace) -> int:
    if missing := [name for name in arguments.video if not Path(name).is_file()]:
        raise DataError(f"--video {missing[0]}: no such file")
    with TemporaryDirectory(prefix="edgekp-soak-") as folder:
        found = soaked(arguments, Path(folder))
    for check in found:
        print(checks.line(check))
    write_file(arguments.out, json.dumps([check.to_json() for check in found], indent=1) + "\n")
    failed = sum(check.verdict == "FAIL" for check in found)
    say(f"soak: {failed} of {len(found)} checks failed ({arguments.out})")
    return 1 if failed else 0


def soaked(arguments: argparse.Namespace, folder: Path) -> list[checks.Check]:
    """Run for the time that was asked, and judge."""
    artifact = open_artifact(arguments.artifact or write_steady_artifact(folder / "artifact"), "onnx")
    crowd, before = Crowd(), Held.now()
    plan = endless_plan(arguments.seed, EVERY, PATIENCE.stuck_s, PATIENCE.damaged_s)
    unruly = UnrulyCamera(_reels(arguments.video, crowd), plan, fps=FPS, seed=arguments.seed)
    stop, times = Stop(), SampledTimes()

    def end() -> None:
        stop.asked = True

    def prepare(outputs: Outputs) -> None:
        outputs.times = times

    with whole_loop(artifact, unruly, crowd, folder, PATIENCE, prepare) as whole:
        sampler = Sampler(folder / "samples.jsonl", times, lambda: asdict(whole.camera.counts),
                          60 * arguments.minutes, end)
        sampler.start()
        done = whole.loop.run(None, stop)
        sampler.over.set()
        sampler.join()
    unruly.let_go.set()
    time.sleep(2 * PATIENCE.stuck_s)  # for those that hung
    after, counts, written = Held.now(), whole.camera.counts, read_back(folder)
    samples = [json.loads(line) for line in (folder / "samples.jsonl").read_text().splitlines()]
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    write_file(arguments.out.with_suffix(".samples.jsonl"), (folder / "samples.jsonl").read_text())
    return [*checks.memory(samples), *checks.latency(samples),
            *checks.held_during(samples, before.threads + OWN_THREADS - 1 + MOST_STUCK),
            *checks.given_back(before, after, cv2.getNumThreads()),
            *checks.accounts(unaccounted(counts, unruly, done, written)),
            *(checks.Check(f"told: {name.replace('_', ' ')}", count, "pictures") for name, count
              in asdict(counts).items()),
            checks.Check("told: most people on a frame", written.most_people, "people"),
            checks.Check("told: frames without anybody", written.empty, "frames"),
            *(checks.Check(f"told: fault {kind}", count, "times") for kind, count in sorted(unruly.faults.items()))]


def _reels(videos: Sequence[str], crowd: Crowd) -> Callable[[int], Reel]:
    """What the connection of a number plays."""
    if not videos:
        return lambda _: Drawn(crowd)
    return lambda number: Looped(next(islice(cycle(videos), number % len(videos), None)))


if __name__ == "__main__":
    sys.exit(main())
