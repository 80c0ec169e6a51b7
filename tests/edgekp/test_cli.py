"""The command line: one line for what a user can mend, a traceback only on request."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgekp.__main__ import main
from edgekp.artifact import write_artifact
from edgekp.cli import recipe_of, run, stage_parser
from edgekp.codecs import build_codec
from edgekp.contract import Contract
from edgekp.errors import ArtifactError, RecipeError
from edgekp.preprocess import InputSpec
from edgekp.skeletons import SKELETONS


@pytest.fixture
def artifact(tmp_path: Path) -> Path:
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "model.onnx").write_bytes(b"model")
    contract = Contract(InputSpec((64, 48)), build_codec("regression", (64, 48), {}), SKELETONS["lsp14"])
    write_artifact(folder, "onnx", contract, {"file": "model.onnx"})
    return folder


def test_verify_says_what_it_checked(artifact: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["verify", str(artifact)]) == 0
    output = capsys.readouterr()
    assert output.out.startswith(f"{artifact}: onnx 'lsp14', 2 files")
    assert output.err == ""


def test_verify_ends_with_2_and_one_line_for_a_damaged_artifact(
        artifact: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (artifact / "model.onnx").write_bytes(b"modem")
    assert main(["verify", str(artifact)]) == 2
    output = capsys.readouterr()
    assert output.out == ""
    assert output.err.startswith(f"edgekp: {artifact / 'model.onnx'}: sha256")
    assert output.err.count("\n") == 1


def test_debug_shows_the_error_itself(artifact: Path) -> None:
    (artifact / "model.onnx").unlink()
    with pytest.raises(ArtifactError):
        main(["verify", str(artifact), "--debug"])


def test_a_stage_passes_its_exit_code_on() -> None:
    assert [run(lambda _, code=code: code, stage_parser("stage", ""), []) for code in (0, 1, 3)] == [0, 1, 3]


def test_the_options_of_a_stage_reach_the_recipe(repository: Path, capsys: pytest.CaptureFixture[str]) -> None:
    parser = stage_parser("stage", "")
    arguments = parser.parse_args(["--recipe", "nowhere.toml", "--set", "a.b=1", "--set", "c=2", "--force"])
    assert (arguments.overrides, arguments.force) == (["a.b=1", "c=2"], True)
    with pytest.raises(RecipeError):
        recipe_of(arguments)
    assert run(lambda a: recipe_of(a) and 0, parser, ["--recipe", "nowhere.toml"]) == 2
    assert capsys.readouterr().err == "stage: nowhere.toml: no such recipe; see recipes/ for those that come along\n"


def test_an_interrupt_is_no_traceback(capsys: pytest.CaptureFixture[str]) -> None:
    def interrupted(_: object) -> int:
        raise KeyboardInterrupt

    assert run(interrupted, stage_parser("stage", ""), []) == 130
    assert capsys.readouterr().err == "stage: stopped\n"
