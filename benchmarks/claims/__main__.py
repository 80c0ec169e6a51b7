"""``python -m benchmarks.claims``: train what the claims compare, measure, judge by the rule, into runs/claims.json."""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
from collections.abc import Callable, Sequence
from functools import partial
from importlib.metadata import version
from pathlib import Path

import torch

from benchmarks.claims import costs
from benchmarks.claims.answers import answers
from benchmarks.claims.arms import ARMS, Arm
from benchmarks.claims.claim_list import CLAIMS
from benchmarks.claims.comparisons import COMPARISONS, Comparison
from benchmarks.claims.faults import planted_faults
from benchmarks.claims.page import page
from benchmarks.claims.pruned_speed import speed_of_pruned_networks
from benchmarks.claims.rows import Row, comparison_row, line
from benchmarks.claims.sets import Split, split_of
from benchmarks.claims.training import seeds_of, train_arms
from edgekp.atomic import write_file
from edgekp.cli import Parser, add_debug, run
from edgekp.errors import RecipeError, unknown_name
from edgekp.stage import say
from eval.machine_stamp import processor

COSTS: dict[str, Callable[[], list[Row]]] = {
    "C5": costs.speed_of_mixed_precision, "C6": planted_faults, "C9": costs.mobilefacenet,
    "C14": costs.memory_of_mixed_precision, "C15": speed_of_pruned_networks,
    **{claim: partial(costs.elsewhere, claim) for claim in ("C10", "C12", "C17")}}
DOCS = Path("docs/claims.md")


def main(argv: Sequence[str] | None = None) -> int:
    parser = Parser(prog="python -m benchmarks.claims", description=__doc__)
    parser.add_argument("--only", metavar="C3,C16", help="these claims; the answers to others stay as they are")
    parser.add_argument("--seeds", type=int, default=3, help="trainings of each arm (default: %(default)s)")
    parser.add_argument("--minutes", type=float, help="of one core, about: epochs are cut to fit")
    parser.add_argument("--jobs", type=int, default=1, help="trainings at once, one core each (default: %(default)s)")
    parser.add_argument("--out", type=Path, default=Path("runs/claims.json"))
    parser.add_argument("--write-docs", action="store_true", help=f"write {DOCS} from all answers in --out")
    add_debug(parser)
    return run(_answer, parser, argv)


def _answer(arguments: argparse.Namespace) -> int:
    torch.set_num_threads(1)
    chosen = _chosen(arguments.only)
    for option in ("seeds", "jobs", "minutes"):
        value = getattr(arguments, option)
        if value is not None and not value > 0:
            raise RecipeError(f"--{option} {value}: expected more than 0")
    comparisons = [entry for entry in COMPARISONS if entry.claim in chosen]
    arms = [arm for name, arm in ARMS.items() if any(name in entry.arms for entry in comparisons)]
    share = _share(arms, arguments.seeds, arguments.minutes)
    splits = {each: split_of(*each) for each in sorted({each for entry in comparisons for each in entry.splits})}
    train_arms(arms, arguments.seeds, share, splits, arguments.jobs)
    found = [_compared(entry, arguments.seeds, splits, share) for entry in comparisons]
    found += [entry for claim, measure in COSTS.items() if claim in chosen for entry in measure()]
    rows = _merged(arguments.out, chosen, [entry | {"machine": machine()} for entry in found])
    write_file(arguments.out, json.dumps(rows, indent=1) + "\n")
    if arguments.write_docs:
        write_file(DOCS, page(rows))
    _tell(rows, chosen)
    return 0


def _chosen(only: str | None) -> list[str]:
    names = only.split(",") if only else list(CLAIMS)
    for name in names:
        if name not in CLAIMS:
            raise RecipeError(f"--only: {unknown_name('claim', name, list(CLAIMS))}")
    return names


def _share(arms: Sequence[Arm], seeds: int, minutes: float | None) -> float:
    """Of each arm's epochs, so that all trainings fit; the estimate is said."""
    whole = seeds * sum(arm.seconds() for arm in arms)
    share = min(1.0, 60 * minutes / whole) if minutes is not None and whole else 1.0
    say(f"claims: {len(arms)} arms x {seeds} seeds, about {share * whole / 60:.1f} minutes of one core where nothing "
        f"is trained yet{'' if share == 1 else f'; {share:.0%} of the epochs'}")
    return share


def _compared(comparison: Comparison, seeds: int, splits: dict[tuple[str, str], Split], share: float) -> Row:
    both = [[answers(look, seed, splits) for seed in seeds_of(seeds)]
            for look in (comparison.favoured, comparison.other)]
    favoured, other = ([comparison.measure.of(each) for each in side] for side in both)
    return comparison_row(comparison, favoured, other, n=len(both[0][0].input_px), share=share)


def _merged(path: Path, chosen: Sequence[str], found: Sequence[Row]) -> list[Row]:
    """New answers, and the old ones to other claims, in the order of the claims."""
    old = json.loads(path.read_bytes()) if path.is_file() else []
    rows = [*found, *(entry for entry in old if entry["claim"] not in chosen)]
    return sorted(rows, key=lambda entry: list(CLAIMS).index(entry["claim"]))


def _tell(rows: Sequence[Row], chosen: Sequence[str]) -> None:
    for entry in rows:
        if entry["claim"] in chosen:
            print(line(entry))


def machine() -> str:
    """What the numbers were measured with."""
    return (f"{os.cpu_count()} cores of {processor()}, Python {platform.python_version()}, "
            f"torch {version('torch')}, numpy {version('numpy')}")


if __name__ == "__main__":
    sys.exit(main())
