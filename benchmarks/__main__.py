"""``python -m benchmarks``: ours against a stated alternative, measured in turn in one run, into runs/bench.json."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from edgekp.atomic import write_file
from edgekp.cli import Parser, add_debug, run

for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[variable] = "1"  # before numpy is loaded: what is compared is one thread against one thread

BENCHMARKS = ("targets", "openpose", "decode", "preprocess", "oks_ap", "loader", "training_step")
TRAININGS = ("distillation",)  # minutes of training, so only when named
Record = dict[str, Any]


def main(argv: Sequence[str] | None = None) -> int:
    parser = Parser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", choices=[[], *BENCHMARKS, *TRAININGS],
                        help=f"which ones (default: all but {', '.join(TRAININGS)}, which trains for minutes)")
    parser.add_argument("--out", type=Path, default=Path("runs/bench.json"))
    add_debug(parser)
    return run(_measure, parser, argv)


def _measure(arguments: argparse.Namespace) -> int:
    records = []
    for name in arguments.names or BENCHMARKS:
        for record in _records(name)():
            records.append(record)
            print(record["line"] if "line" in record else line(record), flush=True)
    write_file(arguments.out, json.dumps(records, indent=1) + "\n")
    return 0


def _records(name: str) -> Callable[[], list[Record]]:
    records: Callable[[], list[Record]] = import_module(f"benchmarks.{name}").records
    return records


def line(record: Record) -> str:
    """One record, aligned: what it is, our time, the alternative's, and how many times faster ours is."""
    return (f"{record['name']:44} {record['ours_us']:10.1f} us   {record['alternative_us']:10.1f} us "
            f"{record['ratio']:7.1f} x   {record['alternative']}")


if __name__ == "__main__":
    sys.exit(main())
