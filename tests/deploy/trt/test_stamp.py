"""engine.json and the engine: what was changed, by accident or by somebody without the key, is never opened."""

from __future__ import annotations

import json
from contextlib import suppress
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest

from deploy.runtime.trt.builder import build_engine
from deploy.runtime.trt.stamp import (
    ENGINE,
    STAMP,
    TIMING_CACHE,
    VERSION,
    Machine,
    Request,
    Stamp,
    checked_timing_cache,
    fitting_engine,
    read_stamp,
    why_stale,
)
from edgekp.artifact import Artifact, open_artifact, sign_artifact
from edgekp.codecs import build_codec
from edgekp.contract import Contract
from edgekp.errors import EdgekpError, EngineError
from edgekp.preprocess import InputSpec
from edgekp.sealed_json import sealed, unsealed
from edgekp.skeletons import SKELETONS
from tests.deploy.trt.fake_tensorrt import fake_tensorrt
from tests.deploy.trt.host_driver import ORIN

HERE = Machine("10.3.0", "Orin", "8.7")
KEY = "correct horse battery staple"


@pytest.fixture
def built(tmp_path: Path, rng: np.random.Generator) -> Artifact:
    """A model beside which an engine of random bytes lies."""
    engine, cache = rng.bytes(5000), rng.bytes(100)
    (tmp_path / ENGINE).write_bytes(engine)
    (tmp_path / TIMING_CACHE).write_bytes(cache)
    Stamp(VERSION, HERE, Request("model.onnx", "fp16", True, 8, None, None), "a" * 64, sha256(engine).hexdigest(),
          len(engine), 1024, 1.5, {"conv": "fp16"}, sha256(cache).hexdigest()).write(tmp_path)
    contract = Contract(InputSpec((32, 24)), build_codec("heatmap", (32, 24), {}), SKELETONS["coco17"])
    return Artifact(tmp_path, "onnx", contract, {"file": "model.onnx"}, {"model.onnx": "a" * 64})


def test_a_thousand_flips_of_engine_and_stamp_are_refused_or_change_nothing(
        built: Artifact, rng: np.random.Generator) -> None:
    sound, accepted = fitting_engine(built, HERE), []
    for name, count in ((ENGINE, 500), (STAMP, 500)):
        path = built.folder / name
        data = path.read_bytes()
        for bit in rng.choice(8 * len(data), count, replace=False):
            path.write_bytes(data[:bit // 8] + bytes([data[bit // 8] ^ 1 << bit % 8]) + data[bit // 8 + 1:])
            with suppress(EngineError):
                accepted.append(fitting_engine(built, HERE))  # as 1e-05 and 1E-05
        path.write_bytes(data)
    assert all(found == sound for found in accepted)
    assert len(accepted) <= 3


def test_a_cut_engine_is_refused(built: Artifact) -> None:
    data = (built.folder / ENGINE).read_bytes()
    for length in (0, 1, len(data) - 1):
        (built.folder / ENGINE).write_bytes(data[:length])
        assert f"model.engine: sha256 {sha256(data[:length]).hexdigest()[:12]}" in str(why_stale(built, HERE))


def test_a_stamp_of_an_older_version_is_named(built: Artifact) -> None:
    found = unsealed(json.loads((built.folder / STAMP).read_text()))
    (built.folder / STAMP).write_text(json.dumps(found | {"version": 1}))
    assert why_stale(built, HERE) == f"version: 1 -> {VERSION}"


@pytest.mark.parametrize("content", [b"[]", b"3", b"{}", b"[" * 9999])
def test_what_is_no_stamp_is_refused(built: Artifact, content: bytes) -> None:
    (built.folder / STAMP).write_bytes(content)
    with pytest.raises(EngineError):
        read_stamp(built.folder)


def test_a_field_of_another_type_is_refused_though_the_digest_fits(built: Artifact) -> None:
    found = unsealed(json.loads((built.folder / STAMP).read_text()))
    for change, words in (({"size_bytes": "5000"}, "size_bytes: '5000'"), ({"machine": None}, "fields of a Machine"),
                          ({"layers": []}, r"layers: \[\]"), ({"timing_cache_sha256": 7}, "timing_cache_sha256: 7")):
        (built.folder / STAMP).write_bytes(sealed(found | change))
        with pytest.raises(EngineError, match=words):
            read_stamp(built.folder)


def test_only_the_timing_cache_that_the_stamp_names_is_used(built: Artifact) -> None:
    data = (built.folder / TIMING_CACHE).read_bytes()
    assert checked_timing_cache(built.folder) == data
    (built.folder / TIMING_CACHE).write_bytes(data + b"x")
    assert checked_timing_cache(built.folder) == b""
    (built.folder / TIMING_CACHE).unlink()
    assert checked_timing_cache(built.folder) == b""


def test_with_a_key_an_unsigned_engine_is_built_again_and_signed(
        artifact: Artifact, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    trt = fake_tensorrt()
    build_engine(artifact, ORIN, trt=trt)
    monkeypatch.setenv("EDGEKP_KEY", KEY)
    sign_artifact(artifact.folder)
    artifact = open_artifact(artifact.folder)
    build_engine(artifact, ORIN, trt=trt)
    assert "building because engine.json cannot be read" in capsys.readouterr().err
    build_engine(artifact, ORIN, trt=trt)
    assert "up to date" in capsys.readouterr().err
    forged = unsealed(json.loads((artifact.folder / STAMP).read_text()))
    (artifact.folder / ENGINE).write_bytes(b"code of somebody else")
    forged["engine_sha256"] = sha256(b"code of somebody else").hexdigest()
    (artifact.folder / STAMP).write_bytes(sealed(forged))
    machine = read_machine(forged)
    with pytest.raises(EngineError, match="was changed since it was signed"):
        fitting_engine(artifact, machine)
    monkeypatch.setenv("EDGEKP_KEY", "short")
    with pytest.raises(EdgekpError, match="expected at least 16"):
        build_engine(artifact, ORIN, trt=trt)


def read_machine(stamp: dict[str, dict[str, str]]) -> Machine:
    return Machine(**stamp["machine"])
