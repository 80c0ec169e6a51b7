"""Targets are data: every file of them can be read, and what is not there is refused by name."""

from __future__ import annotations

from pathlib import Path

import pytest

from deploy.export import target
from deploy.export.qdq import SPELLINGS
from deploy.export.target import target_named
from edgekp.errors import RecipeError

KNOWN = sorted(path.stem for path in target.FOLDER.glob("*.toml"))


def test_cpu_and_jetson_are_there() -> None:
    assert {"cpu", "jetson"} <= set(KNOWN)
    assert target_named("cpu").spelling == "uint8"  # ONNX Runtime on x86 is slow with anything else
    assert target_named("jetson").spelling == "int8"  # TensorRT accepts nothing else


@pytest.mark.parametrize("name", KNOWN)
def test_every_target_can_be_read(name: str) -> None:
    found = target_named(name)
    assert found.name == name
    assert found.spelling in SPELLINGS
    assert found.next_step


@pytest.mark.parametrize(("name", "message"), [
    ("jetsen", "no target 'jetsen'; did you mean 'jetson'?"), ("cup", "did you mean 'cpu'?"),
    ("../targets/cpu", "no target"), ("", "no target")])
def test_an_unknown_target_is_refused_with_the_nearest(name: str, message: str) -> None:
    with pytest.raises(RecipeError) as refusal:
        target_named(name)
    assert message in str(refusal.value)
    assert "known: cpu, jetson" in str(refusal.value)


@pytest.mark.parametrize(("text", "message"), [
    ('format = "onnx"\nspelling = "int4"\nnext_step = "x"', "targets/odd.spelling: no choice 'int4'; .*int8"),
    ('format = "onnx"\nspelling = "int8"', "targets/odd: lacks next_step"),
    ('format = "onnx"\nspelling = "int8"\nnext_step = "x"\nspeed = 1', "no key 'targets/odd.speed'"),
    ("format = ", "not a TOML file")])
def test_a_target_that_says_something_odd_is_refused(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, message: str) -> None:
    (tmp_path / "odd.toml").write_text(text)
    monkeypatch.setattr(target, "FOLDER", tmp_path)
    with pytest.raises(RecipeError, match=message):
        target_named("odd")
