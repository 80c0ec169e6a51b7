"""A file that ends the process that reads it, or never lets it go, ends a child of ours and becomes one line."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgekp.errors import ArtifactError
from edgekp.trial import survive

MODULE = """
import os, signal, sys, time
from edgekp.errors import ArtifactError
from edgekp.trial import MOST_BYTES, read_here

def read(data, where):
    if data == b"refuse":
        raise ArtifactError(f"{where}: refused \\u2014 so")
    if data == b"abort":
        os.abort()
    if data == b"segv":
        os.kill(os.getpid(), signal.SIGSEGV)
    if data == b"hang":
        time.sleep(60)
    if data == b"fault":
        raise ValueError("what the parser did not expect")
    if data == b"memory":
        bytearray(2 * MOST_BYTES)

if __name__ == "__main__":
    sys.exit(read_here(read))
"""


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    (tmp_path / "tried_module.py").write_text(MODULE)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    return "tried_module"


def test_what_can_be_read_passes(module: str) -> None:
    survive(module, b"sound", "model.onnx")


@pytest.mark.parametrize(("data", "why"), [
    (b"refuse", "^model.onnx: refused \u2014 so$"), (b"abort", r"^model.onnx: ends the process .*\(Aborted: "),
    (b"segv", r"^model.onnx: ends the process .*\(Segmentation fault: "),
    (b"fault", r"^model.onnx: cannot be read \(ValueError: what the parser did not expect\)"),
    (b"memory", r"^model.onnx: cannot be read \(MemoryError\)"),
])
def test_what_cannot_is_an_error_of_the_file_in_one_line(data: bytes, why: str, module: str) -> None:
    with pytest.raises(ArtifactError, match=why) as refused:
        survive(module, data, "model.onnx")
    assert "\n" not in str(refused.value)


def test_what_keeps_a_reader_for_ever_is_given_up(module: str) -> None:
    with pytest.raises(ArtifactError, match=r"model.onnx: was not read within 0\.5 s"):
        survive(module, b"hang", "model.onnx", longest_s=0.5)
