"""``torchrun -m train``: the command in two processes, what it leaves behind, and how it ends."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from safetensors.numpy import load_file

from edgekp.coco import read_coco
from edgekp.errors import TrainingError
from edgekp.skeletons import COCO17
from tests import tiny
from train.dataset import Pool, StepSampler
from train.distributed import DistributedWorld, launched_world
from train.world import World

TORCHRUN = ("torch.distributed.run", "--standalone", "--nproc-per-node", "2")
PATIENCE_S = 120
RUN = Path("runs/tiny")

Start = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def start(tmp_path: Path, repository: Path) -> Iterator[Start]:
    """Starts ``python -m`` on 16 people in batches of 8 and 7 to validate; what still runs afterwards is killed."""
    started = []
    data, recipe = tiny.write_sets(tmp_path / "data", val=7), tmp_path / "tiny.toml"
    recipe.write_text(tiny.toml(lr=3e-4))
    environment = os.environ | {"EDGEKP_DATA": str(data), "PYTHONPATH": str(repository), "OMP_NUM_THREADS": "1"}

    def begin(*words: str) -> subprocess.Popen[str]:
        process = subprocess.Popen([sys.executable, "-m", *words, "--recipe", str(recipe)], cwd=tmp_path, text=True,
                                   env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        started.append(process)
        return process

    yield begin
    for process in started:
        process.terminate()  # torchrun ends its processes with it
        process.communicate(timeout=PATIENCE_S)


def ours(process: subprocess.Popen[str]) -> list[str]:
    """What the processes themselves said until all were gone, without torchrun's own lines."""
    return [line for line in process.communicate(timeout=PATIENCE_S)[1].splitlines()
            if line.startswith(("train:", "python -m train:", "resume:", "data:"))]


def wait_for(path: Path) -> None:
    until = time.monotonic() + PATIENCE_S
    while not path.exists():
        assert time.monotonic() < until, f"{path} does not come"
        time.sleep(0.05)


def process_of_rank(rank: int, launcher: subprocess.Popen[str]) -> int:
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            parent = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            if parent == launcher.pid and f"RANK={rank}" in (folder / "environ").read_text().split("\0"):
                return int(folder.name)
        except OSError:  # it has ended meanwhile, or is somebody else's
            continue
    raise AssertionError(f"no process of rank {rank}")


@pytest.mark.slow
def test_two_processes_leave_the_result_of_one_and_one_copy_of_it(start: Start, tmp_path: Path) -> None:
    alone, folder = start("train"), tmp_path / RUN
    assert alone.wait(PATIENCE_S) == 0, alone.stderr
    (folder / "train").rename(tmp_path / "alone")
    together = start(*TORCHRUN, "-m", "train")
    lines = ours(together)
    assert together.returncode == 0, lines
    assert len(lines) == len(set(lines)) == 4  # why it runs, two epochs, done
    assert [path.name for path in folder.iterdir()] == ["train"]
    found, expected = ({path.name: path for path in where.iterdir()}
                       for where in (folder / "train", tmp_path / "alone"))
    assert found.keys() == expected.keys()
    keys = [json.loads(files["stage.json"].read_text()) for files in (found, expected)]
    for key in keys:
        del key["files"]  # their digests: the manifest says how many processes there were
    assert keys[0] == keys[1]
    manifests = [json.loads(files["manifest.json"].read_text()) for files in (found, expected)]
    assert [manifest["model"]["processes"] for manifest in manifests] == [2, 1]
    for entry, known in zip(*(json.loads(files["history.json"].read_text()) for files in (found, expected)),
                            strict=True):
        assert entry == pytest.approx(known, rel=1e-4)  # see test_distributed.py
    weights, known_weights = (load_file(files["model.safetensors"]) for files in (found, expected))
    assert weights.keys() == known_weights.keys()
    again = start(*TORCHRUN, "-m", "train")
    assert ours(again) == ["train: up to date (runs/tiny/train)"]
    assert again.returncode == 0


def picture_of_second_process(data: Path) -> Path:
    """A picture that only the process of rank 1 reads in the first step."""
    pool = Pool(read_coco(data / "train.json", COCO17).instances)
    first, second = (next(iter(StepSampler([pool], 8, 2, 0, 0, DistributedWorld(rank, 2, torch.device("cpu")))))
                     for rank in range(2))
    paths, others = ({pool.instances[index].image.path for _, index, _ in keys} for keys in (second, first))
    return Path(min(paths - others))


@pytest.mark.slow
@pytest.mark.parametrize("workers", [0, 1])
def test_an_error_in_one_process_ends_all_with_one_line(start: Start, tmp_path: Path, workers: int) -> None:
    tiny.write_coco(tmp_path / "data", "train", 16, per_image=1)
    broken = picture_of_second_process(tmp_path / "data")
    broken.write_bytes(b"\xff\xd8\xff no picture")
    process = start(*TORCHRUN, "-m", "train", "--set", f"train.workers={workers}")
    text = process.communicate(timeout=PATIENCE_S)[1]
    assert [line for line in text.splitlines() if line.startswith("python -m train:")] == [
        f"python -m train: {broken}: a JPEG that ends before it says its size; replace the file"]
    assert "exitcode  : 2" in text  # as torchrun reports it; its own exit code is 1 for every failure
    assert process.returncode == 1
    assert not list((tmp_path / RUN).rglob("*"))


@pytest.mark.slow
def test_an_error_of_all_processes_is_said_once(start: Start) -> None:
    process = start(*TORCHRUN, "-m", "train", "--set", "train.batch=9")
    assert [line for line in ours(process) if line.startswith("python -m train:")] == [
        "python -m train: train.batch: 9, expected a multiple of 2 and at least 4 (train.accumulate = 1, processes: 2)"]


@pytest.mark.slow
def test_a_process_that_is_killed_ends_all(start: Start, tmp_path: Path) -> None:
    process = start(*TORCHRUN, "-m", "train", "--set", "train.epochs=100000")
    wait_for(tmp_path / RUN / "train.partial.safetensors")
    os.kill(process_of_rank(1, process), signal.SIGKILL)
    said = [line for line in ours(process) if line.startswith("python -m train:")]
    assert len(said) <= 1  # none where torchrun was faster
    assert all("process 0 of 2 lost another one" in line for line in said)
    assert process.returncode == 1


@pytest.mark.slow
def test_sigterm_saves_and_ends_all(start: Start, tmp_path: Path) -> None:
    """The worker processes get it, too; test_distributed.py resumes."""
    process = start(*TORCHRUN, "-m", "train", "--set", "train.epochs=100000", "--set", "train.validate_every=100000",
                    "--set", "train.workers=1")
    wait_for(tmp_path / RUN / "train.partial.safetensors")
    process.terminate()
    *_, stopped, last = ours(process)
    assert "--resume goes on from there" in stopped
    assert last == "python -m train: stopped"
    assert sorted(path.name for path in (tmp_path / RUN).iterdir()) == [
        "train.partial.csv", "train.partial.safetensors"]


def test_one_process_is_a_world_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    for size in (None, "1"):
        monkeypatch.setenv("WORLD_SIZE", size) if size else monkeypatch.delenv("WORLD_SIZE", raising=False)
        with launched_world() as world:
            assert type(world) is World


def test_a_world_without_a_place_in_it_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "0")
    monkeypatch.delenv("LOCAL_RANK", raising=False)
    with pytest.raises(TrainingError, match="LOCAL_RANK is not; start several processes with"), launched_world():
        pass


def test_more_processes_than_gpus_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"WORLD_SIZE": "3", "RANK": "2", "LOCAL_RANK": "2"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    with pytest.raises(TrainingError, match="process 3 of this machine has no GPU, there are 2"), launched_world():
        pass
