"""How often the latency gate is right, beside two rules that people use.

The same decision is made again and again on models whose true difference is known: none, or about 10 % more time. The
slower model is the same network with convolutions that change nothing in front of its last one, as many as take a
tenth of its time; how much they truly take is measured in a long interleaved run. All rules decide in turn, so that
a busy machine is as busy for each.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from itertools import pairwise
from math import exp
from pathlib import Path
from statistics import fmean
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import numpy as np
import onnx
from onnx import helper, numpy_helper

from deploy.export.checkpoint_to_artifact import MODEL_FILE, export_checkpoint
from deploy.export.target import target_named
from edgekp.artifact import open_artifact, write_artifact
from edgekp.recipe_file import load_recipe
from eval.latency import time_in_fresh_process
from eval.latency_evidence import process_of
from eval.latency_gate import LIMIT, PROCESS_SECONDS, judge_latency
from eval.verdict import ORDER
from train.models import build, spec_of
from train.models.checkpoint import load_checkpoint, save_checkpoint

RECIPE = Path(__file__).parents[1] / "recipes/quickstart.toml"
OVERRIDES = ["model.options.width=16"]  # 1.5 ms a call
SLOWDOWN = 0.10
TRIED_NODES = 16
TRUTH_PROCESSES = 20
Record = dict[str, Any]
Rule = Callable[[Path, Path], str]


class Trial(NamedTuple):
    """One decision of one rule about one pair."""

    rule: str
    true_effect: float
    outcome: str
    seconds: float


def records(decisions: int = 40) -> list[Record]:
    """One record a rule and pair: shares of the outcomes, and the mean seconds of a decision."""
    with TemporaryDirectory() as folder:
        baseline = export_model(Path(folder))
        slower = calibrated(baseline, Path(folder))
        pairs = {0.0: baseline, round(effect(baseline, slower, TRUTH_PROCESSES), 4): slower}
        rules = {"interleaved fresh processes, t-interval, CPU time": ours,
                 "stored baseline, median > 1.05 x": against_stored(baseline),
                 "sequential, median > 1.05 x": sequential}
        trials = [Trial(name, truth, *timed(rule, baseline, candidate)) for _ in range(decisions)
                  for truth, candidate in pairs.items() for name, rule in rules.items()]
    return [record_of([trial for trial in trials if (trial.rule, trial.true_effect) == (name, truth)])
            for name in rules for truth in pairs]


def timed(rule: Rule, baseline: Path, candidate: Path) -> tuple[str, float]:
    """The rule's decision, and the seconds that it took."""
    start = time.perf_counter()
    outcome = rule(baseline, candidate)
    return outcome, time.perf_counter() - start


def record_of(trials: Sequence[Trial]) -> Record:
    """Trials of one rule on one pair."""
    found = [trial.outcome for trial in trials]
    return {"gate": "latency", "rule": trials[0].rule, "true_effect": trials[0].true_effect, "n": len(trials),
            **{outcome: found.count(outcome) / len(trials) for outcome in ORDER},
            "seconds": round(fmean(trial.seconds for trial in trials), 1)}


def ours(baseline: Path, candidate: Path) -> str:
    return judge_latency(baseline, candidate).outcome


def sequential(baseline: Path, candidate: Path) -> str:
    """First one, then the other."""
    return _point_rule(median_alone_ms(baseline), median_alone_ms(candidate))


def against_stored(baseline: Path) -> Rule:
    """Against a number of an earlier run: the baseline's, now."""
    stored_ms = median_alone_ms(baseline)
    return lambda _, candidate: _point_rule(stored_ms, median_alone_ms(candidate))


def _point_rule(baseline_ms: float, candidate_ms: float) -> str:
    return "fail" if candidate_ms > LIMIT * baseline_ms else "pass"


def median_alone_ms(model: Path) -> float:
    """Wall time of a call, median of 200 in a fresh process: what a benchmark script prints."""
    return float(np.median(time_in_fresh_process([model], seed=0).wall_ms))


def effect(baseline: Path, candidate: Path, processes: int) -> float:
    """Share of CPU time that the candidate takes more: mean over fresh processes."""
    found = [process_of(time_in_fresh_process([baseline, baseline, candidate], seed, seconds=PROCESS_SECONDS))
             for seed in range(processes)]
    return exp(fmean(process.log_ratio for process in found)) - 1


def export_model(folder: Path) -> Path:
    """Artifact of a small untrained network."""
    recipe = load_recipe(RECIPE, OVERRIDES)
    spec = spec_of(recipe)
    checkpoint = folder / "checkpoint"
    checkpoint.mkdir()
    save_checkpoint(checkpoint, build(spec).eval(), spec, recipe.contract())
    export_checkpoint(load_checkpoint(checkpoint), folder / "baseline", target_named("cpu"), recipe.export.opset)
    return folder / "baseline"


def calibrated(baseline: Path, folder: Path) -> Path:
    """The baseline with as many nodes more as take ``SLOWDOWN`` of its time."""
    tried = slowed(baseline, folder / "tried", TRIED_NODES)
    share_a_node = effect(baseline, tried, processes=5) / TRIED_NODES
    return slowed(baseline, folder / "slower", round(SLOWDOWN / share_a_node))


def slowed(baseline: Path, folder: Path, nodes: int) -> Path:
    """The same answers by ``nodes`` more 1 x 1 convolutions with the identity, in front of the last convolution."""
    artifact = open_artifact(baseline)
    model = onnx.load_from_string(artifact.read_model())
    graph = model.graph
    last = next(node for node in reversed(graph.node) if node.op_type == "Conv")
    weights = next(entry for entry in graph.initializer if entry.name == last.input[1])
    channels = weights.dims[1]
    identity = np.eye(channels, dtype=np.float32)[:, :, None, None]
    graph.initializer.append(numpy_helper.from_array(identity, "identity"))
    names = [last.input[0], *(f"repeated{number}" for number in range(nodes))]
    position = list(graph.node).index(last)
    for number, (source, goal) in enumerate(pairwise(names)):
        graph.node.insert(position + number, helper.make_node("Conv", [source, "identity"], [goal], name=goal))
    last.input[0] = names[-1]
    folder.mkdir()
    onnx.save(model, folder / MODEL_FILE)
    write_artifact(folder, artifact.kind, artifact.contract, artifact.model)
    return folder


def line(record: Record) -> str:
    """One record, aligned."""
    shares = "   ".join(f"{outcome} {record[outcome]:5.2f}" for outcome in ORDER)
    return (f"{record['rule']:52} true {record['true_effect']:+.3f}   {shares}   n {record['n']}   "
            f"{record['seconds']:5.1f} s a decision")
