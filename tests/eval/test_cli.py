"""The commands: exit codes, what stands in their files, and one line for every mistake."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest

from edgekp.errors import EdgekpError
from eval.__main__ import main
from eval.verdict import Verdict, append_line
from tests.full_disk import files_of_at_most


def gate(baseline: Path, candidate: Path, data: Path, *options: str | Path) -> int:
    return main(["gate", "--baseline", str(baseline), "--candidate", str(candidate), "--data", str(data),
                 *map(str, options)])


def test_run_and_score_of_its_predictions_agree(toy_artifact: Callable[..., Path], toy_data: Callable[..., Path],
                                                tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data, predictions = toy_data(), tmp_path / "predictions.json"
    ours, again = tmp_path / "run.json", tmp_path / "score.json"
    assert main(["run", "--artifact", str(toy_artifact("body", 0.5)), "--data", str(data), "--json", str(ours),
                 "--predictions", str(predictions)]) == 0
    assert main(["score", "--gt", str(data), "--results", str(predictions), "--json", str(again)]) == 0
    metrics = json.loads(ours.read_text())["metrics"]
    assert metrics == json.loads(again.read_text())["metrics"]
    assert {"AP", "AP50", "AR", "mean_oks", "pck@0.2"} <= metrics.keys()
    assert 0.05 < metrics["AP"] < 1
    assert ["AP", f"{metrics['AP']:.6f}"] in [line.split() for line in capsys.readouterr().out.splitlines()]


def test_a_network_that_is_off_by_a_known_distance_has_that_nme(toy_artifact: Callable[..., Path],
                                                               toy_data: Callable[..., Path], tmp_path: Path) -> None:
    """The toy network knows the true pose, moved by 2 of 32 input pixels: 2.5 of the box's 40, right and down."""
    out, data = tmp_path / "run.json", toy_data("ibug68", noise_px=0.0)
    assert main(["run", "--artifact", str(toy_artifact("face", 2.0, "ibug68")), "--data", str(data),
                 "--json", str(out)]) == 0
    keypoints = np.reshape(json.loads(data.read_text())["annotations"][0]["keypoints"], (-1, 3))[:, :2]
    expected = 2.5 * np.sqrt(2) / np.linalg.norm(keypoints[36] - keypoints[45])
    assert json.loads(out.read_text())["metrics"]["nme"] == pytest.approx(expected, rel=1e-3)  # written to 0.001 px


def test_images_may_lie_in_another_folder(toy_artifact: Callable[..., Path], toy_data: Callable[..., Path],
                                          tmp_path: Path) -> None:
    artifact, data = toy_artifact("body"), toy_data()
    elsewhere = data.rename(tmp_path / "labels.json")
    command = ["run", "--artifact", str(artifact), "--data", str(elsewhere)]
    assert main(command) == 2
    assert main([*command, "--images", str(data.parent)]) == 0


@pytest.mark.parametrize(("skeleton", "offset_px", "code", "word"), [
    ("coco17", 0.0, 0, "pass"), ("coco17", 3.0, 1, "fail"), ("ibug68", 0.0, 0, "pass"), ("ibug68", 3.0, 1, "fail"),
    ("lsp14", float("nan"), 1, "fail")])
def test_gate_exit_codes_and_files(toy_artifact: Callable[..., Path], toy_data: Callable[..., Path], tmp_path: Path,
                                   skeleton: str, offset_px: float, code: int, word: str) -> None:
    files = [tmp_path / name for name in ("gate.json", "gate.xml", "gate.md")]
    found = gate(toy_artifact("float", 0.1, skeleton), toy_artifact("int8", 0.1 + offset_px, skeleton),
                 toy_data(skeleton), "--json", files[0], "--junit", files[1], "--markdown", files[2])
    verdict = json.loads(files[0].read_text())
    assert (found, verdict["verdict"], verdict["exit_code"]) == (code, word, code)
    assert len(ElementTree.fromstring(files[1].read_text()).findall("testcase/failure")) == code
    assert files[2].read_text().startswith(f"## Gate: {word.upper() if code else word}\n")


def test_a_history_grows_by_a_line_and_decides_nothing(toy_artifact: Callable[..., Path], toy_data: Callable[..., Path],
                                                       tmp_path: Path) -> None:
    float_model, worse, data = toy_artifact("float"), toy_artifact("int8", 3.0), toy_data()
    history = tmp_path / "h.jsonl"
    history.write_text("not even JSON\n")
    assert gate(float_model, worse, data, "--history", history) == 1
    assert gate(float_model, float_model, data, "--history", history) == 0
    lines = [json.loads(line) for line in history.read_text().splitlines()[1:]]
    assert [line["verdict"] for line in lines] == ["fail", "pass"]
    assert lines[0]["gates"][0]["numbers"]["loss"] > 0
    assert lines[0]["time"] <= lines[1]["time"]


def test_a_history_has_no_half_line_after_a_full_disk(tmp_path: Path) -> None:
    history, verdicts = tmp_path / "h.jsonl", [Verdict("AP", "int8", "pass", "0.7 -> 0.7", "no drop", {})]
    append_line(history, verdicts)
    line = history.read_text()
    with pytest.raises(EdgekpError, match=r"h\.jsonl: cannot be written"), files_of_at_most(len(line) + 40):
        append_line(history, verdicts)
    assert history.read_text() == line
    append_line(history, verdicts)
    assert [json.loads(entry)["verdict"] for entry in history.read_text().splitlines()] == ["pass", "pass"]


def test_a_drop_at_the_budget_is_undecided(toy_artifact: Callable[..., Path], toy_data: Callable[..., Path],
                                           tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before, after, data, out = toy_artifact("float"), toy_artifact("int8", 0.5), toy_data(), tmp_path / "gate.json"
    gate(before, after, data, "--json", out)
    drop = json.loads(out.read_text())["gates"][0]["numbers"]["loss"]
    capsys.readouterr()
    assert gate(before, after, data, "--budget", f"{drop * 1.01}", "--json", out) == 3
    assert "images would decide   undecided" in capsys.readouterr().out
    assert json.loads(out.read_text())["gates"][0]["numbers"]["images_needed"] > 24


def test_a_network_that_says_nan_is_told_so(toy_artifact: Callable[..., Path], toy_data: Callable[..., Path],
                                            capsys: pytest.CaptureFixture[str]) -> None:
    broken, data = toy_artifact("broken", float("nan")), toy_data()
    assert gate(toy_artifact("float"), broken, data) == 1
    assert "candidate: no finite prediction for 24 of 24 instances" in capsys.readouterr().out
    assert main(["run", "--artifact", str(broken), "--data", str(data)]) == 2
    assert "every output is NaN or infinite" in capsys.readouterr().err


Break = Callable[[Path, Path], None]
BREAKS: dict[str, tuple[Break, str]] = {
    "no data": (lambda artifact, data: data.unlink(), "no such file"),
    "broken JSON": (lambda artifact, data: _write(data, "{"), "broken JSON at line 1"),
    "no image": (lambda artifact, data: (data.parent / "3.png").unlink(), "cannot read the image"),
    "image that does not decode": (lambda artifact, data: _write(data.parent / "3.png", "GIF"), "neither JPEG"),
    "no artifact": (lambda artifact, data: shutil.rmtree(artifact), "no manifest.json"),
    "changed model": (lambda artifact, data: _write(artifact / "model.onnx", "x"), "the manifest says"),
    "changed manifest": (lambda artifact, data: _replace(artifact / "manifest.json", '"RGB"', '"BGR"'), "was changed"),
    "other skeleton": (lambda artifact, data: _replace(data, '"left_eye", ', ""), "has 16 keypoints"),
}


def _write(path: Path, text: str) -> None:
    path.write_text(text)


def _replace(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


@pytest.mark.parametrize("name", list(BREAKS))
def test_bad_input_is_one_line_and_exit_code_2(toy_artifact: Callable[..., Path], toy_data: Callable[..., Path],
                                               tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str) -> None:
    artifact, data, out = toy_artifact("body"), toy_data(), tmp_path / "run.json"
    damage, problem = BREAKS[name]
    damage(artifact, data)
    assert main(["run", "--artifact", str(artifact), "--data", str(data), "--json", str(out)]) == 2
    complaint = [line for line in capsys.readouterr().err.splitlines() if not line.startswith("eval: ")]
    assert len(complaint) == 1
    assert problem in complaint[0]
    assert not out.exists()


@pytest.mark.parametrize(("command", "problem"), [
    (["run", "--data", "x.json"], "--data belongs to --artifact"),
    (["run", "--artifact", "{body}"], "--data is missing"),
    (["gate", "--baseline", "{body}", "--data", "x.json"], "--candidate is missing"),
    (["gate", "--budget", "0.1"], "--budget belongs to --baseline"),
    (["gate", "--baseline", "{body}", "--candidate", "{face}", "--data", "x.json"], "do not fit each other"),
    (["latency", "--baseline", "{body}", "--candidate", "{face}"], "do not fit each other"),
    (["run", "--recipe", "nowhere.toml"], "no such recipe"),
])
def test_a_command_that_makes_no_sense_is_refused(toy_artifact: Callable[..., Path],
                                                  capsys: pytest.CaptureFixture[str], command: list[str],
                                                  problem: str) -> None:
    folders = {"body": str(toy_artifact("body")), "face": str(toy_artifact("face", skeleton="ibug68"))}
    assert main([word.format(**folders) for word in command]) == 2
    assert problem in capsys.readouterr().err


def test_a_place_that_cannot_be_written_is_one_line(toy_artifact: Callable[..., Path], toy_data: Callable[..., Path],
                                                    tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("")
    code = main(["run", "--artifact", str(toy_artifact("body")), "--data", str(toy_data()),
                 "--json", str(tmp_path / "file" / "run.json")])
    assert code == 2
    assert "cannot be written" in capsys.readouterr().err


@pytest.mark.parametrize("command", [[], ["run"], ["score"], ["gate"], ["latency"], ["report"]])
def test_help_of_every_command(command: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as done:
        main([*command, "--help"])
    assert done.value.code == 0
    assert "usage: python -m eval" in capsys.readouterr().out
