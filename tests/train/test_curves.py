"""What a run leaves of its history: files beside the checkpoint, TensorBoard's scalars, lines on stderr."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from edgekp.errors import RecipeError
from edgekp.recipe_train import Train
from tests import tiny
from train.__main__ import main
from train.curves import draw_curves, write_history
from train.history import Entry
from train.reporter import Reporter, tensorboard_writer
from train.task import Task

HISTORY: list[Entry] = [{"epoch": float(epoch), "loss": 10.0 / epoch, "lr": 1e-3 / epoch}
                        | ({"val_pck@0.2": 0.1 * epoch} if epoch % 2 == 0 else {}) for epoch in range(1, 7)]


def reporter(folder: Path, *, tensorboard: bool = False, silent: bool = False, first_step: int = 0) -> Reporter:
    recipe = tiny.recipe()
    task = Task("train", recipe.contract(), [], [], Train(epochs=6), recipe.augment, state=folder / "x.safetensors",
                tensorboard=folder / "tensorboard" if tensorboard else None)
    return Reporter(task, steps_per_epoch=4, images_per_step=8, first_step=first_step, silent=silent)


def test_a_history_becomes_json_csv_and_a_picture(tmp_path: Path) -> None:
    write_history(tmp_path, HISTORY)
    assert json.loads((tmp_path / "history.json").read_text()) == HISTORY
    assert (tmp_path / "history.csv").read_text().splitlines()[2] == "2,5.0,0.0005,0.2"
    picture = cv2.imread(str(tmp_path / "curves.png"))
    assert picture is not None
    assert np.ptp(picture) > 200  # something is drawn


def test_every_curve_has_its_panel() -> None:
    heights = [cv2.imdecode(np.frombuffer(draw_curves(history), np.uint8), cv2.IMREAD_COLOR).shape[0]
               for history in (HISTORY[:1], HISTORY)]
    assert heights == [round(120 * (1 + 1.8 * panels)) for panels in (2, 3)]


def test_a_loss_of_nothing_can_be_drawn() -> None:
    assert draw_curves([{"epoch": 1.0, "loss": 0.0, "lr": 0.0}]).startswith(b"\x89PNG")


def test_without_matplotlib_the_picture_is_left_out_with_a_word(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    write_history(tmp_path, HISTORY)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["history.csv", "history.json"]
    assert "no curves.png, matplotlib is not installed: pip install 'matplotlib" in capsys.readouterr().err


def test_an_epoch_is_one_line_with_speed_and_time_left(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    teller = reporter(tmp_path)
    for _ in teller.bar(range(4), epoch=1, done=0):
        pass
    teller.tell(HISTORY[:1])
    for _ in teller.bar(range(4), epoch=2, done=0):
        pass
    teller.tell(HISTORY[:2])
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2  # no bar where stderr is no terminal
    assert re.fullmatch(r"train: epoch 2/6  loss 5  lr 0.0005  val_pck@0.2 0.2  \d+ images/s  \d\d:\d\d left", lines[1])


def test_all_but_the_first_process_are_silent(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    reporter(tmp_path, tensorboard=True, silent=True).tell(HISTORY)
    assert capsys.readouterr().err == ""
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_tensorboard_has_each_epoch_once_after_a_resume(tmp_path: Path) -> None:
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    first = reporter(tmp_path, tensorboard=True)
    for epoch in (1, 2, 3):
        first.tell(HISTORY[:epoch])
    resumed = reporter(tmp_path, tensorboard=True, first_step=2 * 4 + 1)  # the state is of the third epoch's first step
    for epoch in (3, 4):
        resumed.tell(HISTORY[:epoch])
    events = accumulator.EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    assert [(event.step, event.value) for event in events.Scalars("loss")] == [
        (epoch, pytest.approx(10 / epoch)) for epoch in (1, 2, 3, 4)]
    assert [event.step for event in events.Scalars("val_pck_0.2")] == [2, 4]


def test_a_missing_tensorboard_is_refused_with_the_line_that_installs_it(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(RecipeError, match=r"train\.tensorboard: .*install it: pip install 'tensorboard>=2\.16,<3'"):
        tensorboard_writer(tmp_path, 1)


@pytest.fixture
def recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("EDGEKP_DATA", str(tiny.write_sets(tmp_path / "data")))
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "tiny.toml"
    path.write_text(tiny.toml(epochs=1))
    return path


def test_training_leaves_its_curves_beside_the_checkpoint(recipe: Path) -> None:
    assert main(["--recipe", str(recipe)]) == 0
    names = {path.name for path in Path("runs/tiny/train").iterdir()}
    assert {"history.json", "history.csv", "curves.png", "model.safetensors"} <= names
    assert sorted(path.name for path in Path("runs/tiny").iterdir()) == ["train"]


def relabelled(recipe: Path, silent: list[int]) -> None:
    """The training set without a label for these keypoints."""
    path = recipe.parent / "data/train.json"
    document = json.loads(path.read_text())
    for annotation in document["annotations"]:
        for keypoint in silent:
            annotation["keypoints"][3 * keypoint + 2] = 0
    path.write_text(json.dumps(document))


def test_keypoints_without_a_label_are_named(recipe: Path, capsys: pytest.CaptureFixture[str]) -> None:
    relabelled(recipe, [3, 16])
    assert main(["--recipe", str(recipe)]) == 0
    warnings = [line for line in capsys.readouterr().err.splitlines() if "warning" in line]
    assert warnings == ["data: warning: nothing teaches left_ear, right_ankle: no training set has a label for them, "
                        "and what the model says there will mean nothing"]


def test_a_set_without_any_label_is_refused(recipe: Path, capsys: pytest.CaptureFixture[str]) -> None:
    relabelled(recipe, list(range(17)))
    assert main(["--recipe", str(recipe)]) == 2
    assert "not one instance with a labelled keypoint" in capsys.readouterr().err.splitlines()[-1]


@pytest.mark.parametrize(("override", "message"), [
    ('data.skeleton="ibug68"', "category 'person' has 17 keypoints, skeleton 'ibug68' has 68; choose the recipe's "
                               "data.skeleton to fit"),
    ("train.lr=100.0", "try a lower learning rate than 100"),
    ('train.precision="fp16"', '"fp16" is for NVIDIA GPUs'),
    ("train.accumulate=3", "train.batch: 8, expected a multiple of 3")])
def test_what_cannot_be_trained_is_one_clear_line(
        recipe: Path, capsys: pytest.CaptureFixture[str], override: str, message: str) -> None:
    assert main(["--recipe", str(recipe), "--set", override, "--set", "train.epochs=20"]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert lines[-1].startswith("python -m train: ")
    assert message in lines[-1]
    assert not Path("runs/tiny/train").exists()
