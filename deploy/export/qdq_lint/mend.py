"""Apply the fixes for one target, and let a result pass only if it computes what the model computed before."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

import numpy as np
import onnx

from deploy.export.qdq_lint.graph import Graph
from deploy.export.qdq_lint.rules import RULES, Finding, Rule, lint, severity_for
from deploy.runtime.onnx_session import OnnxSession
from edgekp.errors import ArtifactError
from edgekp.sample import Float

TIES_MEAN = 0.005  # of the largest output: a float sum in another order moves some values over a tie, by one step
ROUNDS = 3  # a fix may bring what the next one mends: int8 spelled as uint8 shows its ReLUs
SIDE_PX = 64  # of inputs whose size is free
BATCH = 2


def mended(model: onnx.ModelProto, target: str, ignore: Collection[str] = ()) -> tuple[onnx.ModelProto, list[Finding]]:
    """A model with everything mended that can be, and all findings, ``fixed`` where they are gone.

    Raises:
        ArtifactError: The result is no valid model, or computes something else; this is a defect of a fix.
    """
    result = onnx.ModelProto()
    result.CopyFrom(model)
    before = lint(model, (target,), ignore)
    promises = {promise for _ in range(ROUNDS) for promise in _apply_all(result, target, ignore)}
    if promises:
        _require_equal(model, result, bits="ties" not in promises)
    left = lint(result, (target,), ignore)
    remaining = {(finding.rule, finding.node) for finding in left}
    return result, [replace(finding, fixed=(finding.rule, finding.node) not in remaining) for finding in before] + [
        finding for finding in left if (finding.rule, finding.node) not in {(f.rule, f.node) for f in before}]


def check_and_run(model: bytes, where: str) -> None:
    """All that the comparison of a mended model does to a graph, done to a model once.

    Raises:
        ArtifactError: The onnx package refuses it, or it has other inputs than one of floats.
    """
    try:
        onnx.checker.check_model(model, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise ArtifactError(f"{where}: no usable ONNX graph ({error}); export it again") from error
    graph = onnx.load_from_string(model)
    _run(graph, _inputs(graph))


def _apply_all(model: onnx.ModelProto, target: str, ignore: Collection[str]) -> list[str]:
    """Each fix once; what the fixes that found something to do promise."""
    promises: list[str] = []
    for name, rule in RULES.items():
        if rule.fix is not None and name not in ignore and severity_for(rule, (target,)) and _apply(model, rule):
            promises.append(rule.keeps)
    return promises


def _apply(model: onnx.ModelProto, rule: Rule) -> bool:
    graph = Graph(model)
    places = [place for place in rule.find(graph) if rule.fixes(graph, place)]
    if places and rule.fix is not None:
        rule.fix(graph, places)
    return bool(places)


def _require_equal(before: onnx.ModelProto, after: onnx.ModelProto, *, bits: bool) -> None:
    try:
        onnx.checker.check_model(after, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise ArtifactError(f"the fixes gave no valid model ({error}); nothing was written, report this") from error
    x = _inputs(before)
    expected, found = _run(before, x), _run(after, x)
    for name, values in expected.items():
        off = float(np.abs(found[name] - values).mean() / max(float(np.abs(values).max()), 1e-12))
        if not (np.array_equal(found[name], values) if bits else off <= TIES_MEAN):
            allowed = "equal bits" if bits else f"at most {TIES_MEAN}"
            raise ArtifactError(f"the fixes change output '{name}' by {off:.3g} of its largest value on average, "
                                f"expected {allowed}; nothing was written, report this")


def _run(model: onnx.ModelProto, x: Float) -> dict[str, Float]:
    outputs = tuple(output.name for output in model.graph.output)
    session = OnnxSession(model.SerializeToString(), outputs, "model", as_written=True)
    found = session.infer(x)
    session.close()
    return found


def _inputs(model: onnx.ModelProto) -> Float:
    """Seeded noise of the only input's size, half of it so loud that it is clipped."""
    constants = {tensor.name for tensor in model.graph.initializer}
    inputs = [value for value in model.graph.input if value.name not in constants]
    if len(inputs) != 1 or inputs[0].type.tensor_type.elem_type != onnx.TensorProto.FLOAT:
        raise ArtifactError(f"{len(inputs)} inputs, or one that is not float32: --fix compares models with one such "
                            "input; lint without --fix")
    sides = [dim.dim_value or (SIDE_PX if axis else BATCH)
             for axis, dim in enumerate(inputs[0].type.tensor_type.shape.dim)]
    loudness = np.linspace(1, 4, sides[0]).reshape([-1] + [1] * (len(sides) - 1))
    return (np.random.default_rng(0).normal(size=sides) * loudness).astype(np.float32)
