"""The fake knows the names of each version and no others, so that a misspelt one fails here and not on a Jetson."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from deploy.runtime.trt import builder as trt_builder
from deploy.runtime.trt import engine as trt_engine
from deploy.runtime.trt import layers as engine_layers
from deploy.runtime.trt import module as trt_module
from deploy.runtime.trt.builder import build_engine
from deploy.runtime.trt.trt_session import TrtSession
from edgekp.artifact import Artifact
from tests.deploy.trt import fake_tensorrt as fake
from tests.deploy.trt.fake_tensorrt import CLASSES, ENUMS, RECORDED, VERSIONS, fake_tensorrt, recorded
from tests.deploy.trt.host_driver import ORIN, HostDriver

USED = {
    trt_builder: ("Builder", "OnnxParser", "Runtime", "ProfilingVerbosity", "DETAILED", "MemoryPoolType", "WORKSPACE",
                  "BuilderFlag", "TF32", "create_network", "parse", "create_builder_config",
                  "profiling_verbosity", "set_memory_pool_limit", "clear_flag", "create_optimization_profile",
                  "num_inputs", "get_input", "set_shape", "add_optimization_profile", "create_timing_cache",
                  "set_timing_cache", "get_timing_cache", "serialize", "build_serialized_network",
                  "deserialize_cuda_engine"),
    trt_engine: ("Runtime", "TensorIOMode", "INPUT", "deserialize_cuda_engine", "create_execution_context",
                 "get_tensor_name", "num_io_tensors", "get_tensor_mode", "get_tensor_profile_shape", "set_input_shape",
                 "set_tensor_address", "execute_async_v3", "get_tensor_shape", "nptype", "get_tensor_dtype"),
    engine_layers: ("create_engine_inspector", "get_engine_information", "LayerInformationFormat", "JSON"),
    trt_module: ("ILogger", "NetworkDefinitionCreationFlag"),
}


def misspelt(module: ModuleType, name: str) -> ModuleType:
    """A module whose uses of one attribute have a letter too many."""
    source = Path(str(module.__file__)).read_text(encoding="utf-8")
    assert f".{name}" in source, f"{module.__name__} no longer uses {name}: leave it out here"
    changed = ModuleType(module.__name__)
    changed.__file__ = module.__file__
    exec(compile(source.replace(f".{name}", f".{name}s"), str(module.__file__), "exec"), changed.__dict__)
    return changed


def build_and_run(artifact: Artifact, trt: Any, open_engine: Callable[..., Any]) -> None:
    order = trt_builder.Order("fp32", 2, workspace_mb=64)
    build_engine(artifact, ORIN, order, trt=trt)
    driver = HostDriver()
    TrtSession(open_engine(artifact, driver, trt), driver).infer(np.zeros((3, 3, 64, 64), np.float32))


@pytest.mark.parametrize(("module", "name"), [(module, name) for module, names in USED.items() for name in names],
                         ids=lambda value: getattr(value, "__name__", value))
def test_a_misspelt_name_fails_the_loop(artifact: Artifact, monkeypatch: pytest.MonkeyPatch, module: ModuleType,
                                        name: str) -> None:
    changed = misspelt(module, name)
    for user in (trt_builder, trt_engine):
        for used, value in list(vars(user).items()):
            if getattr(value, "__module__", None) == module.__name__ and hasattr(changed, used):
                monkeypatch.setattr(user, used, getattr(changed, used))
    builder = changed if module is trt_builder else trt_builder
    engine = changed if module is trt_engine else trt_engine
    monkeypatch.setitem(globals(), "build_engine", builder.build_engine)
    with pytest.raises(AttributeError, match=name):
        build_and_run(artifact, fake_tensorrt(), engine.open_engine)


@pytest.mark.parametrize("version", VERSIONS)
def test_the_loop_runs_with_every_recorded_version(artifact: Artifact, version: str) -> None:
    build_and_run(artifact, fake_tensorrt(version), trt_engine.open_engine)


@pytest.mark.parametrize("kind", CLASSES, ids=lambda kind: kind.__name__)
def test_the_fake_has_methods_and_values_where_tensorrt_has_them(kind: type) -> None:
    """A value that is called, or a method that is not, fails with TensorRT alone."""
    names = {name for names in RECORDED["names"][kind.__name__].values() for name in names}
    for name, value in vars(kind).items():
        if not name.startswith("_"):
            assert name + "()" * callable(value) in names, f"{kind.__name__}.{name}"


def test_versions_lack_what_they_are_known_to_lack() -> None:
    """From NVIDIA's release notes; so that a file recorded from the wrong wheels is noticed."""
    flags, network = (RECORDED["names"][kind] for kind in ("BuilderFlag", "NetworkDefinitionCreationFlag"))
    assert {"FP16", "INT8"} <= set(flags["8.6.1 10.3.0 10.13.3.9"])
    assert "STRONGLY_TYPED" in network["10.3.0 10.13.3.9 11.4.0.106"]
    assert "num_bindings" in recorded("ICudaEngine", "8.6.1") - recorded("ICudaEngine", "10.3.0")
    trt = fake_tensorrt("11.4.0.106")
    with pytest.raises(AttributeError):
        _ = trt.BuilderFlag.FP16
    with pytest.raises(AttributeError, match="device_memory_size"):
        _ = trt.ICudaEngine.__new__(trt.ICudaEngine).device_memory_size


def test_a_name_that_is_set_is_held_against_the_names_too() -> None:
    trt = fake_tensorrt()
    config = trt.Builder(trt.ILogger()).create_builder_config()
    config.DLA_core = 0
    with pytest.raises(AttributeError, match="dla_core"):
        config.dla_core = 0


def test_the_real_module_of_tensorrt_rtx_has_every_name_that_the_fake_has() -> None:
    """Two recordings by different ways: RTX follows the newest TensorRT."""
    rtx = pytest.importorskip("tensorrt_rtx_bindings", reason="TensorRT-RTX is not installed (extra: tensorrt-check)")
    for kind in CLASSES:
        ours = {name for name in vars(kind) if not name.startswith("_")} & recorded(kind.__name__, VERSIONS[-1])
        assert ours <= set(dir(getattr(rtx, kind.__name__))), kind.__name__
    for name in ENUMS:
        members = {member.name for member in getattr(fake_tensorrt(VERSIONS[-1]), name)}
        optional = {"PREFER_AOT_PYTHON_PLUGINS", "PREFER_JIT_PYTHON_PLUGINS"}  # RTX has no plugins
        assert members - optional <= set(getattr(rtx, name).__members__), name
    assert set(fake.SEVERITIES) == set(rtx.ILogger.Severity.__members__)
