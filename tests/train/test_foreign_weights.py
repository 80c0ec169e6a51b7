"""Weights of other projects: what fits is taken bit for bit, the rest is said, and nothing in a file is ever run."""

from __future__ import annotations

import io
import os
import zipfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from benchmarks.faults.malicious_pickles import ATTACKS, malicious_pickles, unguarded, verdict
from benchmarks.faults.outcome import Outcome
from edgekp.errors import ArtifactError
from edgekp.trial import survive
from tests import tiny
from train.__main__ import main
from train.foreign_weights import begin_with, digest_of, read_weights, weights_in
from train.models.checkpoint import load_checkpoint


@pytest.fixture(autouse=True)
def tried(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The files that another process would read first, which takes seconds."""
    files: list[str] = []
    monkeypatch.setattr("train.foreign_weights.survive", lambda module, data, where: files.append(where))
    return files


def trained() -> nn.Module:
    torch.manual_seed(1)
    return tiny.network(tiny.recipe())[0]


def fresh() -> nn.Module:
    torch.manual_seed(2)
    return tiny.network(tiny.recipe())[0]


def as_safetensors(weights: dict[str, Tensor], path: Path) -> Path:
    save_file(weights, path.with_suffix(".safetensors"))
    return path.with_suffix(".safetensors")


def as_pt(wrap: Callable[[dict[str, Tensor]], Any], **options: Any) -> Callable[[dict[str, Tensor], Path], Path]:
    def write(weights: dict[str, Tensor], path: Path) -> Path:
        torch.save(wrap(weights), path, **options)
        return path

    return write


WRITERS = {
    "safetensors": as_safetensors, "plain": as_pt(dict), "before archives": as_pt(
        dict, _use_new_zipfile_serialization=False),
    "state_dict": as_pt(lambda weights: {"epoch": 3, "state_dict": weights, "lr": [0.1]}),
    "two deep": as_pt(lambda weights: {"model": {"state_dict": weights}}),
    "DataParallel": as_pt(lambda weights: {f"module.{name}": tensor for name, tensor in weights.items()}),
}


@pytest.mark.parametrize("writer", WRITERS)
def test_weights_come_over_bit_for_bit_however_they_were_saved(tmp_path: Path, writer: str) -> None:
    wanted, net = trained().state_dict(), fresh()
    begin_with(net, WRITERS[writer](wanted, tmp_path / "weights.pth"))
    for name, tensor in net.state_dict().items():
        assert torch.equal(tensor, wanted[name]), name


def test_what_does_not_fit_is_left_and_said_with_its_count_and_three_names(
        tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    weights, net = trained().state_dict(), fresh()
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    ends = [name for name in weights if name.startswith("head.output")]
    more = {f"other.{i}": torch.zeros(2) for i in range(5)}
    begin_with(net, as_safetensors({**weights, **{name: torch.zeros(3, 3) for name in ends}, **more}, tmp_path / "a"))
    for name, tensor in net.state_dict().items():
        assert torch.equal(tensor, (before if name in ends else weights)[name]), name
    said = capsys.readouterr().err
    assert f"begins with {len(weights) - len(ends)} of the model's {len(weights)} weights" in said
    assert f"{len(ends)} not in the file, left as drawn: {', '.join(ends)}" in said
    assert f"{len(ends) + 5} in the file, but not of the model's names and shapes: " in said
    assert "and others" in said


def test_a_file_of_which_nothing_fits_is_refused_with_names_of_both(tmp_path: Path) -> None:
    path = as_safetensors({"conv.weight": torch.zeros(3)}, tmp_path / "a")
    with pytest.raises(ArtifactError, match=r"none of its 1 weights fits.*it has conv.weight, the model .* and others"):
        begin_with(fresh(), path)


def test_integers_are_not_taken_for_weights_and_half_precision_is(tmp_path: Path) -> None:
    weights = trained().state_dict()
    whole = {name: tensor.to(torch.int32) for name, tensor in weights.items()}
    with pytest.raises(ArtifactError, match="none of its"):
        begin_with(fresh(), as_safetensors(whole, tmp_path / "a"))
    net = fresh()
    begin_with(net, as_safetensors({name: tensor.half() if tensor.is_floating_point() else tensor
                                    for name, tensor in weights.items()}, tmp_path / "b"))
    for name, tensor in net.state_dict().items():
        wanted = weights[name]
        assert torch.equal(tensor, wanted.half().float() if wanted.is_floating_point() else wanted), name


def test_weights_that_are_no_numbers_are_refused_before_the_network_changes(tmp_path: Path) -> None:
    weights, net = trained().state_dict(), fresh()
    name = next(iter(weights))
    weights[name].view(-1)[0] = torch.nan
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    with pytest.raises(ArtifactError, match=f"'{name}' holds NaN"):
        begin_with(net, as_safetensors(weights, tmp_path / "a"))
    assert all(torch.equal(tensor, before[name]) for name, tensor in net.state_dict().items())


@pytest.mark.parametrize("name", ATTACKS)
def test_an_attack_that_works_elsewhere_runs_nothing_here(tmp_path: Path, name: str) -> None:
    assert verdict(name, tmp_path) == "survived"
    with suppress(Exception):  # some fail after they have done their harm
        unguarded(tmp_path / "weights.pt")
    assert (tmp_path / "canary").exists(), "this is no attack"


@pytest.mark.parametrize("writer", ["safetensors", "plain"])
def test_each_file_is_read_in_another_process_first(tmp_path: Path, writer: str, tried: list[str]) -> None:
    path = WRITERS[writer]({"weight": torch.ones(3)}, tmp_path / "a.pt")
    assert list(read_weights(path)) == ["weight"]
    assert tried == [str(path)]


@pytest.mark.slow
def test_the_other_process_takes_weights_and_refuses_attacks(tmp_path: Path) -> None:
    survive("train.foreign_trial", WRITERS["plain"]({"weight": torch.ones(3)}, tmp_path / "a.pt").read_bytes(), "a.pt")
    with pytest.raises(ArtifactError, match=r"^a\.pt: refused, .*\(it asks for (posix|nt)\.system\)"):
        survive("train.foreign_trial", ATTACKS["os.system"](tmp_path / "canary"), "a.pt")
    assert not (tmp_path / "canary").exists()


def test_the_experiment_tries_what_it_says() -> None:
    assert malicious_pickles(12, 5) == Outcome("malicious-pickle", 12, 12, 0, 0)


def test_a_whole_network_is_refused_with_what_to_do(tmp_path: Path) -> None:
    torch.save(nn.Linear(2, 2), tmp_path / "a.pt")
    with pytest.raises(ArtifactError, match=r"it asks for torch\.nn\.modules\.linear\.Linear\); in the project it is "
                                            r"from, save torch\.save\(net\.state_dict\(\), PATH\)"):
        read_weights(tmp_path / "a.pt")


def test_a_dictionary_that_holds_itself_holds_no_weights(tmp_path: Path) -> None:
    endless: dict[str, Any] = {}
    endless["model"] = endless
    torch.save(endless, tmp_path / "a.pt")
    with pytest.raises(ArtifactError, match="holds no weights by name"):
        read_weights(tmp_path / "a.pt")


def packed(data: bytes, method: int) -> bytes:
    """The parts of an archive again, packed by another method."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(buffer, "w", method) as new:
        for part in old.infolist():
            new.writestr(part.filename, old.read(part))
    return buffer.getvalue()


def test_an_archive_that_unpacks_to_a_thousand_times_its_size_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.pt"
    torch.save({"weight": torch.zeros(2_000_000)}, path)
    path.write_bytes(packed(path.read_bytes(), zipfile.ZIP_DEFLATED))
    assert path.stat().st_size < 64 * 1024
    with pytest.raises(ArtifactError, match="unpack to more than it holds"):
        read_weights(path)


@pytest.mark.parametrize("writer", ["plain", "before archives", "safetensors"])
def test_any_cut_and_many_flips_are_one_line_or_still_weights(tmp_path: Path, writer: str) -> None:
    path = WRITERS[writer]({"weight": torch.ones(20), "b": torch.ones(3)}, tmp_path / "a.pt")
    whole, dice = path.read_bytes(), np.random.default_rng(0)
    for number in range(120):
        damaged = bytearray(whole)
        if number % 3 == 0:
            del damaged[dice.integers(len(whole)):]
        else:
            damaged[dice.integers(len(whole))] ^= 1 << dice.integers(8)
        try:
            found = weights_in(bytes(damaged), path.name)
        except ArtifactError as error:
            assert "\n" not in str(error)  # noqa: PT017 (some flips leave weights, and raise nothing)
        else:
            assert all(isinstance(tensor, Tensor) for tensor in found.values())


def test_a_missing_file_a_folder_and_a_pipe_are_one_line(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.pt")
    for name in ("gone.pt", "gone.safetensors", "pipe.pt", ""):
        with pytest.raises(ArtifactError, match="cannot be read"):
            read_weights(tmp_path / name)
        with pytest.raises(ArtifactError, match=r"no such file; train\.init names"):
            digest_of(tmp_path / name)


@pytest.mark.slow
def test_training_begins_with_the_weights_that_a_recipe_names_and_again_for_others(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("EDGEKP_DATA", str(tiny.write_sets(tmp_path / "data", train=8, val=4)))
    weights = trained().state_dict()
    as_safetensors(weights, tmp_path / "a")
    (tmp_path / "tiny.toml").write_text(tiny.toml(epochs=1, lr=1e-9, average="none", init="a.safetensors"))
    assert main(["--recipe", "tiny.toml"]) == 0
    count = len(weights)
    assert f"begins with {count} of the model's {count} weights from a.safetensors" in capsys.readouterr().err
    found = load_checkpoint(tmp_path / "runs" / "tiny" / "train").net
    for name, parameter in found.named_parameters():
        torch.testing.assert_close(parameter, weights[name], rtol=0, atol=1e-8)  # a step of Adam moves by the rate
    assert main(["--recipe", "tiny.toml"]) == 0
    assert "train: up to date" in capsys.readouterr().err
    as_safetensors(fresh().state_dict(), tmp_path / "a")
    assert main(["--recipe", "tiny.toml"]) == 0
    assert "train: running because inputs.train.init" in capsys.readouterr().err
    (tmp_path / "a.safetensors").unlink()
    assert main(["--recipe", "tiny.toml"]) == 2
