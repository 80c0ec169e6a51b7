"""``python -m eval latency``: is a candidate slower than its baseline, here or on a board that recorded it?"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from edgekp.cli import add_debug
from edgekp.errors import EdgekpError
from eval.latency_evidence import CallCost, Evidence
from eval.latency_gate import LIMIT, judge_evidence, measure_evidence
from eval.ledger import KEY_VARIABLE, judge_ledger, ledger_key, read_ledger, write_ledger
from eval.table import MISSING, aligned
from eval.verdict import EXIT_CODES, Verdict, as_json, as_lines, write_json


def add_to(commands: Any) -> None:
    parser = commands.add_parser("latency", help="is a candidate slower than its baseline on this machine?",
                                 description=judge.__doc__)
    parser.add_argument("--baseline", type=Path, required=True, metavar="DIR", help="artifact to hold it against")
    parser.add_argument("--candidate", type=Path, required=True, metavar="DIR", help="artifact to judge")
    parser.add_argument("--limit", type=float, default=LIMIT, help="largest allowed ratio (default: %(default)s)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the verdict with its numbers")
    ledger = parser.add_mutually_exclusive_group()
    ledger.add_argument("--record", type=Path, metavar="LEDGER.json", help="also write what was measured, for --replay "
                        "on a machine without this board")
    ledger.add_argument("--replay", type=Path, metavar="LEDGER.json", help="judge what a board recorded; nothing is "
                        "measured")
    parser.add_argument("--require-stamp", action="append", default=[], metavar="FIELD=VALUE",
                        help="refuse a ledger of another machine, such as power_mode=15W; may be repeated")
    parser.add_argument("--key-file", type=Path, metavar="FILE", help="key that signs a ledger, or that must have "
                        f"signed it (default: the environment's {KEY_VARIABLE})")
    add_debug(parser)
    parser.set_defaults(command=judge)


def judge(arguments: argparse.Namespace) -> int:
    """Verdict on a candidate's latency: exit 0 pass, 1 fail, 2 could not run, 3 undecided."""
    evidence, verdict = _replayed(arguments) if arguments.replay else _measured(arguments)
    print(_cost_table(evidence))
    print(as_lines([verdict]))
    if arguments.json:
        write_json(arguments.json, as_json([verdict]))
    return EXIT_CODES[verdict.outcome]


def _measured(arguments: argparse.Namespace) -> tuple[Evidence, Verdict]:
    if arguments.require_stamp:
        raise EdgekpError("--require-stamp belongs to --replay; leave it out")
    if arguments.key_file and not arguments.record:
        raise EdgekpError("--key-file belongs to --record or --replay; leave it out")
    key = ledger_key(arguments.key_file) if arguments.record else None
    evidence = measure_evidence(arguments.baseline, arguments.candidate, arguments.limit)
    if arguments.record:
        write_ledger(arguments.record, evidence, arguments.baseline, arguments.candidate, key)
    return evidence, judge_evidence(evidence, arguments.limit)


def _replayed(arguments: argparse.Namespace) -> tuple[Evidence, Verdict]:
    required = dict(_field(text) for text in arguments.require_stamp)
    ledger = read_ledger(arguments.replay, arguments.baseline, arguments.candidate, ledger_key(arguments.key_file),
                         required)
    return ledger.evidence, judge_ledger(ledger, arguments.limit)


def _field(text: str) -> tuple[str, str]:
    name, separator, value = text.partition("=")
    if not separator:
        raise EdgekpError(f"--require-stamp {text}: expected FIELD=VALUE, such as power_mode=15W")
    return name, value


def _cost_table(evidence: Evidence) -> str:
    """Both models, one row each: times of one call, memory, size, and energy where a sensor told."""
    head = ["model", *(f"{name} {clock}" for clock in ("wall", "CPU") for name in ("p50", "p90", "p99")),
            "peak memory", "file", "energy"]
    return aligned([head, _cost_row("baseline", evidence.baseline), _cost_row("candidate", evidence.candidate)])


def _cost_row(who: str, cost: CallCost) -> list[str]:
    times = [f"{value:.3f} ms" for of in (cost.wall_ms, cost.cpu_ms) for value in (of.p50, of.p90, of.p99)]
    memory = MISSING if cost.peak_memory_bytes is None else f"{cost.peak_memory_bytes / 1e6:.1f} MB"
    energy = MISSING if cost.energy_mj is None else f"{cost.energy_mj:.1f} mJ"
    return [who, *times, memory, f"{cost.size_bytes / 1e6:.2f} MB", energy]
