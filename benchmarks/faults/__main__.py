"""``python -m benchmarks.faults``: make faults on purpose and count what survives, into runs/faults.json."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Lock

from benchmarks.faults.experiments import EXPERIMENTS, Experiment
from benchmarks.faults.records import ROOT, Asked, Row, code_digest, is_answered, row_of
from benchmarks.faults.table import as_text, write_into
from edgekp.atomic import write_file
from edgekp.cli import Parser, add_debug, run
from edgekp.errors import RecipeError, unknown_name
from edgekp.stage import say

DOCS = ROOT / "docs" / "reliability.md"


def main(argv: Sequence[str] | None = None) -> int:
    parser = Parser(prog="python -m benchmarks.faults", description=__doc__)
    parser.add_argument("--only", nargs="+", metavar="FAULT", help="these faults; what is known of others stays")
    parser.add_argument("--scale", type=float, default=1.0, help="share of the full number of tries")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=2, help="experiments at once (default: %(default)s)")
    parser.add_argument("--out", type=Path, default=Path("runs/faults.json"))
    parser.add_argument("--force", action="store_true", help="run again what ran well with this code and seed")
    parser.add_argument("--write-docs", action="store_true", help="write the table of docs/reliability.md")
    add_debug(parser)
    return run(_answer, parser, argv)


def _answer(arguments: argparse.Namespace) -> int:
    if not (arguments.scale > 0 and arguments.jobs > 0):
        raise RecipeError(f"--scale {arguments.scale} --jobs {arguments.jobs}: expected more than 0")
    chosen, code, writing = _chosen(arguments.only), code_digest(), Lock()
    rows = {} if not arguments.out.is_file() else {row["fault"]: row for row in json.loads(arguments.out.read_bytes())}

    def answer(experiment: Experiment) -> None:
        asked = Asked(max(1, round(experiment.tries * arguments.scale)), arguments.seed, code)
        if not arguments.force and is_answered(rows.get(experiment.fault), asked):
            say(f"faults: {experiment.fault}: up to date")
            return
        row = row_of(experiment, asked)
        with writing:
            rows[experiment.fault] = row
            write_file(arguments.out, json.dumps(_in_order(rows), indent=1) + "\n")

    with ThreadPoolExecutor(arguments.jobs) as pool:
        list(pool.map(answer, chosen))
    if arguments.write_docs:
        write_file(DOCS, write_into(DOCS, _in_order(rows), DOCS.read_text(encoding="utf-8")))
    told = [rows[experiment.fault] for experiment in chosen]
    print(as_text(told))
    return int(any(row["lost"] or row["silent"] for row in told))


def _chosen(only: list[str] | None) -> list[Experiment]:
    known = {experiment.fault: experiment for experiment in EXPERIMENTS}
    for name in only or ():
        if name not in known:
            raise RecipeError(f"--only: {unknown_name('fault', name, list(known))}")
    return [known[name] for name in only or known]


def _in_order(rows: dict[str, Row]) -> list[Row]:
    return [rows[experiment.fault] for experiment in EXPERIMENTS if experiment.fault in rows]


if __name__ == "__main__":
    raise SystemExit(main())
