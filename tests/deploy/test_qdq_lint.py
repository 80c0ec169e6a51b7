"""Every rule of the linter speaks where it should and nowhere else, and a mended graph computes what it did."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest

from deploy.export.qdq_lint import mend
from deploy.export.qdq_lint.mend import mended
from deploy.export.qdq_lint.rules import RULES, TARGETS, lint
from edgekp.errors import ArtifactError
from tests.deploy import planted
from tests.deploy.planted import PLANTS, Plant

each_plant = pytest.mark.parametrize("plant", PLANTS, ids=lambda plant: f"{plant.make.__name__}-{plant.target}")
each_mended = pytest.mark.parametrize("plant", [plant for plant in PLANTS if plant.mended],
                                      ids=lambda plant: f"{plant.make.__name__}-{plant.target}")


def run(model: onnx.ModelProto, batch: int = 1) -> np.ndarray:
    """What ONNX Runtime computes node by node."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    x = np.random.default_rng(4).normal(0, 3, (batch, planted.CHANNELS, planted.SIDE, planted.SIDE))
    return np.asarray(session.run(None, {"x": x.astype(np.float32)})[0])


def test_every_rule_is_planted() -> None:
    assert {plant.rule for plant in PLANTS} == set(RULES)


@each_plant
def test_exactly_the_planted_rule_speaks(plant: Plant) -> None:
    findings = lint(plant.model(), (plant.target,))
    assert {finding.rule for finding in findings} == {plant.rule}
    for finding in findings:
        assert finding.severity == RULES[plant.rule].severity[plant.target]
        assert finding.node
        assert finding.tensor
        assert len(finding.why) > 40


@each_plant
def test_an_ignored_rule_is_silent(plant: Plant) -> None:
    assert lint(plant.model(), (plant.target,), ignore=[plant.rule]) == []


@pytest.mark.parametrize(("make", "target"), [(planted.tensorrt, "tensorrt"), (planted.tensorrt, "dla"),
                                              (planted.tensorrt, "tflite"), (planted.onnxruntime, "onnxruntime")])
def test_a_clean_graph_gives_nothing_for_its_target(make: type, target: str) -> None:
    assert lint(planted.clean(make()), (target,)) == []


def test_a_target_that_does_not_mind_is_not_told() -> None:
    for plant in PLANTS:
        for target in set(TARGETS) - set(RULES[plant.rule].severity):
            assert plant.rule not in {finding.rule for finding in lint(plant.model(), (target,))}


@each_mended
def test_a_mended_graph_is_clean_and_says_the_same(plant: Plant) -> None:
    before = plant.model()
    result, findings = mended(before, plant.target)
    assert {finding.rule for finding in findings if finding.fixed} >= {plant.rule}
    assert all(finding.fixed for finding in findings)
    assert lint(result, (plant.target,)) == []
    onnx.checker.check_model(result, full_check=True)
    expected, found = run(before), run(result)
    assert len(np.unique(expected)) > 100
    if RULES[plant.rule].keeps == "bits":
        np.testing.assert_array_equal(found, expected)
    else:  # a tie here and there: single values by a step, few of them
        off = np.abs(found - expected)
        assert off.mean() < 0.001 * np.abs(expected).max()
        assert (off > 1e-5).mean() < 0.02


@pytest.mark.parametrize("plant", [plant for plant in PLANTS if not plant.mended],
                         ids=lambda plant: f"{plant.make.__name__}-{plant.target}")
def test_what_no_fix_keeps_is_reported_and_left_alone(plant: Plant) -> None:
    before = plant.model()
    result, findings = mended(before, plant.target)
    assert {finding.rule for finding in findings if not finding.fixed} == {plant.rule}
    if not np.isin(plant.rule, ["scale", "opset"]):
        np.testing.assert_array_equal(run(result), run(before))


@pytest.mark.parametrize("value", [0.0, -0.1, float("nan"), float("inf")])
def test_a_scale_that_is_no_step_is_found_and_named(value: float) -> None:
    finding, *_ = lint(planted.scale(planted.tensorrt(), value), ("onnxruntime",))
    assert (finding.rule, finding.severity) == ("scale", "error")
    assert f"scale {value:g}" in finding.why


@pytest.mark.parametrize("zero", [np.uint8(0), np.uint8(127), np.int8(-128), np.int8(3)])
def test_a_zero_point_off_the_middle_is_found(zero: np.generic) -> None:
    findings = lint(planted.asymmetric(planted.tensorrt(), zero), ("tensorrt",))
    assert {finding.rule for finding in findings} == {"asymmetric_zero_point"}
    assert f"{zero.dtype} with zero point {zero}" in findings[0].why


def test_both_spellings_are_each_others_mend() -> None:
    before = planted.int8_activations(planted.onnxruntime())
    there, _ = mended(before, "onnxruntime")
    back, _ = mended(there, "tensorrt")
    assert {finding.rule for finding in lint(there, ("tensorrt",))} == {"zero_point", "int32_bias"}
    assert lint(back, ("tensorrt",)) == []
    np.testing.assert_array_equal(run(back), run(before))


def test_relus_that_another_fix_brings_to_light_are_mended_too() -> None:
    result, findings = mended(planted.int8_activations(planted.onnxruntime()), "onnxruntime")
    assert all(finding.fixed for finding in findings)
    assert [node.op_type for node in result.graph.node].count("Clip") == 1
    assert "Relu" not in [node.op_type for node in result.graph.node]


def test_a_fix_that_changes_the_result_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    honest = mend._apply

    def dishonest(model: onnx.ModelProto, rule: mend.Rule) -> bool:
        done = honest(model, rule)
        if done:
            model.graph.node[-1].input[1], name = "spoilt", model.graph.node[-1].input[1]
            weight = next(tensor for tensor in model.graph.initializer if tensor.name == name)
            values = onnx.numpy_helper.to_array(weight) * 1.000001
            model.graph.initializer.append(onnx.numpy_helper.from_array(values.astype(np.float32), "spoilt"))
        return done
    monkeypatch.setattr(mend, "_apply", dishonest)
    with pytest.raises(ArtifactError, match=r"change output 'y' by .* expected equal bits; nothing was written"):
        mended(planted.rounded_twice(planted.tensorrt()), "tensorrt")
