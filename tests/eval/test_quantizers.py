"""The comparison of quantizers: which way round it subtracts, and that chance alone makes nobody worse."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from benchmarks.quantizers import OURS, Row, better_by, judged, outcome
from edgekp.recipe import Eval
from eval.bootstrap import Interval
from eval.ground_truth import GroundTruth
from eval.metrics import metric_chosen
from eval.results import Result, lay_beside


def row(name: str, better: Interval | None) -> Row:
    return Row(name, {"people": 0.5}, 1000, 1.0, {"people": better} if better else {})


def test_ours_is_called_worse_only_where_the_whole_interval_says_so() -> None:
    rows = [row(OURS, None), row("chance", Interval(-0.02, -0.05, 0.001)), row("good", Interval(0.1, 0.05, 0.2))]
    assert outcome(rows, "people") == "people: edgekp is worse by more than chance than none of them"
    rows.append(row("beyond chance", Interval(-0.02, -0.03, -0.001)))
    assert outcome(rows, "people").endswith("than beyond chance")


@pytest.mark.parametrize("choice", [Eval("oks_ap"), Eval("pck"), Eval("nme", "box")])
def test_ours_is_better_where_its_keypoints_are_nearer_whichever_way_the_metric_runs(
        choice: Eval, toy_truth: Callable[..., GroundTruth], scattered: Callable[..., list[Result]],
        rng: np.random.Generator) -> None:
    truth, metric = toy_truth(n_images=40), metric_chosen(choice)
    near, far = (lay_beside(truth, scattered(truth, rng, spread_px)) for spread_px in (1.0, 12.0))
    better = better_by(metric, near, far)
    assert better.lower > 0
    assert better_by(metric, far, near).upper < 0
    assert better_by(metric, near, near) == Interval(0.0, 0.0, 0.0)
    if not metric.relative:
        assert better.point == pytest.approx(judged(metric, near) - judged(metric, far))
