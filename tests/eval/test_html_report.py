"""The report of a run: what it says, that it needs no other file, and that nothing in a run can become markup."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from edgekp.atomic import sha256
from edgekp.errors import DataError, StageError
from edgekp.preprocess import crop_affine, transform
from edgekp.sample import ImageFile, Instance
from edgekp.skeletons import LSP14, skeleton_named
from eval.__main__ import main
from eval.charts import (
    Curve,
    Level,
    LossInterval,
    Point,
    interval_chart,
    trade_off_chart,
    training_chart,
    waterfall_chart,
)
from eval.ground_truth import read_ground_truth
from eval.html_report import write_report
from eval.pictures import FINAL, SIDE_PX, TRUTH, VIEW, draw, spread
from eval.results import Result
from tests.stages import accept_changes, leave_stage

Scatter = Callable[..., list[Result]]
METRIC_NAMES = {"oks_ap": ("AP", "pck@0.2"), "nme": ("nme", "failure_rate@0.08", "pck@0.2")}
HOSTILE = 'int8"><script>alert(1)<script $\\frac{$'
PICTURES = 3
IMAGES = PICTURES + 2  # one regression, of two pictures


class Page(HTMLParser):
    """What a browser would make of a page: its tags, its text, and the cells of each table row by the row's label."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.rows: list[list[str]] = []
        self.text = ""
        self._cell = False
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")
            self._cell = True

    def handle_endtag(self, tag: str) -> None:
        self._cell = self._cell and tag not in ("td", "th")

    def handle_data(self, data: str) -> None:
        self.text += data
        if self._cell:
            self.rows[-1][-1] += data

    def row(self, label: str) -> list[str]:
        return next(row[1:] for row in self.rows if row and row[0] == label)

    def images(self) -> list[str]:
        return [str(attributes["src"]) for tag, attributes in self.tags if tag == "img"]


def record(model: str, data: str, metric: str, worse: float, share: float) -> dict[str, Any]:
    """A model whose accuracy is off by ``worse`` and whose cost is ``share`` of float's."""
    return {"model": model, "data": data, "instances": 24, "predicted": 24,
            "metrics": {name: 0.05 + worse if name.startswith(("nme", "failure")) else 0.75 - worse
                        for name in METRIC_NAMES[metric]},
            "size_bytes": int(4_000_000 * share), "precision": "fp32" if share == 1 else "int8",
            "parameters": 950_000, "macs": None, "machine": "a <fast> machine",
            "latency_ms": {"p50": 2.5 * share, "p90": 3.0 * share, "p99": 4.0 * share}}


def gate_entry(outcome: str, subject: str, reason: str, binding: bool = True) -> dict[str, Any]:
    numbers = {"loss": 0.01, "loss_lower_95": -0.005, "loss_upper_95": 0.025, "budget": 0.02}
    return {"gate": "AP", "subject": subject, "outcome": outcome, "change": "0.7500 -> 0.7400", "reason": reason,
            "numbers": numbers, "binding": binding}


def write(path: Path, value: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value), encoding="utf-8")


@pytest.fixture
def toy_run(toy_data: Callable[..., Path], scattered: Scatter, rng: np.random.Generator, tmp_path: Path,
            monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """Writes the folder of a run with a float and an optimized model, evaluated and not yet judged."""
    def write_run(skeleton: str = "coco17", metric: str = "oks_ap", model: str = "int8", file_name: str = "",
                  pictures: int = PICTURES) -> Path:
        monkeypatch.setenv("EDGEKP_DATA", str(tmp_path))
        labels, run = toy_data(skeleton), tmp_path / "runs" / "toy"
        if file_name:
            rename_images(labels, file_name)
        name = f"data_{skeleton}/val"
        write(run / "eval" / "metrics.json", [record("float", name, metric, 0.0, 1.0),
                                              record(model, name, metric, 0.01, 0.25)])
        truth = read_ground_truth(labels, skeleton_named(skeleton))
        for number, predicted in enumerate(("float", model)):
            write(run / "eval" / "predictions" / f"{predicted}__{name.replace('/', '_')}.json",
                  scattered(truth, rng, spread_px=1.0 + number))
        settings = {"eval": {"metric": metric, "pictures": pictures}, "target": "cpu", "machine": "any",
                    "data": {"skeleton": skeleton, "val": [{"labels": f"{name}.json"}], "drawn": None}}
        leave_stage(run / "eval", settings=settings, inputs={f"data {name}": sha256(labels)})
        write(run / "train" / "history.json", [{"epoch": 1.0, "loss": 0.5, "lr": 1e-3},
                                               {"epoch": 2.0, "loss": 0.25, "lr": 1e-4, "val_pck@0.2": 0.7}])
        write(run / "optimize" / model / "history.json", [])
        write(run / "optimize" / model / "report.json",
              {"observer": "mse", "float_layers": ["head.output"], "thresholds": {"a": 1.0}})
        leave_stage(run / "train")
        leave_stage(run / "optimize" / model)
        return run
    return write_run


def rename_images(labels: Path, file_name: str) -> None:
    """Give every image a name that starts with ``file_name``."""
    document = json.loads(labels.read_text())
    for image in document["images"]:
        old, image["file_name"] = image["file_name"], f"{file_name}{image['file_name']}"
        (labels.parent / old).rename(labels.parent / image["file_name"])
    labels.write_text(json.dumps(document))


def judge(run: Path, *gates: dict[str, Any], verdict: str, **entry: Any) -> None:
    write(run / "gate" / "gate.json", {"verdict": verdict, "exit_code": 0, "gates": list(gates)})
    leave_stage(run / "gate", **entry)


def report(run: Path) -> Page:
    out = run / "report.html"
    write_report(run, out)
    return Page(out.read_text(encoding="utf-8"))


def test_the_table_lays_the_models_beside_each_other(toy_run: Callable[..., Path]) -> None:
    page = report(toy_run())
    assert page.row("") == ["float", "int8"]
    assert page.row("AP") == ["0.7500", "0.7400 \N{MINUS SIGN}0.0100"]
    assert page.row("precision") == ["fp32", "int8"]
    assert page.row("size") == ["4.00 MB", "1.00 MB \N{MINUS SIGN}75.0 %"]
    assert page.row("parameters") == ["0.95 M", "0.95 M +0.0 %"]
    assert page.row("MACs") == ["-", "-"]
    assert page.row("latency p99") == ["4.00 ms", "1.00 ms \N{MINUS SIGN}75.0 %"]
    assert page.row("speed-up at p50") == ["1.00\N{MULTIPLICATION SIGN}", "4.00\N{MULTIPLICATION SIGN}"]


def test_nme_is_a_percentage_and_its_change_a_share_as_the_gate_judges_it(toy_run: Callable[..., Path]) -> None:
    page = report(toy_run("ibug68", "nme"))
    assert page.row("nme") == ["5.00 %", "6.00 % +20.0 %"]
    assert page.row("failure_rate@0.08") == ["5.00 %", "6.00 % +1.00 pp"]
    assert "nme 5.00 % → 6.00 %, 4.00 MB → 1.00 MB, 2.50 ms → 0.62 ms" in page.text.replace("\N{NO-BREAK SPACE}", " ")


def test_it_needs_no_other_file_and_runs_no_script(toy_run: Callable[..., Path]) -> None:
    run = toy_run()
    page = report(run)
    html = (run / "report.html").read_text(encoding="utf-8")
    assert "http" not in html.replace("http-equiv", "")
    assert not {"script", "link", "iframe", "object", "base"} & {tag for tag, _ in page.tags}
    references = [value for _, attributes in page.tags for name, value in attributes.items()
                  if name in ("src", "srcset", "href", "xlink:href", "data", "poster")]
    assert all(str(value).startswith(("data:image/jpeg;base64,", "#")) for value in references)
    assert set(re.findall(r"url\((.)", html)) <= {"#"}
    assert "@import" not in html
    assert len(html) < 3_000_000


def test_the_pictures_are_images_of_the_size_that_is_stated(toy_run: Callable[..., Path]) -> None:
    page = report(toy_run())
    assert len(page.images()) == IMAGES
    for uri in page.images():
        data = np.frombuffer(base64.b64decode(uri.partition(",")[2], validate=True), np.uint8)
        assert cv2.imdecode(data, cv2.IMREAD_COLOR).shape == (SIDE_PX, SIDE_PX, 3)


def test_the_pictures_go_from_the_best_to_the_worst_of_the_last_model(toy_run: Callable[..., Path]) -> None:
    said = [float(value) for value in re.findall(r"int8: OKS (\d\.\d\d)", report(toy_run(pictures=12)).text)][:12]
    assert said == sorted(said, reverse=True)
    assert said[0] > said[-1]


def test_the_drawn_data_of_a_run_is_found_in_its_folder(toy_run: Callable[..., Path], tmp_path: Path) -> None:
    run = toy_run()
    (tmp_path / "data_coco17").rename(run / "data")
    leave_stage(run / "data")
    as_drawn = {"data_coco17/val.json": "drawn", "data_coco17/val": "drawn"}
    for name in ("metrics.json", "stage.json"):
        text = (run / "eval" / name).read_text()
        for old, new in as_drawn.items():
            text = text.replace(old, new)
        (run / "eval" / name).write_text(text.replace('"drawn": null', '"drawn": {"subject": "people"}'))
    for path in (run / "eval" / "predictions").iterdir():
        path.rename(path.with_name(path.name.replace("data_coco17_val", "drawn")))
    accept_changes(run / "eval")
    assert len(report(run).images()) == IMAGES


def test_a_recipe_can_ask_for_no_pictures(toy_run: Callable[..., Path]) -> None:
    page = report(toy_run(pictures=0))
    assert page.images() == []
    assert "Pictures" not in page.text


def test_without_a_gate_the_verdict_says_so_and_how_to_get_one(toy_run: Callable[..., Path]) -> None:
    page = report(toy_run())
    assert "Not judged" in page.text
    assert "The gate has not run. Run: make eval gate RECIPE=recipes/toy.toml" in page.text


@pytest.mark.parametrize(("verdict", "said"), [("fail", "int8 on b, AP: too much"), ("undecided", "int8 on c, AP: few"),
                                               ("pass", "All 3 gates of the final model passed.")])
def test_the_headline_gives_the_reasons_of_the_verdict_alone(toy_run: Callable[..., Path], verdict: str,
                                                             said: str) -> None:
    run = toy_run(pictures=0)
    judge(run, gate_entry("pass", "int8 on a", "little"), gate_entry("fail", "int8 on b", "too much"),
          gate_entry("undecided", "int8 on c", "few"), gate_entry("fail", "pruned on a", "much", binding=False),
          gate_entry("undecided", "pruned on b", "some", binding=False), verdict=verdict)
    text = report(run).text
    headline = text[text.index(verdict.capitalize()):text.index("against float")]
    assert re.findall(r"\S.*AP: .*|All.*", headline) == [said]


def test_the_gates_stand_in_a_table(toy_run: Callable[..., Path]) -> None:
    run = toy_run(pictures=0)
    judge(run, gate_entry("fail", "int8 on a", "drop 0.01 (95 %: -0.005 to 0.025)"), verdict="fail")
    assert report(run).row("AP") == ["0.7500", "0.7400 \N{MINUS SIGN}0.0100"]  # accuracy, before the gates
    assert ["AP", "int8 on a", "0.7500 → 0.7400", "drop 0.01 (95 %: -0.005 to 0.025)", "fail"] in report(run).rows
    assert "In brackets" not in report(run).text


def test_a_model_on_the_way_stands_in_brackets(toy_run: Callable[..., Path]) -> None:
    run = toy_run(pictures=0)
    judge(run, gate_entry("fail", "pruned on a", "much", binding=False), gate_entry("pass", "int8 on a", "little"),
          verdict="pass")
    page = report(run)
    assert ["AP", "pruned on a", "0.7500 → 0.7400", "much", "(fail)"] in page.rows
    assert "In brackets" in page.text


def test_nothing_in_a_run_becomes_markup(toy_run: Callable[..., Path]) -> None:
    file_name = '"><img src=x onerror=alert(1)>'
    run = toy_run(model=HOSTILE, file_name=file_name, pictures=1)
    judge(run, gate_entry("fail", HOSTILE, "<script>alert(2)</script>"), verdict="fail")
    page = report(run)
    assert "script" not in {tag for tag, _ in page.tags}
    assert len(page.images()) == 1
    assert file_name in page.text
    assert not any(name.startswith("on") for _, attributes in page.tags for name in attributes)
    assert page.row("") == ["float", HOSTILE]
    assert "<script>alert(2)</script>" in page.text
    assert "a <fast> machine" in page.text


def test_the_layers_that_stayed_in_float_are_named(toy_run: Callable[..., Path]) -> None:
    page = report(toy_run(pictures=0))
    assert page.row("layers that stayed in float") == ["head.output"]
    assert page.row("eval.metric") == ['"oks_ap"']


def test_the_same_run_gives_the_same_bytes(toy_run: Callable[..., Path], tmp_path: Path) -> None:
    run = toy_run()
    for name in ("first.html", "second.html"):
        write_report(run, tmp_path / name)
    assert (tmp_path / "first.html").read_bytes() == (tmp_path / "second.html").read_bytes()


def test_a_run_that_was_not_evaluated_is_told_which_command_does(tmp_path: Path) -> None:
    with pytest.raises(StageError, match=r"runs/none/eval: no result there; run: make eval gate RECIPE="):
        write_report(tmp_path / "runs" / "none", tmp_path / "report.html")


def test_missing_metrics_are_told_which_command_writes_them(toy_run: Callable[..., Path], tmp_path: Path) -> None:
    run = toy_run()
    (run / "eval" / "metrics.json").unlink()
    with pytest.raises(StageError, match=r"eval: metrics.json was changed .*; run: make eval gate RECIPE="):
        write_report(run, tmp_path / "report.html")
    assert not (tmp_path / "report.html").exists()


@pytest.mark.parametrize("file", [
    "eval/metrics.json", "gate/gate.json", "train/history.json", "optimize/int8/report.json",
    "waterfall/waterfall.json"])
def test_what_somebody_changed_since_is_not_believed(
        toy_run: Callable[..., Path], file: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = toy_run(pictures=0)
    judge(run, gate_entry("fail", "int8 on a", "much"), verdict="fail")
    explain(run)
    assert main(["report", "--run", str(run), "--out", str(tmp_path / "report.html")]) == 0
    path = run / file
    path.write_text(path.read_text().replace(".", ".9", 1))
    for command in ("report", "card"):
        assert main([command, "--run", str(run), "--out", str(tmp_path / command)]) == 2
        said = capsys.readouterr().err.strip()
        assert f"{path.parent}: {path.name} was changed or damaged since it was written; run: make " in said
        assert "\n" not in said


def test_a_verdict_on_other_predictions_or_by_other_settings_is_not_shown(toy_run: Callable[..., Path]) -> None:
    run = toy_run(pictures=0)
    name = "predictions int8__data_coco17_val"
    settings = json.loads((run / "eval" / "stage.json").read_text())["settings"]
    digest = sha256(run / "eval" / "predictions" / "int8__data_coco17_val.json")
    passed = gate_entry("pass", "int8 on a", "little")
    judge(run, passed, verdict="pass", inputs={name: digest, "ledger": "any"}, settings=settings)
    assert "int8 on a" in report(run).text
    for inputs, changed in (({name: "before"}, {}), ({name: digest, "model pruned": "gone"}, {}),
                            ({name: digest}, {"target": "jetson"}), ({name: digest}, {"eval": {"metric": "nme"}})):
        judge(run, passed, verdict="pass", inputs=inputs, settings=settings | changed)
        page = report(run)
        assert "int8 on a" not in page.text
        assert "not judged" in page.text


def test_a_verdict_beside_the_metrics_is_not_the_gates(toy_run: Callable[..., Path]) -> None:
    run = toy_run(pictures=0)
    write(run / "eval" / "gate.json", {"verdict": "pass", "gates": [gate_entry("pass", "int8 on a", "of the past")]})
    assert "not judged" in report(run).text


@pytest.mark.parametrize("entry", [
    {}, {"settings": [], "inputs": {}}, {"settings": {"eval": {}, "data": {}}, "inputs": {}}])
def test_a_stage_that_does_not_say_what_it_measured_is_refused_in_one_line(
        toy_run: Callable[..., Path], entry: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    run = toy_run(pictures=0)
    write(run / "eval" / "stage.json", {**entry, "files": {}})
    assert main(["report", "--run", str(run), "--out", str(run / "report.html")]) == 2
    assert re.fullmatch(r"python -m eval: \S+/eval/stage.json: expected settings .*; run: make eval gate RECIPE=\S+",
                        capsys.readouterr().err.strip())


def test_labels_that_changed_since_are_not_shown_as_the_truth(toy_run: Callable[..., Path], tmp_path: Path) -> None:
    run = toy_run()
    labels = tmp_path / "data_coco17" / "val.json"
    labels.write_text(labels.read_text() + "\n")
    with pytest.raises(StageError, match="has changed since the models were measured on it"):
        write_report(run, tmp_path / "report.html")


def test_a_missing_image_is_named(toy_run: Callable[..., Path], tmp_path: Path) -> None:
    run = toy_run(pictures=24)
    (tmp_path / "data_coco17" / "7.png").unlink()
    with pytest.raises(DataError, match=r"7\.png: cannot read the image"):
        write_report(run, tmp_path / "report.html")


def test_the_command_writes_the_file_or_one_line(toy_run: Callable[..., Path], tmp_path: Path,
                                                 capsys: pytest.CaptureFixture[str]) -> None:
    run, out = toy_run(pictures=1), tmp_path / "out" / "report.html"
    assert main(["report", "--run", str(run), "--out", str(out)]) == 0
    assert capsys.readouterr().out.strip() == str(out)
    assert out.read_text(encoding="utf-8").startswith("<!doctype html>")
    assert main(["report", "--run", str(tmp_path / "none"), "--out", str(out)]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1


def test_keypoints_are_drawn_where_they_are_and_unlabelled_ones_not(rng: np.random.Generator) -> None:
    true_xy = rng.uniform(30, 70, (len(LSP14), 2))
    true_xy[3] = 25, 25  # off the limbs of the others
    visibility = np.where(np.arange(len(LSP14)) == 3, 0, 2)
    instance = Instance(1, ImageFile(1, "", 100, 100), true_xy, visibility, np.array([20.0, 20, 60, 60]), 3600.0)
    alone = draw(np.zeros((100, 100, 3), np.uint8), instance, LSP14, [(true_xy, TRUTH)])
    view_xy = transform(true_xy, crop_affine(instance.bbox_xywh, VIEW.input_hw, VIEW.padding)).round().astype(int)
    lit = alone[view_xy[:, 1], view_xy[:, 0]].min(-1) > 200
    np.testing.assert_array_equal(lit, instance.labelled)
    both = draw(np.zeros((100, 100, 3), np.uint8), instance, LSP14, [(true_xy, TRUTH), (true_xy, FINAL)])
    np.testing.assert_array_equal(both[view_xy[0, 1], view_xy[0, 0]], FINAL)


def test_a_prediction_that_is_missing_or_far_away_leaves_the_picture_whole(rng: np.random.Generator) -> None:
    true_xy = rng.uniform(30, 70, (len(LSP14), 2))
    instance = Instance(1, ImageFile(1, "", 100, 100), true_xy, np.full(len(LSP14), 2), np.array([20.0, 20, 60, 60]),
                        3600.0)
    image = np.zeros((100, 100, 3), np.uint8)
    alone = draw(image, instance, LSP14, [(true_xy, TRUTH)])
    for lost in (np.full_like(true_xy, np.inf), np.full_like(true_xy, 1e12)):
        np.testing.assert_array_equal(draw(image, instance, LSP14, [(true_xy, TRUTH), (lost, FINAL)]), alone)


def test_a_spread_reaches_from_best_to_worst_and_leaves_out_what_has_no_error() -> None:
    errors = np.array([0.4, np.nan, 0.1, np.inf, 0.3, 0.2])
    assert spread(errors, 3) == [2, 4, 3]  # best, median, worst: a missing prediction is the worst
    assert spread(errors, 99) == [2, 5, 4, 0, 3]
    assert spread(np.array([np.nan]), 3) == []


def test_missing_predictions_are_said(toy_run: Callable[..., Path]) -> None:
    run = toy_run(pictures=24)
    path = run / "eval" / "predictions" / "int8__data_coco17_val.json"
    write(path, json.loads(path.read_text())[1:])
    accept_changes(run / "eval")
    text, regressions = report(run).text.split("Worst regressions")
    assert len(re.findall("int8: no prediction", text)) == 1
    assert regressions.index("int8: no prediction") < regressions.index("int8: OKS")  # nothing is worse


def test_regressions_stand_side_by_side_the_worst_in_front(toy_run: Callable[..., Path]) -> None:
    text = report(toy_run(pictures=12)).text.split("Worst regressions")[1]
    before, after = (np.array([float(value) for value in re.findall(rf"{model}: OKS (\d\.\d\d)", text)])
                     for model in ("float", "int8"))
    lost = before - after
    assert len(lost) == 12 // 3
    assert (lost > 0).all()
    assert (np.diff(lost) <= 0.011).all()  # two numbers, each rounded to a hundredth


def explain(run: Path, **inputs: str) -> None:
    """Leave a waterfall in the run's folder, of models with these digests."""
    layer = {"layer": "backbone.stem.0", "part": "weights", "sqnr_db": None, "error_px": 0.25}
    write(run / "waterfall" / "waterfall.json", {
        "data": "val", "metric": "AP", "relative": False, "baseline": 0.75, "cause": "pruned", "layers": [layer],
        "falls": [{"step": "pruned", "change": "network", "value": 0.70, "loss": 0.05, "loss_lower_95": 0.04,
                   "loss_upper_95": 0.06},
                  {"step": "int8", "change": "grid", "value": 0.72, "loss": -0.02, "loss_lower_95": -0.03,
                   "loss_upper_95": -0.01}]})
    leave_stage(run / "waterfall", inputs=inputs)


def test_the_waterfall_and_the_layers_are_shown(toy_run: Callable[..., Path]) -> None:
    run = toy_run()
    assert "Where the points went" not in report(run).text
    explain(run)
    page = report(run)
    assert "Where the points went" in page.text
    assert page.row("backbone.stem.0") == ["weights", "0.250 px", "-"]
    assert {"baseline", "pruned", "int8"} <= set(re.findall(r">([^<>]+)</text>", (run / "report.html").read_text()))


def test_the_waterfall_of_other_models_is_not_shown(toy_run: Callable[..., Path]) -> None:
    run = toy_run()
    key = json.loads((run / "eval" / "stage.json").read_text())
    key["inputs"]["model int8"] = "now"
    write(run / "eval" / "stage.json", key)
    explain(run, **{"model int8": "now"})
    assert "Where the points went" in report(run).text
    explain(run, **{"model int8": "before"})
    assert "Where the points went" not in report(run).text


@pytest.mark.parametrize("lower_is_better", [True, False])
def test_a_bar_of_the_waterfall_runs_from_the_value_before_to_the_value_after(lower_is_better: bool) -> None:
    svg = waterfall_chart([Level("a", 0.5), Level("b", 0.4), Level("c", 0.45)], "AP", lower_is_better)
    bars = re.findall(r"<path[^>]*style=\"fill: (var\(--\w+\))\"", svg)
    assert bars == (["var(--first)", "var(--second)"] if lower_is_better else ["var(--second)", "var(--first)"])


def test_the_parts_that_lost_most_of_the_final_model_are_told(toy_run: Callable[..., Path]) -> None:
    part = {"name": "left_wrist", "measured": "OKS", "images": 30, "baseline": 0.8, "candidate": 0.7, "loss": 0.1,
            "loss_lower_95": 0.05, "loss_upper_95": 0.15, "p_loss": 0.001, "p_over_budget": 0.01}
    final, on_the_way = gate_entry("pass", "int8 on val", "fine"), gate_entry("pass", "pruned on val", "fine", False)
    final["numbers"]["slices"] = [part | {"name": "nose", "p_loss": 0.5}, part]
    on_the_way["numbers"]["slices"] = [part | {"name": "left_ear"}]
    run = toy_run()
    judge(run, on_the_way, final, verdict="pass")
    page = report(run)
    assert page.row("left_wrist") == ["int8 on val", "OKS", "0.8000 → 0.7000", "+0.1000", "+0.0500 to +0.1500", "0.001"]
    names = [row[0] for row in page.rows if row and row[0] in ("left_wrist", "nose", "left_ear")]
    assert names == ["left_wrist", "nose"]


def marker_heights(svg: str, labels: list[str]) -> list[float]:
    """Distance from the top of each label."""
    return [float(re.findall(rf'<text[^>]* y="([\d.]+)"[^>]*>{label}</text>', svg)[0]) for label in labels]


@pytest.mark.parametrize("lower_is_better", [True, False])
def test_the_better_model_is_always_higher_up(lower_is_better: bool) -> None:
    svg = trade_off_chart([Point("small", 1.0, 0.1), Point("large", 2.0, 0.9)], "metric", lower_is_better)
    small, large = marker_heights(svg, ["small", "large"])
    assert (small < large) == lower_is_better


def test_charts_take_their_colours_from_the_page() -> None:
    svgs = [training_chart([Curve("loss", [1, 2], [0.5, 0.2]), Curve("validation", [2], [0.1])]),
            interval_chart([LossInterval("int8", 0.5, -0.1, 1.2)])]
    for svg in svgs:
        assert svg.startswith("<svg")
        assert set(re.findall(r"#[0-9a-f]{6}\b", svg)) == set()
        assert {"currentColor", "var(--line)", "var(--first)", "var(--second)"} <= set(
            re.findall(r"currentColor|var\(--\w+\)", svg))


def test_a_training_without_validation_has_one_panel(toy_run: Callable[..., Path]) -> None:
    run = toy_run(pictures=0)
    write(run / "train" / "history.json", [{"epoch": 1.0, "loss": 0.5}])
    accept_changes(run / "train")
    text = report(run).text
    assert "epoch" in text
    assert "validation:" not in text


def test_the_rungs_of_a_repair_and_what_each_float_layer_bought_are_told(toy_run: Callable[..., Path]) -> None:
    run = toy_run()
    loss = {"gate": "AP", "outcome": "fail", "reason": "drop <0.05> of 0.02 allowed", "loss": 0.05}
    passed = loss | {"outcome": "pass", "reason": "drop 0.01 of 0.02 allowed", "loss": 0.01}
    cost = {"layer": "stem.0", "error_px": 1.25, "oks_drop": 0.02, "sqnr_db": None, "weights_px": 0.5,
            "activations_px": None}
    steps = [{"rung": "recipe", "why": "asked", "kept": True, "note": "", "outcome": "fail", "losses": {"val": loss},
              "size_bytes": 1_000_000, "latency_ratio": 0.5},
             {"rung": "equalisation", "why": "ranges", "kept": False, "note": "changes nothing here"},
             {"rung": "1 float layer(s)", "why": "fewest", "kept": True, "note": "", "outcome": "pass",
              "losses": {"val": passed}, "size_bytes": 1_250_000}]
    left = [{"layer": "stem.0", "bytes": 250_000, "losses": {"val": {"with": 0.01, "without": 0.05}}}]
    write(run / "optimize" / "int8" / "report.json", {"observer": "mse", "float_layers": ["stem.0"], "repair": {
        "result": "the gate passes at rung 3", "steps": steps, "left_in_float": left, "layers": [cost]}})
    accept_changes(run / "optimize" / "int8")
    page = report(run)
    assert "the gate passes at rung 3" in page.text
    assert page.row("recipe") == ["asked", "val: fail, drop <0.05> of 0.02 allowed", "1,000 kB", "0.50 of float",
                                  "kept"]
    assert page.row("equalisation") == ["ranges", "skipped: changes nothing here", "", "", ""]
    assert page.row("1 float layer(s)")[1:] == ["val: pass, drop 0.01 of 0.02 allowed", "1,250 kB", "", "kept"]
    told = [row[1:] for row in page.rows if row[:1] == ["stem.0"]]
    assert told == [["val", "+0.0100", "+0.0500", "+250.0 kB"],
                    ["1.250 px", "\N{HYPHEN-MINUS}0.0200", "-", "0.500 px", ""]]


def test_a_run_without_a_repair_has_no_section_about_one(toy_run: Callable[..., Path]) -> None:
    assert "Repair of" not in report(toy_run()).text
