"""Stopping and going on: an interrupted run ends with the very weights of one that was left alone."""

from __future__ import annotations

import csv
import errno
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from edgekp.atomic import sha256
from edgekp.errors import StageError
from tests import tiny
from train import run as run_module
from train.__main__ import main
from train.models.checkpoint import load_checkpoint
from train.resume import Progress, State, load_state, save_state

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
    monkeypatch.setattr(run_module, "save_state", tiny.nth_call(save_state, n, KeyboardInterrupt))


def signal_at_step(n: int, number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """A signal while the n-th step of the process is computed."""
    calls, step = 0, run_module.Stepper.step

    def signalled(*arguments: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == n:
            os.kill(os.getpid(), number)
        return step(*arguments)

    monkeypatch.setattr(run_module.Stepper, "step", signalled)


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


AVERAGES: dict[str, list[str]] = {
    "ema": [], "none": ['train.average="none"'], "swa": ['train.average="swa"', "train.swa_share=0.6"],
    "best": ["train.patience=1", "train.validate_every=1"]}


@pytest.mark.parametrize("average", AVERAGES)
@pytest.mark.parametrize("step", [2, 3])  # of two an epoch: its last, and in the middle of the next
def test_a_signal_saves_the_run_at_the_very_step(
        run: Run, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], average: str, step: int) -> None:
    settings = [part for setting in AVERAGES[average] for part in ("--set", setting)]
    assert run(*settings) == 0
    undisturbed, history = weights(TRAINED), (TRAINED / "history.json").read_bytes()
    with monkeypatch.context() as patch:
        signal_at_step(step, signal.SIGTERM, patch)
        assert run("--force", *settings) == 130
    said = capsys.readouterr().err.splitlines()
    assert said[-2:] == [f"train: stopped after step {step} of 6; --resume goes on from there ({STATE})",
                         "python -m train: stopped"]
    assert run("--force", "--resume", *settings) == 0
    assert weights(TRAINED) == undisturbed
    assert (TRAINED / "history.json").read_bytes() == history


@pytest.mark.slow
@pytest.mark.usefixtures("run")
def test_a_batch_system_ends_the_run_by_a_signal_to_all_its_processes(tmp_path: Path, repository: Path) -> None:
    """The workers must live on until the step is over, or the loader would fail before the state is saved."""
    command = [sys.executable, "-m", "train", "--recipe", str(tmp_path / "tiny.toml"), "--set", "train.epochs=1000",
               "--set", "train.workers=2"]
    training = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, start_new_session=True,
                                env=os.environ | {"PYTHONPATH": str(repository)})
    assert training.stderr
    said = [next(training.stderr)]
    while "epoch 3/1000" not in said[-1]:
        said.append(next(training.stderr))
    os.killpg(training.pid, signal.SIGTERM)
    said += training.stderr.readlines()
    assert training.wait() == 130
    assert "stopped after step" in said[-2]
    assert said[-1] == "python -m train: stopped\n"
    assert STATE.exists()


def test_signals_are_obeyed_again_once_the_run_is_over(run: Run) -> None:
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    assert run() == 0
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before


def test_an_exception_inside_an_epoch_costs_that_epoch_only(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    assert run() == 0
    undisturbed = weights(TRAINED)
    with monkeypatch.context() as patch:
        stop_at_step_4 = tiny.nth_call(run_module.Stepper.step, 4, KeyboardInterrupt)  # the second of the second epoch
        patch.setattr(run_module.Stepper, "step", stop_at_step_4)
        assert run("--force") == 130
    assert run("--force", "--resume") == 0
    assert weights(TRAINED) == undisturbed


def kill_at_step(recipe: Path, step: int, *arguments: str) -> subprocess.CompletedProcess[str]:
    """``python -m train`` in a process that is gone, with no time to say so, in the middle of a step."""
    code = f"""
import os, signal, sys
from train import run
from train.__main__ import main
run.SAVE_EVERY_S = 0.0
steps, update = 0, run.Stepper._backward
def killed(self, *arguments):
    global steps
    steps += 1
    if steps == {step}:
        os.kill(os.getpid(), signal.SIGKILL)
    return update(self, *arguments)
run.Stepper._backward = killed
sys.exit(main({["--recipe", str(recipe), *arguments]!r}))
"""
    return subprocess.run([sys.executable, "-c", code], text=True, capture_output=True, check=False,
                          env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[2]), "OMP_NUM_THREADS": "1"})


@pytest.mark.slow
@pytest.mark.parametrize("workers", [0, 2])
def test_kill_9_at_any_step_changes_nothing(tmp_path: Path, run: Run, workers: int) -> None:
    """Three kills in one run, at random steps of it, and the weights' hash of a run that was left alone."""
    recipe, settings = tmp_path / "tiny.toml", ("--set", f"train.workers={workers}", "--set", "train.epochs=6")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        assert run(*settings) == 0
    finally:
        torch.set_num_threads(threads)
    undisturbed, history = sha256(TRAINED / "model.safetensors"), (TRAINED / "history.csv").read_bytes()
    kills = np.random.default_rng(workers).integers(2, 5, 3).tolist()  # steps after each start; the run has twelve
    for number, step in enumerate(kills):
        done = kill_at_step(recipe, step, "--force", *settings, *(["--resume"] if number else []))
        assert done.returncode == -signal.SIGKILL, done.stderr
    done = kill_at_step(recipe, 100, "--force", "--resume", *settings)
    assert done.returncode == 0, done.stderr
    assert sha256(TRAINED / "model.safetensors") == undisturbed
    assert (TRAINED / "history.csv").read_bytes() == history


def test_ctrl_c_leaves_a_state_and_nothing_half_published(
        run: Run, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    interrupt_after_epoch(1, monkeypatch)
    assert run() == 130
    assert sorted(path.name for path in TRAINED.parent.iterdir()) == ["train.partial.csv", STATE.name]
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


@pytest.mark.parametrize("arguments", [[], ["--resume"]])
def test_a_state_that_a_kill_left_beside_its_result_goes_with_the_next_start(
        run: Run, monkeypatch: pytest.MonkeyPatch, arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with monkeypatch.context() as patch:
        interrupt_after_epoch(3, patch)
        assert run() == 130
    left = STATE.read_bytes()
    assert run("--resume") == 0
    STATE.write_bytes(left)
    capsys.readouterr()
    assert run(*arguments) == 0
    assert capsys.readouterr().err == f"train: up to date ({TRAINED})\n"
    assert not STATE.exists()


def test_a_state_of_other_settings_stays_beside_a_result_that_is_up_to_date(
        run: Run, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert run() == 0
    with monkeypatch.context() as patch:
        interrupt_after_epoch(1, patch)
        assert run("--set", "train.lr=1e-4") == 130
    capsys.readouterr()
    assert run("--resume") == 0
    assert capsys.readouterr().err == f"train: up to date ({TRAINED})\n"
    assert STATE.exists()


def test_a_forced_run_that_was_stopped_goes_on_though_its_result_is_up_to_date(
        run: Run, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert run() == 0
    undisturbed = weights(TRAINED)
    with monkeypatch.context() as patch:
        interrupt_after_epoch(1, patch)
        assert run("--force") == 130
    capsys.readouterr()
    assert run() == 0
    assert capsys.readouterr().err.splitlines() == [
        f"train: a run that --force began is unfinished; --resume goes on with it ({STATE})",
        f"train: up to date ({TRAINED})"]
    assert STATE.exists()
    assert run("--resume") == 0
    assert "epoch 1/3" not in (said := capsys.readouterr().err)
    assert "epoch 3/3" in said
    assert weights(TRAINED) == undisturbed
    assert not STATE.exists()


def test_resume_says_what_changed_and_not_force(
        run: Run, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    with monkeypatch.context() as patch:
        interrupt_after_epoch(1, patch)
        assert run() == 130
    capsys.readouterr()
    assert run("--resume") == 0
    assert capsys.readouterr().err.splitlines()[0] == "train: running because no result yet"


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


def test_the_table_grows_with_the_run_and_has_each_epoch_once(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    table = STATE.with_suffix(".csv")
    with monkeypatch.context() as patch:
        signal_at_step(5, signal.SIGINT, patch)
        assert run() == 130
    assert [row["epoch"] for row in csv.DictReader(table.open())] == ["1", "2"]
    assert run("--resume") == 0
    assert [row["epoch"] for row in csv.DictReader((TRAINED / "history.csv").open())] == ["1", "2", "3"]
    assert not table.exists()


def test_a_full_disk_ends_the_run_with_one_line_and_keeps_the_state_before(
        run: Run, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    path_open, states = Path.open, 0

    def full(path: Path, mode: str = "r", *rest: Any, **named: Any) -> Any:
        nonlocal states
        is_state = mode == "wb" and ".partial.safetensors" in path.name
        states += is_state
        if not is_state or states < 2:
            return path_open(path, mode, *rest, **named)
        path.write_text("the beginning")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    assert run() == 0
    undisturbed = weights(TRAINED)
    with monkeypatch.context() as patch:
        patch.setattr(Path, "open", full)
        assert run("--force") == 2
    assert capsys.readouterr().err.splitlines()[-1] == (
        f"python -m train: {STATE}: the state of the training cannot be saved (No space left on device); the state "
        "before it is intact: make room, then go on with --resume")
    assert [path.name for path in STATE.parent.iterdir() if path.name.endswith(".tmp")] == []
    assert run("--force", "--resume") == 0
    assert weights(TRAINED) == undisturbed


def parts() -> State:
    net = torch.nn.Linear(2, 2)
    optimizer = torch.optim.AdamW(net.parameters())
    net(torch.ones(1, 2)).sum().backward()
    optimizer.step()
    return State(net, torch.nn.Linear(2, 2), optimizer, torch.amp.GradScaler("cpu", init_scale=8.0))


@pytest.mark.parametrize("damage", [lambda data: data[:len(data) // 2], lambda data: b"", lambda data: b"{}" + data])
def test_a_damaged_state_is_refused(tmp_path: Path, damage: Callable[[bytes], bytes]) -> None:
    path, state = tmp_path / "state", parts()
    save_state(path, {"run": 1}, state)
    load_state(path, {"run": 1}, parts())
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(StageError, match="no state to resume from"):
        load_state(path, {"run": 1}, parts())


def test_a_changed_bit_of_a_state_is_found(tmp_path: Path, rng: np.random.Generator) -> None:
    """safetensors itself notices next to none of them."""
    path = tmp_path / "state"
    save_state(path, {"stage": "train"}, parts())
    data = path.read_bytes()
    load_state(path, {"stage": "train"}, parts())
    for bit in rng.choice(8 * len(data), 200, replace=False):
        path.write_bytes(data[:bit // 8] + bytes([data[bit // 8] ^ 1 << bit % 8]) + data[bit // 8 + 1:])
        with pytest.raises(StageError, match="start anew without --resume"):
            load_state(path, {"stage": "train"}, parts())


def test_with_a_key_only_a_state_that_was_signed_with_it_is_resumed_from(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "state"
    for key in ("", "another horse, another battery"):
        with monkeypatch.context() as patch:
            if key:
                patch.setenv("EDGEKP_KEY", key)
            save_state(path, {"run": 1}, parts())
        with monkeypatch.context() as patch:
            patch.setenv("EDGEKP_KEY", "correct horse battery staple")
            with pytest.raises(StageError, match="is not signed with the key that is given; start anew"):
                load_state(path, {"run": 1}, parts())
            save_state(path, {"run": 1}, parts())
            load_state(path, {"run": 1}, parts())
        load_state(path, {"run": 1}, parts())
    assert [file.name for file in tmp_path.iterdir()] == ["state"]  # one file: no kill can part it from its signature


def test_a_signature_of_another_state_does_not_fit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGEKP_KEY", "correct horse battery staple")
    mine, path = tmp_path / "mine" / "state", tmp_path / "state"
    save_state(mine, {"run": 1}, parts())
    monkeypatch.delenv("EDGEKP_KEY")
    save_state(path, {"run": 1}, parts())
    with safe_open(mine, "pt") as file:
        signature = file.metadata()["hmac"]
    with safe_open(path, "pt") as file:
        metadata, tensors = file.metadata(), {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    save_file(tensors, path, metadata | {"hmac": signature})
    load_state(path, {"run": 1}, parts())
    monkeypatch.setenv("EDGEKP_KEY", "correct horse battery staple")
    with pytest.raises(StageError, match="is not signed with the key that is given"):
        load_state(path, {"run": 1}, parts())


def test_a_state_of_another_network_is_refused_in_one_line(tmp_path: Path) -> None:
    """As after a change of the code, which the settings do not tell."""
    saved = parts()
    saved.net = torch.nn.Linear(3, 2)
    save_state(tmp_path / "state", {}, saved)
    with pytest.raises(StageError, match="holds another network") as error:
        load_state(tmp_path / "state", {}, parts())
    assert "\n" not in str(error.value)


def test_everything_comes_back(tmp_path: Path) -> None:
    saved, loaded = parts(), parts()
    saved.progress = Progress(5, [{"epoch": 1.0, "loss": 1 / 3}], 0.1 + 0.2, 4)
    saved.best = {"weight": torch.rand(2)}
    saved.scaler.load_state_dict(saved.scaler.state_dict() | {"scale": 0.5, "_growth_tracker": 7})
    save_state(tmp_path / "state", {}, saved)
    load_state(tmp_path / "state", {}, loaded)
    assert loaded.progress == saved.progress
    assert loaded.scaler.state_dict() == saved.scaler.state_dict()
    assert torch.equal(loaded.best["weight"], saved.best["weight"])
    assert torch.equal(loaded.average.weight, saved.average.weight)
    assert loaded.optimizer.state_dict()["state"].keys() == {0, 1}


def test_other_threads_are_said_not_to_end_bit_equal(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    save_state(tmp_path / "state", {}, parts())
    load_state(tmp_path / "state", {}, parts())
    assert capsys.readouterr().err == ""
    threads = torch.get_num_threads()
    torch.set_num_threads(threads + 1)
    try:
        load_state(tmp_path / "state", {}, parts(), processes=2)
    finally:
        torch.set_num_threads(threads)
    assert capsys.readouterr().err == (
        f"resume: threads was {threads}, is {threads + 1}, processes was 1, is 2; the run goes on, but its weights "
        "will not be bit-equal to those of one that was never stopped\n")


def test_a_missing_state_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StageError, match="no state to resume from"):
        load_state(tmp_path / "state", {}, parts())


def test_weights_under_the_name_of_a_state_are_refused(tmp_path: Path) -> None:
    save_file({"weight": torch.zeros(2)}, tmp_path / "state")
    with pytest.raises(StageError, match="not the state of a training run"):
        load_state(tmp_path / "state", {}, parts())
