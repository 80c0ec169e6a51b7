"""``python -m fuzz TARGET|all``: fuzz until every target has had its minutes, in short rounds; resumable at any time.

    runs/fuzz/TARGET/corpus      inputs that reached something new, kept for the next time
    runs/fuzz/TARGET/findings    an input for each fault, its traceback beside it; once mended it joins the corpus
    runs/fuzz/minutes.json       minutes, executions and open findings of each target so far

Delete runs/fuzz/minutes.json to begin to count anew, such as after a parser changed.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import re
import subprocess
import sys
import tempfile
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from edgekp.atomic import write_file
from edgekp.cli import Parser, add_debug, run
from edgekp.errors import RecipeError, StageError, unknown_name
from edgekp.stage import say
from fuzz.target import target_names

ROUND_MINUTES = 3.0  # then it is the next target's turn
OWN_FAULT = 1  # exit code of a worker; libFuzzer's, where it met a finding in C, are others
EXECUTIONS = re.compile(r"^(?:#|stat::number_of_executed_units: )(\d+)", re.MULTILINE)
_keeping = threading.Lock()


@dataclass(frozen=True)
class Tally:
    """What a target has had so far: minutes of processor time, so that a busy machine does not count as fuzzing."""

    minutes: float = 0.0
    executions: int = 0
    findings: int = 0


def main(argv: Sequence[str] | None = None) -> int:
    parser = Parser(prog="python -m fuzz", description="Coverage-guided fuzzing of the parsers.")
    parser.add_argument("target", help=f"all, or one of: {', '.join(target_names())}")
    parser.add_argument("--minutes", type=float, default=15.0, help="of each target, those of earlier runs included "
                        "(default: %(default)g)")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, metavar="N",
                        help="targets at once (default: one for each processor)")
    parser.add_argument("--corpus", type=Path, default=Path("runs/fuzz"), metavar="DIR",
                        help="where inputs, findings and minutes are kept (default: %(default)s)")
    add_debug(parser)
    return run(_fuzz, parser, argv)


def _fuzz(arguments: argparse.Namespace) -> int:
    names = target_names() if arguments.target == "all" else [arguments.target]
    if not set(names) <= set(target_names()):
        raise RecipeError(unknown_name("fuzz target", arguments.target, ["all", *target_names()]))
    if importlib.util.find_spec("atheris") is None:
        raise StageError("atheris is not installed; run: pip install -e '.[fuzz]' (Linux, Python 3.11 to 3.13)")
    with ThreadPoolExecutor(arguments.jobs) as pool:
        while waiting := [name for name in names if lacking(arguments, name) > 0]:
            list(pool.map(lambda name: fuzz_round(arguments.corpus, name, min(ROUND_MINUTES, lacking(arguments, name))),
                          waiting))
    for name in names:
        keep(arguments.corpus, name, findings=len(open_findings(arguments.corpus / name)))
    print(table(arguments.corpus, names))
    return int(any(tally_of(arguments.corpus, name).findings for name in names))


def lacking(arguments: argparse.Namespace, name: str) -> float:
    return float(arguments.minutes - tally_of(arguments.corpus, name).minutes)


def fuzz_round(root: Path, name: str, minutes: float) -> None:
    """One worker; what it did is added to the target's tally."""
    corpus, findings = root / name / "corpus", root / name / "findings"
    for folder in (corpus, findings):
        folder.mkdir(parents=True, exist_ok=True)
    seconds = max(round(60 * minutes), 1)
    command = [sys.executable, "-m", "fuzz.worker", name, str(corpus), str(findings), str(seconds)]
    with tempfile.TemporaryFile() as said:
        worker = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=said)
        _, status, used = os.wait4(worker.pid, 0)
        worker.returncode = os.waitstatus_to_exitcode(status)
        said.seek(0)
        story = said.read().decode("utf-8", "replace")
    executed = [int(number) for number in EXECUTIONS.findall(story)]
    if not executed or worker.returncode == OWN_FAULT:
        raise StageError(f"fuzz: the worker of '{name}' failed: {story.strip()[-2000:]}")
    before, spent = tally_of(root, name), (used.ru_utime + used.ru_stime) / 60
    keep(root, name, minutes=round(before.minutes + spent, 2), executions=before.executions + max(executed),
         findings=len(open_findings(root / name)))
    say(f"fuzz: {name}: {json.dumps(asdict(tally_of(root, name)))}")


def open_findings(folder: Path) -> list[Path]:
    """Those that are findings still; the others join the corpus, so that they are tried again and again."""
    found = []
    for path in sorted((folder / "findings").glob("*")):
        if path.suffix == ".txt":
            continue
        again = subprocess.run([sys.executable, "-m", "fuzz.attempt", folder.name, str(path)], capture_output=True,
                               check=False)
        if again.returncode:
            found.append(path)
        else:
            path.rename(folder / "corpus" / path.name)
            path.with_name(f"{path.name}.txt").unlink(missing_ok=True)
    return found


def tally_of(root: Path, name: str) -> Tally:
    return Tally(**_tallies(root).get(name, {}))


def keep(root: Path, name: str, **changes: float) -> None:
    """Change some of a target's numbers in the file."""
    with _keeping:
        kept = _tallies(root)
        kept[name] = asdict(tally_of(root, name)) | changes
        write_file(root / "minutes.json", json.dumps(kept, indent=1, sort_keys=True) + "\n")


def _tallies(root: Path) -> dict[str, dict[str, Any]]:
    path = root / "minutes.json"
    return dict(json.loads(path.read_bytes())) if path.exists() else {}


def table(root: Path, names: Sequence[str]) -> str:
    rows = [f"{'target':18} minutes  executions  findings"]
    for name in names:
        tally = tally_of(root, name)
        rows.append(f"{name:18} {tally.minutes:7.1f}  {tally.executions:10d}  {tally.findings:8d}")
    return "\n".join(rows)


if __name__ == "__main__":
    sys.exit(main())
