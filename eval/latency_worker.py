"""Time models in turn in this process and print the times as JSON; ``eval.latency`` starts it fresh each time.

Knows no gate: it only makes the times comparable. One thread, pinned to a core where the system allows it,
garbage collection off, the order of the models random in every round.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from deploy.runtime.session import open_session
from edgekp.artifact import Artifact, open_artifact
from edgekp.cli import add_debug, run

WARM_UPS = 20


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m eval.latency_worker", description="Time models in turn.")
    parser.add_argument("artifacts", type=Path, nargs="+", metavar="ARTIFACT_DIR", help="may name a folder twice")
    parser.add_argument("--rounds", type=int, required=True, help="timed calls of each model")
    parser.add_argument("--seed", type=int, required=True, help="of the order within each round")
    add_debug(parser)
    return run(_time_and_print, parser, argv)


def _time_and_print(arguments: argparse.Namespace) -> int:
    pinned_to = pin_to_one_core()
    artifacts = [open_artifact(folder) for folder in arguments.artifacts]
    wall_ns, cpu_ns = time_in_turn(artifacts, arguments.rounds, arguments.seed)
    print(json.dumps({"pinned_to": pinned_to, "wall_ns": wall_ns, "cpu_ns": cpu_ns}))
    return 0


def pin_to_one_core() -> int | None:
    """The core this process now stays on, the last of those allowed; None where the system cannot pin."""
    if not hasattr(os, "sched_setaffinity"):
        return None
    core = max(os.sched_getaffinity(0))
    os.sched_setaffinity(0, {core})
    return core


def time_in_turn(artifacts: list[Artifact], rounds: int, seed: int) -> tuple[list[list[int]], list[list[int]]]:
    """Wall and thread CPU time, ns, of ``rounds`` calls of each model, one instance a call."""
    rng = np.random.default_rng(seed)
    height, width = artifacts[0].contract.input.input_hw
    inputs = rng.standard_normal((1, 3, height, width), dtype=np.float32)
    sessions = [open_session(artifact) for artifact in artifacts]
    orders = [rng.permutation(len(sessions)).tolist() for _ in range(WARM_UPS + rounds)]
    wall_ns: list[list[int]] = [[] for _ in sessions]
    cpu_ns: list[list[int]] = [[] for _ in sessions]
    gc.collect()
    gc.disable()
    for order in orders:
        for index in order:
            wall, cpu = time.perf_counter_ns(), time.thread_time_ns()
            sessions[index].infer(inputs)
            cpu_ns[index].append(time.thread_time_ns() - cpu)
            wall_ns[index].append(time.perf_counter_ns() - wall)
    gc.enable()
    for session in sessions:
        session.close()
    return [times[WARM_UPS:] for times in wall_ns], [times[WARM_UPS:] for times in cpu_ns]


if __name__ == "__main__":
    sys.exit(main())
