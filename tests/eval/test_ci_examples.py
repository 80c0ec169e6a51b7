"""The CI examples that users paste: their own shell lines, run on toy models, end as the gate does."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from textwrap import dedent

import pytest


def shell_of(path: Path, key: str) -> str:
    """The text of the last ``key: |`` block, or the ``- `` entries of the last ``key:`` list, of a YAML file."""
    text = path.read_text(encoding="utf-8")
    indent, marker = re.findall(rf"^( *){key}:( \|)?$", text, re.MULTILINE)[-1]
    body = text.rsplit(f"\n{indent}{key}:{marker}\n", 1)[1]
    lines = []
    for line in body.splitlines():
        if line and not line.startswith(f"{indent} "):
            break
        lines.append(line)
    block = dedent("\n".join(lines))
    entries = re.split(r"^- ", block, flags=re.MULTILINE)[1:]
    return block if marker else "\n".join(re.sub(r"\n +", " ", entry) for entry in entries)


@pytest.fixture
def checkout(repository: Path, tmp_path: Path) -> Path:
    """A folder that looks like a set-up checkout of edgekp."""
    folder = tmp_path / "edgekp"
    (folder / ".venv/bin").mkdir(parents=True)
    for name in ("edgekp", "eval", "deploy", "train"):
        (folder / name).symlink_to(repository / name)
    (folder / ".venv/bin/python").write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
    (folder / ".venv/bin/python").chmod(0o755)
    return folder


def run_action(repository: Path, checkout: Path, **inputs: str) -> tuple[subprocess.CompletedProcess[str], str]:
    """The action's shell step in GitHub's way (bash -e), and what it says of its outputs."""
    script = shell_of(repository / "examples/github-action/action.yml", "run")
    folder = checkout.parent
    environment = {"EDGEKP": "edgekp", "BUDGET": "", "LIMIT": "", "UNDECIDED": "warn",
                   "GITHUB_OUTPUT": str(folder / "out.txt"), "GITHUB_STEP_SUMMARY": str(folder / "summary.md")}
    done = subprocess.run(["bash", "-eo", "pipefail", "-c", script], cwd=folder, text=True, capture_output=True,
                          check=False, env=os.environ | environment | inputs)
    output = folder / "out.txt"
    return done, output.read_text() if output.exists() else ""


@pytest.mark.parametrize(("offset_px", "n_images", "undecided", "code", "verdict"), [
    (0.0, 30, "warn", 0, "pass"), (4.0, 30, "warn", 1, "fail"),
    (0.001, 10, "warn", 0, "undecided"), (0.001, 10, "fail", 3, "undecided")])
def test_the_github_action_ends_as_the_gate_does(
        repository: Path, checkout: Path, toy_artifact: Callable[..., Path], toy_data: Callable[..., Path],
        offset_px: float, n_images: int, undecided: str, code: int, verdict: str) -> None:
    done, output = run_action(
        repository, checkout, BASELINE=str(toy_artifact("float")), CANDIDATE=str(toy_artifact("int8", offset_px)),
        DATA=str(toy_data(n_images=n_images)), UNDECIDED=undecided)
    assert done.returncode == code, done.stderr
    assert output.splitlines()[-1] == f"verdict={verdict}"
    assert "| gate | subject |" in (checkout.parent / "summary.md").read_text()
    assert (checkout.parent / "gate.xml").is_file()


def test_the_github_action_fails_where_the_gate_cannot_run(repository: Path, checkout: Path) -> None:
    done, output = run_action(repository, checkout, BASELINE="nowhere", CANDIDATE="nowhere", DATA="nowhere")
    assert done.returncode == 2
    assert output.splitlines() == ["verdict=fail"]
    assert "nowhere" in done.stderr


def test_the_gitlab_job_runs_where_models_and_data_lie(repository: Path, checkout: Path, tmp_path: Path,
                                                       toy_artifact: Callable[..., Path],
                                                       toy_data: Callable[..., Path]) -> None:
    (tmp_path / "validation").symlink_to(toy_data(n_images=30).parent)
    for name in ("float", "int8"):
        toy_artifact(name, into=tmp_path / "models")
    script = shell_of(repository / "examples/gitlab-ci.yml", "script").replace("--latency-limit 1.05 ", "")
    done = subprocess.run(["bash", "-e", "-c", script], cwd=tmp_path, text=True, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "gate.xml").is_file()
    assert (tmp_path / "gate.md").is_file()


def test_every_option_of_the_examples_exists(repository: Path) -> None:
    text = "".join(path.read_text() for path in (repository / "examples").rglob("*.yml"))
    known = subprocess.run([sys.executable, "-m", "eval", "gate", "--help"], cwd=repository, text=True,
                           capture_output=True, check=True).stdout
    used = set(re.findall(r"\s(--(?!depth|directory)[a-z-]+)", text))
    assert {"--junit", "--latency-limit"} < used
    assert [option for option in used if option not in known] == []
