"""Run models in this process and print what that took as JSON; ``eval.latency`` starts it fresh each time.

Knows no gate: it only makes the times comparable. One thread, pinned to a core where the system allows it, garbage
collection off, models called in random order every round, and opened in another order for each seed.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from deploy.runtime.session import Session, open_session
from edgekp.artifact import Artifact, open_artifact
from edgekp.cli import Parser, add_debug, run
from edgekp.errors import EdgekpError
from edgekp.sample import Float
from eval.energy import watched_power_mw
from eval.machine_stamp import Reading, measuring_core, take_reading

WARM_UPS = 20
FEWEST_WARM_UPS = 5
FEWEST_ROUNDS = 20
THREADS = 1
RUNTIMES = {"onnx": ("onnxruntime",), "tflite": ("ai_edge_litert", "tflite_runtime", "tensorflow"),
            "torchscript": ("torch",), "openvino": ("openvino",),
            "checkpoint": ("torch",)}  # the modules that run artifacts of a kind, the first that is there
CLOCK = "thread_cpu"  # all of these compute in the calling thread


@dataclass(frozen=True)
class Turns:
    """Times of R calls of each of M models, (M, R) ns, and the sensors before and after."""

    wall_ns: list[list[int]]
    cpu_ns: list[list[int]]
    readings: tuple[Reading, Reading]


def main(argv: Sequence[str] | None = None) -> int:
    parser = Parser(prog="python -m eval.latency_worker", description="Run models in this process.")
    tasks = parser.add_subparsers(required=True, metavar="TASK")
    in_turn = tasks.add_parser("in-turn", help="time models against each other")
    in_turn.add_argument("artifacts", type=Path, nargs="+", metavar="ARTIFACT_DIR", help="may name a folder twice")
    in_turn.add_argument("--rounds", type=int, required=True, help="timed calls of each model")
    in_turn.add_argument("--seed", type=int, required=True, help="of inputs and orders")
    in_turn.add_argument("--seconds", type=float, required=True, help="fewer rounds, if these do not hold all")
    in_turn.set_defaults(task=_in_turn)
    alone = tasks.add_parser("alone", help="memory and energy of one model")
    alone.add_argument("artifact", type=Path, metavar="ARTIFACT_DIR")
    alone.add_argument("--seconds", type=float, required=True, help="how long the model runs")
    alone.set_defaults(task=_alone)
    for task in (in_turn, alone):
        add_debug(task)
    return run(lambda arguments: int(arguments.task(arguments)), parser, argv)


def _in_turn(arguments: argparse.Namespace) -> int:
    core = pin_to_one_core()
    artifacts = [open_artifact(folder) for folder in arguments.artifacts]
    turns = time_in_turn(artifacts, arguments.rounds, arguments.seconds, arguments.seed)
    print(json.dumps({"runtime": runtime_of(artifacts), "threads": THREADS, "clock": CLOCK, "pinned_core": core,
                      **asdict(turns)}))
    return 0


def _alone(arguments: argparse.Namespace) -> int:
    pin_to_one_core()
    artifact = open_artifact(arguments.artifact)
    session, inputs = open_session(artifact, THREADS), example_inputs(artifact, seed=0)
    energy_mj = energy_of(lambda: session.infer(inputs), arguments.seconds)
    print(json.dumps({"peak_memory_bytes": peak_memory_bytes(), "energy_mj": energy_mj}))
    return 0


def pin_to_one_core() -> int | None:
    """The core this process now stays on; None where the system cannot pin."""
    core = measuring_core()
    if core is not None:
        os.sched_setaffinity(0, {core})
    return core


def runtime_of(artifacts: Sequence[Artifact]) -> str:
    """Name and version of what runs them, as it was loaded here.

    Raises:
        EdgekpError: Artifacts of several runtimes, whose times would need several clocks.
    """
    names = sorted({_runtime_of(artifact) for artifact in artifacts})
    if len(names) > 1:
        raise EdgekpError(f"models of {' and '.join(names)}; expected one runtime, export both models for one target")
    return f"{names[0]} {sys.modules[names[0]].__version__}"


def _runtime_of(artifact: Artifact) -> str:
    names = RUNTIMES[artifact.kind]
    return next((name for name in names if name in sys.modules), names[0])


def example_inputs(artifact: Artifact, seed: int) -> Float:
    """Noise of the size that the model takes, (1, 3, h, w)."""
    height, width = artifact.contract.input.input_hw
    return np.random.default_rng(seed).standard_normal((1, 3, height, width), dtype=np.float32)


def time_in_turn(artifacts: Sequence[Artifact], rounds: int, seconds: float, seed: int) -> Turns:
    """Wall and thread CPU time of ``rounds`` calls of each model, one instance a call."""
    rng = np.random.default_rng(seed)
    inputs = [example_inputs(artifact, seed) for artifact in artifacts]
    sessions = open_in_turn(artifacts, first=seed % len(artifacts))
    wall_ns: list[list[int]] = [[] for _ in sessions]
    cpu_ns: list[list[int]] = [[] for _ in sessions]

    def one_round() -> None:
        for index in rng.permutation(len(sessions)).tolist():
            wall, cpu = time.perf_counter_ns(), time.thread_time_ns()
            sessions[index].infer(inputs[index])
            cpu_ns[index].append(time.thread_time_ns() - cpu)
            wall_ns[index].append(time.perf_counter_ns() - wall)

    gc.collect()
    gc.disable()
    warm_ups, round_seconds = warm_up(one_round, seconds)
    before = take_reading()
    for _ in range(int(min(rounds, max(FEWEST_ROUNDS, seconds / round_seconds)))):
        one_round()
    after = take_reading()
    gc.enable()
    for session in sessions:
        session.close()
    return Turns([times[warm_ups:] for times in wall_ns], [times[warm_ups:] for times in cpu_ns], (before, after))


def open_in_turn(artifacts: Sequence[Artifact], first: int) -> list[Session]:
    """Sessions in the order of ``artifacts``, opened from ``first`` on, so that each seed favours another model.

    When the order was always the same, the last of three equal models was 0.5 % faster, process after process.
    """
    order = [*range(first, len(artifacts)), *range(first)]
    sessions = {index: open_session(artifacts[index], THREADS) for index in order}
    return [sessions[index] for index in range(len(artifacts))]


def warm_up(one_round: Callable[[], None], seconds: float) -> tuple[int, float]:
    """How many rounds were run before the timed ones, and the seconds of a typical one."""
    found: list[float] = []
    while len(found) < FEWEST_WARM_UPS or (len(found) < WARM_UPS and sum(found) < seconds / 4):
        start = time.perf_counter()
        one_round()
        found.append(time.perf_counter() - start)
    return len(found), float(np.median(found))


def energy_of(work: Callable[[], object], seconds: float) -> float | None:
    """Millijoules of one call, from ``seconds`` of calls; None where no sensor saw them."""
    for _ in range(FEWEST_WARM_UPS):
        work()
    calls = 0
    with watched_power_mw() as power_mw:
        start = time.perf_counter()
        while not calls or time.perf_counter() - start < seconds:
            work()
            calls += 1
        spent = time.perf_counter() - start
    return float(np.mean(power_mw)) * spent / calls if power_mw else None


def peak_memory_bytes(status: Path = Path("/proc/self/status")) -> int | None:
    """Largest resident memory of this process so far; None outside Linux.

    Not ``ru_maxrss``: that one starts at the memory of the parent, which may have loaded much more than a model.
    """
    if not status.is_file():
        return None
    fields = dict(line.split(":", 1) for line in status.read_text().splitlines() if ":" in line)
    return int(fields["VmHWM"].split()[0]) * 1024


if __name__ == "__main__":
    sys.exit(main())
