"""``benchmarks.claims``: the rule of the verdicts, what every answer holds, what is trained, and the page."""

from __future__ import annotations

import json
import math
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from benchmarks.claims import __main__ as command
from benchmarks.claims import costs, pruned_speed, training
from benchmarks.claims.answers import MEAN_POSE, Look, answers
from benchmarks.claims.arms import ARMS, Arm
from benchmarks.claims.claim_list import CLAIMS
from benchmarks.claims.comparisons import COMPARISONS
from benchmarks.claims.measures import AP, MEAN_OKS, NME
from benchmarks.claims.page import METHOD, page
from benchmarks.claims.rows import comparison_row, gain_row, needs_hardware
from benchmarks.claims.sets import SETS, Split
from benchmarks.claims.verdict import gain
from edgekp.coco import read_coco
from edgekp.skeletons import COCO17
from tests import tiny
from train.models import spec_of

FIELDS = {"claim", "source", "measured", "unit", "verdict"}
VERDICTS = {"holds", "does not hold", "needs hardware"}
Trainable = tuple[Arm, dict[tuple[str, str], Split]]
ASKED_FOR = [f"C{number}" for number in range(1, 20)]


# The rule

@pytest.mark.parametrize(("values", "claimed", "verdict"), [
    ((0.10, 0.11, 0.12), 0.0, "holds"),
    ((-0.10, -0.11, -0.12), 0.0, "does not hold"),
    ((0.10, -0.05, 0.12), 0.0, "does not hold"),
    ((0.10, 0.11, 0.12), 0.11, "holds"),
    ((0.10, 0.11, 0.12), 0.17, "does not hold"),
    ((0.0, 0.0, 0.0), 0.0, "does not hold"),
    ((0.1, math.nan, 0.1), 0.0, "does not hold"),
    ((0.1,), 0.0, "does not hold"),
])
def test_a_claim_holds_if_its_bound_excludes_zero_and_its_size_is_reached(
        values: tuple[float, ...], claimed: float, verdict: str) -> None:
    assert gain(values).verdict(claimed) == verdict


def test_the_verdict_is_that_of_a_one_sided_t_test(rng: np.random.Generator) -> None:
    for _ in range(200):
        values = rng.normal(0.5, 1, 3)
        shown = stats.ttest_1samp(values, 0, alternative="greater").pvalue < 0.05
        assert gain(values.tolist()).verdict() == ("holds" if shown else "does not hold")


def test_the_lower_bound_holds_as_often_as_it_promises(rng: np.random.Generator) -> None:
    n = 1000
    held = sum(gain(rng.normal(1, 1, 3).tolist()).lower <= 1 for _ in range(n))
    assert abs(held / n - 0.95) < 4 * math.sqrt(0.95 * 0.05 / n)


def test_one_seed_knows_no_spread() -> None:
    one = gain([0.3])
    assert (one.mean, one.spread, one.lower, one.upper) == (0.3, None, -math.inf, math.inf)


def test_a_gain_is_a_share_of_errors_and_points_of_scores() -> None:
    assert NME.gain(0.06, 0.08, as_share=False) == pytest.approx(0.25)
    assert AP.gain(0.55, 0.50, as_share=False) == pytest.approx(0.05)
    assert AP.gain(0.55, 0.50, as_share=True) == pytest.approx(0.10)
    assert math.isnan(AP.gain(0.55, 0.0, as_share=True))


# What is compared

def test_every_claim_of_the_sources_has_an_answer() -> None:
    answered = {entry.claim for entry in COMPARISONS} | command.COSTS.keys()
    assert [name for name in ASKED_FOR if name not in CLAIMS] == []
    assert answered == CLAIMS.keys()


@pytest.mark.parametrize("arm", ARMS.values(), ids=ARMS)
def test_every_arm_can_be_built_and_is_compared(arm: Arm) -> None:
    spec_of(arm.seeded(0))
    assert set(arm.train_sets) <= set(SETS)
    assert any(arm.name in entry.arms for entry in COMPARISONS)


@pytest.mark.parametrize("entry", COMPARISONS, ids=lambda entry: f"{entry.claim} {entry.about}")
def test_both_sides_are_measured_on_one_set_and_trained_for_as_long(entry: object) -> None:
    assert entry.favoured.test == entry.other.test
    assert entry.favoured != entry.other
    looks = [look for look in (entry.favoured, entry.other) if look.arm != MEAN_POSE]
    own = [ARMS[look.arm].second if look.weights == training.SECOND else ARMS[look.arm] for look in looks]
    assert len({(arm.train_set, arm.recipe.train.epochs, arm.recipe.train.batch) for arm in own}) == 1


def test_together_costs_what_both_cost_alone() -> None:
    """In steps: 2,000 people and 1,018 faces, 32 of each a step."""
    people, faces = ARMS["bodies-and-faces"].recipe.train, ARMS["faces-alone"].recipe.train
    assert people.epochs * (2000 // people.batch) == faces.epochs * (1018 // faces.batch)


@pytest.mark.parametrize(("pair", "may_differ"), [
    (("people", "people-se"), {"model"}), (("people", "people-cbam"), {"model"}),
    (("people", "people-half-body"), {"augment"}), (("people", "people-one-cell"), {"codec"}),
    (("small-fpn", "small-plain"), {"model"}), (("faces-small-sigma", "faces-large-sigma"), {"codec"}),
    (("fuzzy-small-sigma", "fuzzy-large-sigma"), {"codec"}), (("faces-wing", "faces-mse"), {"train"}),
])
def test_arms_differ_in_what_the_claim_is_about_and_nothing_else(pair: tuple[str, str], may_differ: set[str]) -> None:
    first, second = (ARMS[name].recipe for name in pair)
    assert {name for name in vars(first) if getattr(first, name) != getattr(second, name)} == may_differ


def test_the_one_cell_target_is_one_in_one_cell() -> None:
    codec = ARMS["people-one-cell"].recipe.build_codec()
    target = codec.encode(np.array([[[31.3, 40.9], [2.0, 5.0]]]), np.array([[2, 2]])).arrays["heatmaps"]
    assert target.sum((2, 3)).tolist() == [[1.0, 1.0]]
    assert target.max() == 1


# Answers and rows

def assert_is_a_row(entry: dict[str, object]) -> None:
    assert entry.keys() >= FIELDS
    assert entry["claim"] in CLAIMS
    assert entry["verdict"] in VERDICTS
    assert entry["measured"] is None or math.isfinite(entry["measured"])
    assert bool(entry.get("hardware")) == (entry["verdict"] == "needs hardware")
    assert not any(isinstance(value, dict) for value in entry.values()), "records are flat"
    json.dumps(entry, allow_nan=False)


def test_rows_of_comparisons_are_records_of_the_interface() -> None:
    for comparison in COMPARISONS:
        assert_is_a_row(comparison_row(comparison, [0.3, 0.31, 0.32], [0.2, 0.22, 0.21], n=10, share=1.0))
        assert_is_a_row(comparison_row(comparison, [math.nan], [0.2], n=10, share=0.7))


def test_what_this_machine_cannot_answer_names_the_hardware() -> None:
    for claim in ("C10", "C12", "C17"):
        entry, = command.COSTS[claim]()
        assert_is_a_row(entry)
        assert (entry["claim"], entry["measured"]) == (claim, None)
        assert CLAIMS[claim].hardware in entry["about"]


@pytest.mark.slow
def test_costs_are_measured() -> None:
    rows = [*costs.speed_of_mixed_precision(rounds=2), *costs.memory_of_mixed_precision(), *costs.mobilefacenet()]
    for entry in rows:
        assert_is_a_row(entry)
    memory = next(entry for entry in rows if entry["claim"] == "C14")
    assert 0 < memory["measured"] < 0.5, "two bytes in place of four for a part of it"


@pytest.mark.slow
def test_pruned_networks_are_timed_beside_their_macs(monkeypatch: pytest.MonkeyPatch) -> None:
    wide = tiny.recipe(model=replace(tiny.HRNET, options={**tiny.HRNET.options, "width": 32}))
    monkeypatch.setattr(pruned_speed, "NETWORKS", {"a wide one": wide})
    one, sixteen = pruned_speed.speed_of_pruned_networks(repetitions=2)
    for entry in (one, sixteen):
        assert_is_a_row(entry)
        assert entry["repetitions"] == 2
        assert "a wide one" in entry["about"]
    assert one["macs_fewer"] == pytest.approx(1 - 0.8 ** 2, abs=0.06), "inputs and outputs of most layers are narrower"
    assert "multiples of 16" in sixteen["about"]


@pytest.mark.slow
def test_every_planted_fault_is_counted() -> None:
    from benchmarks.claims.faults import planted_faults

    entry, = planted_faults()
    assert_is_a_row(entry)
    assert entry["found_by_doctor"] == entry["n"]
    assert 0 < entry["silent"] < entry["n"], "no label set without annotations is trained on; exchanged hips are"


# Trainings

FIRST = training.FIRST_SEED


@pytest.fixture
def tiny_arm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Trainable:
    monkeypatch.chdir(tmp_path)
    folder = tiny.write_sets(tmp_path / "sets")
    splits = {("people", split): Split(folder / f"{split}.json", folder) for split in ("train", "val")}
    arm = Arm("tiny", replace(tiny.recipe(codec="heatmap"), train=replace(tiny.TRAIN, epochs=2)), "people", 1.0)
    return arm, splits


def test_an_arm_is_trained_once_and_again_when_it_changes(
        tiny_arm: Trainable) -> None:
    arm, splits = tiny_arm
    split = splits["people", "train"]
    assert training.train_arm(arm, 0, 1.0, (split,))
    assert not training.train_arm(arm, 0, 1.0, (split,))
    assert training.train_arm(arm, 1, 1.0, (split,))
    assert training.train_arm(arm, 0, 0.5, (split,)), "half of the epochs are another training"
    other = replace(arm, recipe=replace(arm.recipe, augment=tiny.STILL))
    assert training.train_arm(other, 0, 0.5, (split,))


def test_raw_weights_and_averaged_ones_are_of_one_training(
        tiny_arm: Trainable) -> None:
    arm, splits = tiny_arm
    training.train_arms([arm], 1, 1.0, splits, jobs=1)
    sides = [answers(Look("tiny", "people", weights), FIRST, splits).scored.predicted_xy
             for weights in ("averaged", "raw")]
    assert not np.array_equal(*sides)


def test_an_arm_of_two_tasks_leaves_a_network_of_each(tiny_arm: Trainable) -> None:
    alone, splits = tiny_arm
    both = replace(alone, name="both", second=alone)
    training.train_arms([both], 1, 1.0, splits, jobs=1)
    sides = [answers(Look("both", "people", weights), FIRST, splits).scored.predicted_xy
             for weights in (training.AVERAGED, training.SECOND)]
    assert not np.array_equal(*sides)
    assert not training.train_arm(both, FIRST, 1.0, (splits["people", "train"],) * 2)


def test_decoders_are_asked_about_the_same_maps(tiny_arm: Trainable) -> None:
    arm, splits = tiny_arm
    training.train_arms([arm], 1, 1.0, splits, jobs=1)
    looks = [answers(Look("tiny", "people", refine=refine), FIRST, splits)
             for refine in ("none", "quadratic", "dark", "")]
    cell, quadratic, dark, trained = (look.scored.predicted_xy / look.input_px[:, None, None] for look in looks)
    np.testing.assert_array_equal(dark, trained)
    half_a_cell = 2 * math.sqrt(2) + 1e-9
    assert 0 < np.linalg.norm(quadratic - cell, axis=-1).max() <= half_a_cell


def test_the_mean_pose_is_the_same_part_of_everybodys_box(
        tiny_arm: Trainable) -> None:
    _, splits = tiny_arm
    asked = answers(Look(MEAN_POSE, "people"), 0, splits)
    people = read_coco(splits["people", "train"].labels, COCO17).instances
    boxes = asked.scored.truth.bbox_xywh
    in_box = (asked.scored.predicted_xy - boxes[:, None, :2]) / boxes[:, None, 2:]
    wanted = np.mean([(person.keypoints_xy - person.bbox_xywh[:2]) / person.bbox_xywh[2:] for person in people], axis=0)
    np.testing.assert_allclose(in_box, np.broadcast_to(wanted, in_box.shape), atol=1e-9)
    assert 0 < MEAN_OKS.of(asked) < 1


# The command

def run_command(*words: str) -> int:
    return command.main([*words, "--out", "claims.json"])


def test_help(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="0"):
        command.main(["--help"])
    assert capsys.readouterr().out.startswith("usage: python -m benchmarks.claims")


def test_unknown_claims_and_counts_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command("--only", "C99") == 2
    assert "C99" in capsys.readouterr().err
    for words in (("--seeds", "0"), ("--jobs", "-1"), ("--minutes", "nan")):
        assert run_command(*words) == 2
        assert "expected more than 0" in capsys.readouterr().err


def test_without_the_faces_the_claims_that_need_none_are_named(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("EDGEKP_DATA", str(tmp_path))
    assert run_command("--only", "C16") == 2
    named = capsys.readouterr().err.split("--only ")[1].split()[0].split(",")
    assert named == [name for name in CLAIMS if (about := [entry for entry in COMPARISONS if entry.claim == name])
                     and not any("faces" in part for entry in about for part, _ in entry.splits)]


def test_answers_to_other_claims_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert run_command("--only", "C17") == 0
    assert run_command("--only", "C10,C12") == 0
    assert run_command("--only", "C17") == 0
    rows = json.loads((tmp_path / "claims.json").read_bytes())
    assert [entry["claim"] for entry in rows] == ["C10", "C12", "C17"]
    assert all(entry["machine"] for entry in rows)


def test_minutes_cut_the_epochs_of_every_arm_alike() -> None:
    arms = list(ARMS.values())
    whole = 3 * sum(arm.seconds() for arm in arms) / 60
    assert command._share(arms, 3, None) == command._share(arms, 3, 2 * whole) == 1
    assert command._share(arms, 3, whole / 4) == pytest.approx(0.25)
    assert command._share([], 3, 1.0) == 1


@pytest.mark.slow
@pytest.mark.parametrize("jobs", ["1", "2"])
def test_from_a_claim_to_its_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, jobs: str) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("benchmarks.claims.sets.DRAWN", replace(command.split_of.__globals__["DRAWN"], train=64, val=8))
    assert run_command("--only", "C3,DARK", "--seeds", "2", "--minutes", "0.01", "--jobs", jobs, "--write-docs") == 0
    rows = json.loads((tmp_path / "claims.json").read_bytes())
    assert [entry["claim"] for entry in rows] == ["C3", "DARK"]
    for entry in rows:
        assert_is_a_row(entry)
        assert (entry["repetitions"], entry["n"]) == (2, 8)
    assert (tmp_path / "docs/claims.md").read_text(encoding="utf-8").count("| C3 |") == 1


# The page

def test_the_page_fills_every_gap_of_the_method() -> None:
    gap = gain_row("C3", "one against another", gain([0.1, 0.2, 0.3]), "share of the other median error",
                   favoured=1.0, other=1.25, measure="median error", machine="a machine")
    text = page([gap, needs_hardware("C10", "needs a Jetson", machine="a machine")])
    assert "<!--" in METHOD.read_text(encoding="utf-8")
    assert "<!--" not in text
    assert "+20.0 % (median error 1 against 1.25)" in text
    assert "needs hardware: a Jetson" in text
    assert all(f"**{name}**" in text for name in CLAIMS)
    for line in text.splitlines():
        assert not line.startswith("| C") or len(re.findall(r"(?<!\\)\|", line)) == 6
