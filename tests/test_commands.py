"""Every command: --help works; a mistake of the user ends in one line and exit code 2, with nothing half-written."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import pytest

from deploy.runtime.camera.source import Wish, source_of
from deploy.runtime.loop.video_file import VideoFile
from edgekp.cli import Parser
from edgekp.errors import CameraError, DataError
from eval.__main__ import main as eval_main
from tests import tiny
from train.__main__ import main as train_main

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
    assert_refused_in_the_end(done, tmp_path, "broken.jpg: neither JPEG")


def test_scores_of_files_that_are_not_usable(repository: Path, tmp_path: Path) -> None:
    (tmp_path / "broken.json").write_text("{")
    for gt, word in (("nowhere.json", "no such file"), ("broken.json", "broken JSON")):
        done = run(repository, tmp_path, "eval", "score", "--gt", gt, "--results", "broken.json")
        assert_refused(done, tmp_path, gt, word)


@pytest.mark.parametrize("words", [("edgekp", "verify", "nowhere"),
                                   ("eval", "latency", "--baseline", "nowhere", "--candidate", "nowhere")])
def test_an_artifact_that_is_not_there(repository: Path, tmp_path: Path, words: tuple[str, ...]) -> None:
    assert_refused(run(repository, tmp_path, *words), tmp_path, "nowhere", "manifest.json")


# Ways in which a command may be called, whatever it does.

MODULES = ("train.__main__", "optimize.__main__", "optimize.search.__main__", "deploy.export.__main__",
           "deploy.export.qdq_lint.__main__", "deploy.build_engine", "deploy.run_onnx", "deploy.run_tflite",
           "deploy.run_trt", "eval.__main__", "eval.latency_worker", "edgekp.__main__", "benchmarks.__main__",
           "benchmarks.gates", "benchmarks.claims.__main__", "benchmarks.gpu_check.__main__",
           "benchmarks.faults.__main__")


def parser_of(module: str, monkeypatch: pytest.MonkeyPatch) -> Parser:
    """The parser that the command's ``main`` hands on."""
    found: list[Parser] = []

    def parse_args(self: Parser, *_: object) -> None:
        found.append(self)
        raise SystemExit

    monkeypatch.setattr(Parser, "parse_args", parse_args)
    with pytest.raises(SystemExit):
        import_module(module).main([])
    return found[0]


def leaves(parser: argparse.ArgumentParser) -> Iterator[argparse.ArgumentParser]:
    inner = [action for action in parser._actions if isinstance(action, argparse._SubParsersAction)]
    if not inner:
        yield parser
    for action in inner:
        for each in action.choices.values():
            yield from leaves(each)


@pytest.mark.parametrize("module", MODULES)
def test_every_command_has_debug_and_names_the_nearest_option(module: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for leaf in leaves(parser_of(module, monkeypatch)):
        assert "--debug" in leaf._option_string_actions, leaf.prog
        assert isinstance(leaf, Parser), leaf.prog


def test_no_command_has_a_parser_of_its_own(repository: Path) -> None:
    for package in ("edgekp", "train", "optimize", "deploy", "eval", "benchmarks"):
        for path in (repository / package).rglob("*.py"):
            if path != repository / "edgekp/cli.py":
                assert "argparse.ArgumentParser(" not in path.read_text(encoding="utf-8"), path


def test_a_recipe_cannot_write_outside_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
                                            capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    recipe = tmp_path / "mine.toml"
    recipe.write_text(tiny.toml())
    for name in ("../mine", "/tmp/mine", "a/b", "..", "."):
        assert train_main(["--recipe", str(recipe), "--set", f"name='{name}'"]) == 2
        assert "expected that of a folder in runs/" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == [recipe]


@pytest.mark.parametrize(("override", "word"), [
    ("train.seed=-1", "train.seed: -1, expected 0 or more"),
    ("input.input_hw=[1000000,1000000]", "expected pixels above 0, 4096 at most")])
def test_a_number_that_would_only_fail_later_is_refused_at_the_door(
        tmp_path: Path, override: str, word: str, capsys: pytest.CaptureFixture[str]) -> None:
    recipe = tmp_path / "mine.toml"
    recipe.write_text(tiny.toml())
    assert train_main(["--recipe", str(recipe), "--set", override]) == 2
    assert word in capsys.readouterr().err


def test_a_camera_of_a_name_that_is_no_text_is_refused(tmp_path: Path) -> None:
    """OpenCV 5.0 ends the process on such a name, when it opens a video and when it writes one."""
    path = tmp_path / "clip\udcff.mp4"
    path.write_bytes(b"no video")
    with pytest.raises(CameraError, match="not UTF-8"):
        source_of(str(path), Wish())
    with pytest.raises(DataError, match="not UTF-8"):
        VideoFile(path, 30.0)


def test_a_latency_limit_that_nothing_exceeds_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for limit in ("inf", "nan", "0", "-1"):
        assert eval_main(["latency", "--baseline", str(tmp_path), "--candidate", str(tmp_path), "--limit", limit]) == 2
        assert "ratio above 0" in capsys.readouterr().err


@pytest.fixture(scope="module")
def labels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("labels")
    return tiny.write_coco(folder, "set", 8)


def in_a_shell(repository: Path, line: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """A command line with PYTHON in it, as somebody types it."""
    return subprocess.run(["bash", "-c", line], text=True, capture_output=True, check=False, env=os.environ | {
        "PYTHONPATH": str(repository), "PYTHON": sys.executable} | environment)


def test_when_nobody_reads_the_results_a_command_ends_quietly(repository: Path, labels: Path) -> None:
    done = in_a_shell(repository, f'"$PYTHON" -m edgekp doctor data {labels} --no-pixels | true; '
                                  'echo "${PIPESTATUS[0]}"')
    assert done.stdout == "141\n"
    assert "Broken pipe" not in done.stderr
    assert "Exception ignored" not in done.stderr


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="Linux has a device that is always full")
def test_results_that_cannot_be_printed_are_no_success(repository: Path, labels: Path) -> None:
    done = in_a_shell(repository, f'"$PYTHON" -m edgekp doctor data {labels} --no-pixels > /dev/full')
    assert done.returncode == 2
    assert "No space left on device" in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr


def test_a_terminal_without_utf8_is_no_reason_to_fail(repository: Path, tmp_path: Path, labels: Path) -> None:
    folder = tmp_path / "gesichter-ä-\udcff"
    folder.mkdir()
    (folder / "set.json").write_bytes(labels.read_bytes())
    done = subprocess.run([sys.executable, "-m", "edgekp", "doctor", "data", str(folder / "set.json"), "--no-pixels"],
                          capture_output=True, check=False, env=os.environ | {
                              "PYTHONPATH": str(repository), "LC_ALL": "C", "PYTHONUTF8": "0",
                              "PYTHONCOERCECLOCALE": "0"})
    assert done.returncode in (0, 1), done.stderr
    assert b"Traceback" not in done.stderr
