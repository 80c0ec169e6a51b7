"""Where did the points go? From the baseline to the candidate, one thing swapped at a time, each with what it cost.

    network       the models on the way (pruned, distilled); the candidate itself, if it rounds nothing
    int8 weights  the candidate's weights on the grid
    int8          its activations too
    input.*       how its crops are made: colours, box padding, alignment, kernel, fill, mean and std
    codec         how its outputs are decoded
    flip pairs    which keypoints a mirror swaps; if these differ, all is measured under a flip test

Unlike the gate it takes a candidate whose contract differs: finding out what a difference costs is its purpose.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, fields, replace

import numpy as np
import onnx

from deploy.runtime.onnx_session import OnnxSession
from deploy.runtime.session import Session, open_session
from edgekp.artifact import Artifact, boxed_contract
from edgekp.codecs import codec_to_json
from edgekp.contract import Contract
from edgekp.errors import ArtifactError
from edgekp.preprocess import InputSpec
from edgekp.stage import say
from eval.bootstrap import RESAMPLES, Interval, paired_interval
from eval.ground_truth import GroundTruth
from eval.metrics import Metric
from eval.predict import predict_one
from eval.quantized_graph import QuantizedGraph
from eval.results import Scored, lay_beside


@dataclass(frozen=True)
class Step:
    """The whole pipeline after one more swap.

    Attributes:
        name: what was swapped.
        change: from what to what, in a few words.
    """

    name: str
    change: str
    open: Callable[[], Session]
    contract: Contract


@dataclass(frozen=True)
class Fall:
    """What one swap cost: the metric after it, and the loss against the step before with its 95 % bounds."""

    name: str
    change: str
    value: float
    loss: Interval

    @property
    def is_real(self) -> bool:
        """More than the choice of the images."""
        return self.loss.lower > 0


@dataclass(frozen=True)
class Waterfall:
    """The metric of the baseline, and each fall from there to the candidate."""

    metric: str
    baseline: float
    falls: tuple[Fall, ...]

    @property
    def cause(self) -> Fall | None:
        """The swap that lost most, or None where no loss is real."""
        return max((fall for fall in self.falls if fall.is_real), key=lambda fall: fall.loss.point, default=None)


def measure_waterfall(baseline: Artifact, candidate: Artifact, truth: GroundTruth, metric: Metric,
                      between: Sequence[Artifact] = (), resamples: int = RESAMPLES) -> Waterfall:
    """Measure each step from baseline to candidate on the same instances.

    Args:
        between: models on the way, in the order of their making; they share the baseline's contract.

    Raises:
        ArtifactError: The candidate names other outputs or keypoints, or takes inputs of another size.
    """
    steps = list(steps_between(baseline, candidate, between))
    flip_test = baseline.contract.skeleton.flip_pairs != candidate.contract.skeleton.flip_pairs
    weighted = []
    for step in steps:
        say(f"waterfall: {step.name}")
        weighted.append(metric.weighted(_measured(step, truth, flip_test)))
    n_images = len(truth.image_ids)
    values = [float(weigh(np.ones((1, n_images)))[0]) for weigh in weighted]
    falls = [Fall(step.name, step.change, value, paired_interval(before, after, metric.loss, n_images, resamples))
             for step, value, before, after in zip(steps[1:], values[1:], weighted, weighted[1:], strict=False)]
    return Waterfall(metric.judged, values[0], tuple(falls))


def steps_between(baseline: Artifact, candidate: Artifact, between: Sequence[Artifact] = ()) -> Iterator[Step]:
    """The baseline, then one step a swap; what is equal gives no step."""
    first, last = (boxed_contract(artifact, "the waterfall") for artifact in (baseline, candidate))
    _require_comparable(first, last)
    yield Step("baseline", str(baseline.folder), lambda: open_session(baseline), first)
    for artifact in between:
        yield Step(artifact.folder.name, "network", lambda artifact=artifact: open_session(artifact), first)  # type: ignore[misc]
    for name, change, opened in _network_swaps(candidate):
        yield Step(name, change, opened, first)
    for name, change, contract in _contract_swaps(first, last):
        yield Step(name, change, lambda: open_session(candidate), contract)


def _require_comparable(first: Contract, second: Contract) -> None:
    for name, before, after in (("input_hw", first.input.input_hw, second.input.input_hw),
                                ("outputs", first.outputs, second.outputs),
                                ("keypoints", first.skeleton.keypoints, second.skeleton.keypoints)):
        if before != after:
            raise ArtifactError(f"{name}: {before} in the baseline, {after} in the candidate; a waterfall swaps one "
                                "thing at a time, and this cannot be swapped alone")


def _network_swaps(candidate: Artifact) -> Iterator[tuple[str, str, Callable[[], Session]]]:
    """The candidate's network in one step, or in two where it computes in integers."""
    graph = QuantizedGraph(onnx.load_from_string(candidate.read_model())) if candidate.kind == "onnx" else None
    if graph is None or not graph.is_quantized:
        yield candidate.folder.name, "network", lambda: open_session(candidate)
        return
    weights_only = graph.view().SerializeToString()
    yield ("int8 weights", "weights on the grid, activations in float",
           lambda: OnnxSession(weights_only, candidate.contract.outputs, str(candidate.model_path)))
    yield "int8", "activations on the grid", lambda: open_session(candidate)


def _contract_swaps(first: Contract, second: Contract) -> Iterator[tuple[str, str, Contract]]:
    """Name, change and the contract after each swap, in the order in which data flows."""
    contract = first
    for field in fields(InputSpec):
        before, after = getattr(first.input, field.name), getattr(second.input, field.name)
        if before != after:
            contract = replace(contract, input=replace(contract.input, **{field.name: after}))
            yield f"input.{field.name}", f"{before} -> {after}", contract
    if first.codec != second.codec:
        contract = replace(contract, codec=second.codec)
        yield "codec", f"{_spelled(first)} -> {_spelled(second)}", contract
    if first.skeleton.flip_pairs != second.skeleton.flip_pairs:
        contract = replace(contract, skeleton=replace(contract.skeleton, flip_pairs=second.skeleton.flip_pairs))
        wrong = sorted(set(second.skeleton.flip_pairs) ^ set(first.skeleton.flip_pairs))
        names = ", ".join(f"{first.skeleton.keypoints[a]} - {first.skeleton.keypoints[b]}" for a, b in wrong)
        yield "flip pairs", f"differ in {names}", contract


def _spelled(contract: Contract) -> str:
    """``heatmap (stride 4, sigma 2.0)``."""
    options = codec_to_json(contract.codec)
    name = options.pop("name")
    return f"{name} ({', '.join(f'{key} {value}' for key, value in options.items())})" if options else str(name)


def _measured(step: Step, truth: GroundTruth, flip_test: bool) -> Scored:
    with closing(step.open()) as session:
        results = predict_one(session, step.contract, truth, flip_test)
    if not results:
        raise ArtifactError(f"waterfall: {step.name}: every output is NaN or infinite; there is nothing to measure")
    return lay_beside(truth, results)
