"""Every command: --help works; a mistake of the user ends in one line and exit code 2, with nothing half-written."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

STAGES = (("train",), ("optimize",), ("deploy.export",), ("eval", "run"), ("eval", "gate"))
COMMANDS = (*STAGES, ("eval",), ("eval", "score"), ("eval", "latency"), ("eval", "report"), ("edgekp",),
            ("edgekp", "verify"), ("edgekp", "import"), ("edgekp", "doctor", "data"), ("edgekp", "show", "targets"),
            ("optimize.search",))
GOOD_RECIPE = "recipes/quickstart.toml"


def run(repository: Path, folder: Path, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """``python -m words`` in an empty folder, as a checkout elsewhere would run it."""
    return subprocess.run([sys.executable, "-m", *words], cwd=folder, text=True, capture_output=True, check=False,
                          env=os.environ | {"PYTHONPATH": str(repository)} | environment)


def assert_refused_in_the_end(done: subprocess.CompletedProcess[str], folder: Path, *words: str) -> None:
    """Exit code 2, a last line that holds these words, no traceback, and no result of training."""
    assert done.returncode == 2, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    for word in words:
        assert word in done.stderr.strip().splitlines()[-1]
    assert list(folder.glob("runs/*/train")) + list(folder.glob("runs/*/.*.tmp")) == []


def assert_refused(done: subprocess.CompletedProcess[str], folder: Path, *words: str) -> None:
    """The same, at the door: one line in all, and nothing was written."""
    assert_refused_in_the_end(done, folder, *words)
    assert done.stderr.count("\n") == 1, done.stderr
    assert not (folder / "runs").exists()


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_help(repository: Path, tmp_path: Path, command: tuple[str, ...]) -> None:
    done = run(repository, tmp_path, *command, "--help")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("usage:")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("command", STAGES, ids=" ".join)
def test_a_missing_recipe(repository: Path, tmp_path: Path, command: tuple[str, ...]) -> None:
    assert_refused(run(repository, tmp_path, *command, "--recipe", "nowhere.toml"), tmp_path, "nowhere.toml", "no such")


@pytest.mark.parametrize("command", STAGES, ids=" ".join)
def test_a_recipe_with_a_typo(repository: Path, tmp_path: Path, command: tuple[str, ...]) -> None:
    done = run(repository, tmp_path, *command, "--recipe", str(repository / GOOD_RECIPE), "--set", "train.epoch=3")
    assert_refused(done, tmp_path, "train.epoch", "did you mean 'epochs'")


@pytest.mark.parametrize(("override", "words"), [
    ("model.backbone=hrnet", ("hrnet_lite",)),
    ("model.options.widht=8", ("widht", "width")),
    ("train.loss=mes", ("mes", "mse")),
    ("data.skeleton=lsp", ("lsp14",)),
    ("codec.options.sigma=-1", ("codec.sigma",)),
])
def test_a_name_or_value_that_training_does_not_know(
        repository: Path, tmp_path: Path, override: str, words: tuple[str, ...]) -> None:
    done = run(repository, tmp_path, "train", "--recipe", str(repository / GOOD_RECIPE), "--set", override,
               "--set", "data.drawn.train=32", "--set", "data.drawn.val=2")
    assert_refused_in_the_end(done, tmp_path, *words)


@pytest.mark.parametrize("command", STAGES[1:], ids=" ".join)
def test_a_stage_without_the_one_before_it(repository: Path, tmp_path: Path, command: tuple[str, ...]) -> None:
    done = run(repository, tmp_path, *command, "--recipe", str(repository / GOOD_RECIPE))
    assert_refused(done, tmp_path, "no result there; run: ")


def test_an_unknown_target(repository: Path, tmp_path: Path) -> None:
    done = run(repository, tmp_path, "deploy.export", "--recipe", str(repository / GOOD_RECIPE), "--target", "jetsen")
    assert_refused(done, tmp_path, "jetsen", "jetson")


@pytest.mark.parametrize("recipe", ["lsp-coco-pose_hrnet-lite", "ibug68-face_mobilefacenet",
                                    "coco-pose_hrnet-lite_jetson", "wflw-face_mobilefacenet_jetson"])
def test_data_that_is_not_there(repository: Path, tmp_path: Path, recipe: str) -> None:
    done = run(repository, tmp_path, "train", "--recipe", str(repository / f"recipes/{recipe}.toml"),
               EDGEKP_DATA=str(tmp_path))
    assert_refused(done, tmp_path, "EDGEKP_DATA", str(tmp_path))
    hint = done.stderr.split("that holds", 1)[1]
    assert len(hint.split()) > 5, "the recipe should say where to get the data"


@pytest.mark.parametrize(("content", "word"), [
    ("{", "broken JSON at line 1"), ("[]", "expected a COCO keypoints file"),
    ('{"images": [], "annotations": []}', "not one instance"),
])
def test_labels_that_are_not_usable(repository: Path, tmp_path: Path, content: str, word: str) -> None:
    folder = tmp_path / "face_ibug68"
    folder.mkdir()
    for name in ("train.json", "val.json"):
        (folder / name).write_text(content)
    done = run(repository, tmp_path, "train", "--recipe", str(repository / "recipes/ibug68-face_mobilefacenet.toml"),
               EDGEKP_DATA=str(tmp_path))
    assert_refused_in_the_end(done, tmp_path, "train.json", word)


def test_an_image_that_does_not_decode_stops_training_by_name(repository: Path, tmp_path: Path) -> None:
    folder = tmp_path / "face_ibug68"
    folder.mkdir()
    (folder / "broken.jpg").write_bytes(b"no picture")
    document = {"images": [{"id": 1, "file_name": "broken.jpg", "width": 64, "height": 64}],
                "annotations": [{"id": 1, "image_id": 1, "keypoints": [32, 32, 2] * 68, "bbox": [8, 8, 48, 48],
                                 "area": 2304}]}
    for name in ("train.json", "val.json"):
        (folder / name).write_text(json.dumps(document))
    done = run(repository, tmp_path, "train", "--recipe", str(repository / "recipes/ibug68-face_mobilefacenet.toml"),
               "--set", "train.batch=1", EDGEKP_DATA=str(tmp_path))
    assert_refused_in_the_end(done, tmp_path, "broken.jpg: does not decode as an image")


def test_scores_of_files_that_are_not_usable(repository: Path, tmp_path: Path) -> None:
    (tmp_path / "broken.json").write_text("{")
    for gt, word in (("nowhere.json", "no such file"), ("broken.json", "broken JSON")):
        done = run(repository, tmp_path, "eval", "score", "--gt", gt, "--results", "broken.json")
        assert_refused(done, tmp_path, gt, word)


@pytest.mark.parametrize("words", [("edgekp", "verify", "nowhere"),
                                   ("eval", "latency", "--baseline", "nowhere", "--candidate", "nowhere")])
def test_an_artifact_that_is_not_there(repository: Path, tmp_path: Path, words: tuple[str, ...]) -> None:
    assert_refused(run(repository, tmp_path, *words), tmp_path, "nowhere", "manifest.json")
