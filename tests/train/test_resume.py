"""Stopping and going on: an interrupted run ends with the very weights of one that was left alone."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from edgekp.errors import StageError
from tests import tiny
from train import loop
from train.__main__ import main
from train.models.checkpoint import load_checkpoint
from train.resume import Progress, load_state, save_state

Run = Callable[..., int]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """``python -m train`` in a folder of its own, on 16 pictures in batches of 8."""
    monkeypatch.setenv("EDGEKP_DATA", str(tiny.write_sets(tmp_path / "data")))
    monkeypatch.chdir(tmp_path)
    recipe = tmp_path / "tiny.toml"
    recipe.write_text(tiny.toml(epochs=3))
    return lambda *arguments: main(["--recipe", str(recipe), *arguments])


def interrupt_after_epoch(n: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop, "save_state", tiny.nth_call(save_state, n, KeyboardInterrupt))


def weights(folder: Path) -> bytes:
    return (folder / "model.safetensors").read_bytes()


TRAINED, STATE = Path("runs/tiny/train"), Path("runs/tiny/train.partial.safetensors")


@pytest.mark.parametrize("workers", [0, pytest.param(2, marks=pytest.mark.slow)])
@pytest.mark.parametrize("epochs_before", [1, 2])
def test_a_resumed_run_ends_with_the_weights_of_an_undisturbed_one(
        run: Run, monkeypatch: pytest.MonkeyPatch, workers: int, epochs_before: int) -> None:
    assert run() == 0
    undisturbed, history = weights(TRAINED), json.loads((TRAINED / "history.json").read_text())
    with monkeypatch.context() as patch:
        interrupt_after_epoch(epochs_before, patch)
        assert run("--force", "--set", f"train.workers={workers}") == 130
    assert run("--force", "--resume", "--set", f"train.workers={workers}") == 0
    assert weights(TRAINED) == undisturbed
    assert json.loads((TRAINED / "history.json").read_text()) == history


def test_an_interruption_inside_an_epoch_costs_that_epoch_only(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    assert run() == 0
    undisturbed = weights(TRAINED)
    with monkeypatch.context() as patch:
        stop_at_step_4 = tiny.nth_call(loop.learning_rate, 4, KeyboardInterrupt)  # the second of the second epoch
        patch.setattr(loop, "learning_rate", stop_at_step_4)
        assert run("--force") == 130
    assert run("--force", "--resume") == 0
    assert weights(TRAINED) == undisturbed


def test_ctrl_c_leaves_a_state_and_nothing_half_published(
        run: Run, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    interrupt_after_epoch(1, monkeypatch)
    assert run() == 130
    assert sorted(path.name for path in TRAINED.parent.iterdir()) == [STATE.name]
    assert capsys.readouterr().err.splitlines()[-1] == "python -m train: stopped"


def test_ctrl_c_keeps_the_old_result(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    assert run() == 0
    before = weights(TRAINED)
    interrupt_after_epoch(1, monkeypatch)
    assert run("--set", "train.lr=1e-4") == 130
    assert weights(TRAINED) == before
    load_checkpoint(TRAINED)


def test_a_finished_run_leaves_no_state(run: Run) -> None:
    assert run() == 0
    assert not STATE.exists()


@pytest.mark.parametrize("change", ["train.lr=1e-4", "train.epochs=4", "train.seed=1", "augment.flip_p=0.1",
                                    "codec.options.sigma=1.5"])
def test_a_state_of_other_settings_is_refused(
        run: Run, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], change: str) -> None:
    with monkeypatch.context() as patch:
        interrupt_after_epoch(1, patch)
        assert run() == 130
    assert run("--resume", "--set", change) == 2
    assert "belongs to a run with other settings or data; start anew without --resume" in capsys.readouterr().err
    assert STATE.exists()
    assert not TRAINED.exists()


def test_a_state_of_other_data_is_refused(run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with monkeypatch.context() as patch:
        interrupt_after_epoch(1, patch)
        assert run() == 130
    tiny.write_coco(tmp_path / "data", "train", 16, seed=9)
    assert run("--resume") == 2


def test_starting_anew_says_that_a_state_is_dropped(
        run: Run, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    with monkeypatch.context() as patch:
        interrupt_after_epoch(1, patch)
        assert run() == 130
    assert run() == 0
    assert "an unfinished run is dropped; --resume would have continued it" in capsys.readouterr().err


def parts() -> tuple[torch.nn.Module, torch.nn.Module, torch.optim.Optimizer]:
    net = torch.nn.Linear(2, 2)
    optimizer = torch.optim.AdamW(net.parameters())
    net(torch.ones(1, 2)).sum().backward()
    optimizer.step()
    return net, torch.nn.Linear(2, 2), optimizer


@pytest.mark.parametrize("damage", [lambda data: data[:len(data) // 2], lambda data: b"", lambda data: b"{}" + data])
def test_a_damaged_state_is_refused(tmp_path: Path, damage: Callable[[bytes], bytes]) -> None:
    path = tmp_path / "state"
    save_state(path, {"run": 1}, Progress(5, []), *parts())
    assert load_state(path, {"run": 1}, *parts()).step == 5
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(StageError, match="no state to resume from"):
        load_state(path, {"run": 1}, *parts())


def test_a_missing_state_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StageError, match="no state to resume from"):
        load_state(tmp_path / "state", {}, *parts())


def test_weights_under_the_name_of_a_state_are_refused(tmp_path: Path) -> None:
    save_file({"weight": torch.zeros(2)}, tmp_path / "state")
    with pytest.raises(StageError, match="not the state of a training run"):
        load_state(tmp_path / "state", {}, *parts())
