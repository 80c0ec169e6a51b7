"""``python -m benchmarks.faults.one FAULT FUNCTION TRIES SEED OUT``: one experiment, its outcome as JSON in OUT."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path

from benchmarks.faults.experiments import EXPERIMENTS


def main(fault: str, function: str, tries: str, seed: str, out: str) -> None:
    experiment = next(each for each in EXPERIMENTS if each.fault == fault)
    found = experiment.run(function, int(tries), int(seed))
    Path(out).write_text(json.dumps(asdict(found)), encoding="utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
