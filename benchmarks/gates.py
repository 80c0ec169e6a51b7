"""``python -m benchmarks.gates``: how often the gates are right, beside the rules that people use; takes an hour."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks import accuracy_gate, latency_gate
from edgekp.atomic import write_file
from edgekp.cli import Parser, add_debug, run


def main(argv: Sequence[str] | None = None) -> int:
    parser = Parser(prog="python -m benchmarks.gates", description=__doc__)
    parser.add_argument("--repetitions", type=int, default=500,
                        help="simulated sets of each size and loss; 0 leaves accuracy out (default: %(default)s)")
    parser.add_argument("--decisions", type=int, default=40,
                        help="measured, of each rule on each pair; 0 leaves latency out (default: %(default)s)")
    parser.add_argument("--out", type=Path, default=Path("runs/bench-gates.json"))
    add_debug(parser)
    return run(_measure, parser, argv)


def _measure(arguments: argparse.Namespace) -> int:
    found = []
    for benchmark, count in ((accuracy_gate, arguments.repetitions), (latency_gate, arguments.decisions)):
        records = benchmark.records(count) if count else []
        for record in records:
            print(benchmark.line(record), flush=True)
        found += records
    write_file(arguments.out, json.dumps(found, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
