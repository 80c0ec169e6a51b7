"""An engine that fits gives what its ONNX file gives; any other is refused before TensorRT sees a byte of it."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from deploy.runtime.session import open_session
from deploy.runtime.trt.builder import build_engine
from deploy.runtime.trt.engine import TrtEngine, machine_of, open_engine
from deploy.runtime.trt.order import Order
from deploy.runtime.trt.stamp import ENGINE, STAMP, why_stale
from deploy.runtime.trt.trt_session import TrtSession
from edgekp.artifact import Artifact
from edgekp.errors import EngineError
from edgekp.sealed_json import sealed, unsealed
from tests.deploy.trt.fake_tensorrt import VERSIONS, fake_tensorrt
from tests.deploy.trt.host_driver import ORIN, HostDriver

MakeArtifact = Callable[[str], Artifact]


@pytest.mark.parametrize("precision", ["float", "int8"])
@pytest.mark.parametrize("version", VERSIONS)
def test_a_session_gives_what_the_same_file_gives_in_onnx_runtime(
        copy_of: MakeArtifact, driver: HostDriver, version: str, precision: str) -> None:
    """In turns of at most three, so that the last one is smaller."""
    artifact, trt = copy_of(precision), fake_tensorrt(version)
    stamp = build_engine(artifact, ORIN, Order(max_batch=3), trt=trt)
    session = TrtSession(open_engine(artifact, driver, trt), driver)
    x = np.random.default_rng(0).normal(size=(7, 3, 64, 64))
    same_file = replace(artifact, model=artifact.model | {"file": stamp.request.onnx})
    found, expected = session.infer(x), open_session(same_file).infer(x)
    assert found.keys() == expected.keys()
    for name, array in expected.items():
        assert found[name].dtype == np.float32
        np.testing.assert_allclose(found[name], array, atol=1e-5 * np.abs(array).max())
    session.close()
    assert driver.held == {}
    assert driver.is_closed


def test_an_engine_says_what_memory_it_wants(artifact: Artifact, driver: HostDriver) -> None:
    trt = fake_tensorrt()
    build_engine(artifact, ORIN, Order(max_batch=3), trt=trt)
    engine = open_engine(artifact, driver, trt)
    (binding,), (heatmaps,) = engine.inputs.values(), engine.outputs.values()
    assert (engine.least, engine.most) == (1, 3)
    assert (binding.shape, np.dtype(binding.dtype)) == ((3, 64, 64), np.dtype(np.float32))
    assert binding.bytes_of(2) == 2 * 3 * 64 * 64 * 4
    assert heatmaps.shape == (17, 16, 16)


def test_a_batch_that_the_engine_was_not_built_for_says_how_to_get_it(artifact: Artifact, driver: HostDriver) -> None:
    trt = fake_tensorrt()
    build_engine(artifact, ORIN, Order(max_batch=3), trt=trt)
    engine = open_engine(artifact, driver, trt)
    engine.set_batch(3)
    with pytest.raises(EngineError, match=r"a batch of 4, it was built for 1 to 3; .* --max-batch 4"):
        engine.set_batch(4)


def test_memory_that_was_not_given_and_tensors_that_are_not_there_are_errors(artifact: Artifact,
                                                                             driver: HostDriver) -> None:
    trt = fake_tensorrt()
    build_engine(artifact, ORIN, trt=trt)
    engine = open_engine(artifact, driver, trt)
    with pytest.raises(EngineError, match="no address is taken for maps"):
        engine.bind("maps", driver.allocate(4))
    engine.set_batch(1)
    with pytest.raises(EngineError, match="could not be run"):
        engine.enqueue(1)


def changed_stamp(artifact: Artifact, section: str | None, **fields: Any) -> None:
    """As somebody would write it who knows its own digest."""
    stamp = unsealed(json.loads((artifact.folder / STAMP).read_text()))
    (stamp if section is None else stamp[section]).update(fields)
    (artifact.folder / STAMP).write_bytes(sealed(stamp))


def truncate(artifact: Artifact) -> None:
    path = artifact.folder / ENGINE
    path.write_bytes(path.read_bytes()[:1000])


DAMAGE: dict[str, Callable[[Artifact], object]] = {
    "no engine yet": lambda artifact: (artifact.folder / STAMP).unlink(),
    r"model.engine: sha256 \w{12} of 1000 bytes, engine.json says": truncate,
    "model.engine cannot be read": lambda artifact: (artifact.folder / ENGINE).unlink(),
    "engine.json cannot be read": lambda artifact: (artifact.folder / STAMP).write_text("{"),
    "version: None -> 2": lambda artifact: (
        artifact.folder / STAMP).write_text("[]"),
    "tensorrt: None, expected str": lambda artifact: changed_stamp(artifact, None, machine={"gpu": "Orin"}),
    r"engine_sha256: 7, expected str": lambda artifact: changed_stamp(artifact, None, engine_sha256=7),
    r"dla: '0', expected int \| None": lambda artifact: changed_stamp(artifact, "request", dla="0"),
    "version: 0 -> 2": lambda artifact: changed_stamp(artifact, None, version=0),
    "gpu: Orin Nano -> Orin": lambda artifact: changed_stamp(artifact, "machine", gpu="Orin Nano"),
    "capability: 7.2 -> 8.7": lambda artifact: changed_stamp(artifact, "machine", capability="7.2"),
    "tensorrt: 8.6.1 -> 10.3.0": lambda artifact: changed_stamp(artifact, "machine", tensorrt="8.6.1"),
    r"model_fp16.onnx: sha256 0{12} -> ": lambda artifact: changed_stamp(artifact, None, onnx_sha256="0" * 64),
    "other.onnx: sha256 .* -> none": lambda artifact: changed_stamp(artifact, "request", onnx="other.onnx"),
}


@pytest.mark.parametrize("words", DAMAGE)
def test_what_does_not_fit_is_refused_unseen_with_the_command_that_mends_it(artifact: Artifact, driver: HostDriver,
                                                                           words: str) -> None:
    trt = fake_tensorrt()
    build_engine(artifact, ORIN, trt=trt)
    assert why_stale(artifact, machine_of(ORIN, trt)) is None
    DAMAGE[words](artifact)
    trt.deserialised.clear()
    with pytest.raises(EngineError, match=rf"{words}.*build it here: python deploy/build_engine.py") as refusal:
        open_engine(artifact, driver, trt)
    assert str(artifact.folder / ENGINE) in str(refusal.value)
    assert "\n" not in str(refusal.value)
    assert trt.deserialised == []
    assert why_stale(artifact, machine_of(ORIN, trt)) is not None


def test_an_engine_of_another_gpu_is_refused(artifact: Artifact) -> None:
    trt = fake_tensorrt()
    build_engine(artifact, ORIN, trt=trt)
    with pytest.raises(EngineError, match=r"gpu: Orin -> Thor; capability: 8\.7 -> 11\.0"):
        open_engine(artifact, HostDriver(replace(ORIN, name="Thor", capability=(11, 0))), trt)


def test_what_tensorrt_refuses_although_everything_fits_is_quoted() -> None:
    with pytest.raises(EngineError, match=r"there: TensorRT refuses it: Serialization assertion .*build it again: do"):
        TrtEngine(fake_tensorrt(), b"not an engine", None, "there", "do")


def test_too_little_memory_for_a_context_is_said(artifact: Artifact, driver: HostDriver) -> None:
    trt = fake_tensorrt()
    build_engine(artifact, ORIN, trt=trt)
    trt.ICudaEngine.create_execution_context = lambda engine: None
    with pytest.raises(EngineError, match="too little memory to run it"):
        open_engine(artifact, driver, trt)


def test_an_engine_with_other_outputs_than_the_contract_is_refused(artifact: Artifact, driver: HostDriver) -> None:
    trt = fake_tensorrt()
    build_engine(artifact, ORIN, trt=trt)
    other = replace(artifact, contract=replace(artifact.contract, visibility=True))  # type: ignore[call-arg]
    with pytest.raises(EngineError, match=r"outputs \['heatmaps'\], the model has one input and"):
        open_engine(other, driver, trt)


def test_an_engine_of_the_dla_is_opened_on_its_core(artifact: Artifact, driver: HostDriver) -> None:
    trt = fake_tensorrt(dla_cores=2)
    build_engine(artifact, ORIN, Order(dla=1), trt=trt)
    assert open_engine(artifact, driver, trt).most == 1
