"""``python -m benchmarks.gpu_check``: everything that needs a GPU, in one command, into runs/gpu-check.json.

A check that this machine cannot run is skipped, and says why. The command fails where a check that ran does.
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

from benchmarks.gpu_check.bench import KERNELS, Bench
from benchmarks.gpu_check.checks import CHECKS
from benchmarks.gpu_check.record import Record, line, records_of, skipped
from deploy.runtime.gpu.backend import open_driver
from edgekp.atomic import write_file
from edgekp.cli import Parser, add_debug, run
from edgekp.errors import DeviceError
from edgekp.stage import say


def main(argv: Sequence[str] | None = None) -> int:
    parser = Parser(prog="python -m benchmarks.gpu_check", description=__doc__)
    parser.add_argument("--artifact", type=Path, help="exported model or checkpoint that is timed from frame to "
                        "keypoints, beside a tiny network (default: the newest export for a Jetson below runs/)")
    parser.add_argument("--out", type=Path, default=Path("runs/gpu-check.json"), help="(default: %(default)s)")
    add_debug(parser)
    return run(_check, parser, argv)


def _check(arguments: argparse.Namespace) -> int:
    records = []
    for record in _records(arguments.artifact):
        records.append(record)
        print(line(record), flush=True)
    write_file(arguments.out, json.dumps([record.to_json() for record in records], indent=1) + "\n")
    count = Counter(record.verdict for record in records)
    say(f"gpu-check: on {records[0].machine}: {count['pass']} passed, {count['fail']} failed, {count['skipped']} "
        f"skipped ({arguments.out})")
    return 1 if count["fail"] else 0


def _records(artifact: Path | None) -> Iterator[Record]:
    """Without a GPU every check is skipped; with one, kernels that cannot be loaded are a failure."""
    try:
        driver = open_driver()
    except DeviceError as error:
        yield from (skipped(name, platform.machine(), str(error)) for name in (KERNELS, *CHECKS))
        return
    machine = f"{driver.gpu.name}, {driver.gpu.architecture}, {driver.name}"
    bench = Bench(driver)
    yield from (first := records_of(KERNELS, machine, bench.load))
    for name, check in CHECKS.items():
        if first[0].verdict == "pass":
            yield from records_of(name, machine, partial(bench.freed_after, partial(check, bench, artifact)))
        else:
            yield skipped(name, machine, "the kernels cannot be loaded")
    try:
        driver.close()
    except DeviceError as error:  # what one check did to the GPU stays until the end
        say(f"gpu-check: {error}")


if __name__ == "__main__":
    sys.exit(main())
