"""The SLURM example, with stand-ins for SLURM's commands: what it starts, and what it does with signals."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

NODES = {"SLURM_JOB_NODELIST": "node[07-08]", "SLURM_NNODES": "2", "SLURM_JOB_ID": "41", "SLURM_GPUS_ON_NODE": "4",
         "SLURM_CPUS_PER_TASK": "10"}
SRUN = """echo "threads $OMP_NUM_THREADS"; echo "$@"
[ -n "$FAILS" ] && exit 3
trap 'echo saved; exit 1' TERM
echo running >running
for _ in {1..200}; do sleep 0.05; done"""
SCONTROL = """if [ "$1" = show ]; then printf 'node07\\nnode08\\n'; else echo "scontrol $*"; fi"""

Submit = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def submit(repository: Path, tmp_path: Path) -> Submit:
    """Runs the script as SLURM would, in a folder whose programs srun and scontrol only tell what they are asked."""
    for name, body in {"srun": SRUN, "scontrol": SCONTROL}.items():
        (tmp_path / name).write_text(f"#!/usr/bin/env bash\n{body}\n")
        (tmp_path / name).chmod(0o755)
    path = f"{tmp_path}:{os.environ['PATH']}"

    def start(*words: str, **environment: str) -> subprocess.Popen[str]:
        return subprocess.Popen(["bash", str(repository / "examples/slurm.sh"), *words], cwd=tmp_path, text=True,
                                env=os.environ | NODES | {"PATH": path, "FAILS": ""} | environment,
                                stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    return start


def test_the_script_is_a_shell_script(repository: Path) -> None:
    subprocess.run(["bash", "-n", str(repository / "examples/slurm.sh")], check=True)


def test_each_node_meets_at_the_first_one_and_starts_a_process_for_each_gpu(submit: Submit) -> None:
    script = submit("my.toml", "--set", "train.epochs=3", FAILS="yes")
    assert script.communicate(timeout=20)[0].splitlines() == [
        "threads 2",
        "--cpus-per-task=10 .venv/bin/torchrun --nnodes=2 --nproc-per-node=4 --rdzv-id=41 --rdzv-backend=c10d "
        "--rdzv-endpoint=node07:20041 -m train --recipe my.toml --resume --set train.epochs=3"]
    assert script.returncode == 3


@pytest.mark.parametrize(("number", "requeued"), [(signal.SIGUSR1, ["scontrol requeue 41"]), (signal.SIGTERM, [])])
def test_a_signal_lets_the_run_save_before_the_job_ends(
        submit: Submit, tmp_path: Path, number: int, requeued: list[str]) -> None:
    script = submit("my.toml")
    until = time.monotonic() + 20
    while not (tmp_path / "running").exists() and time.monotonic() < until:
        time.sleep(0.02)
    script.send_signal(number)
    assert script.communicate(timeout=20)[0].splitlines()[2:] == ["saved", *requeued]
    assert script.returncode == 1


def test_a_recipe_must_be_named(submit: Submit) -> None:
    script = submit()
    assert "usage: sbatch examples/slurm.sh RECIPE.toml" in script.communicate(timeout=20)[1]
    assert script.returncode == 1
