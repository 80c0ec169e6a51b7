"""TensorRT as far as we use it, with ONNX Runtime inside.

    trt = fake_tensorrt("10.3.0")                       # host memory stands for a GPU's: see host_driver.py
    trt = fake_tensorrt("10.3.0", gpu=gpu)              # or a GPU with queue(stream, work) and array_at(address, ...)
    monkeypatch.setitem(sys.modules, "tensorrt", trt)

Every public name is held against those that were recorded from the real bindings of that version: one that the version
lacks, or a misspelt one, raises AttributeError, when it is read and when it is set. What TensorRT answers with None or
False and a line in its log, this answers likewise.
"""

from __future__ import annotations

import ctypes
import enum
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import onnx
import onnxruntime

RECORDED = json.loads((Path(__file__).parent / "tensorrt_names.json").read_text())
VERSIONS: tuple[str, ...] = tuple(RECORDED["versions"])
ENUMS = ("BuilderFlag", "NetworkDefinitionCreationFlag", "MemoryPoolType", "DeviceType", "DataType", "TensorIOMode",
         "ProfilingVerbosity", "LayerInformationFormat")
SEVERITIES = ("INTERNAL_ERROR", "ERROR", "WARNING", "INFO", "VERBOSE")
NUMPY = {"FLOAT": np.float32, "HALF": np.float16, "INT8": np.int8, "INT32": np.int32, "BOOL": np.bool_,
         "UINT8": np.uint8}
MAGIC, CACHE_MAGIC = b"fake engine\n", b"fake cache\n"
CONTEXT_BYTES = 1 << 20
WORDS = {"8.6.1": {"fp32": "Row major linear FP32", "fp16": "Row major linear FP16 format",
                   "int8": "Thirty-two wide channel vectorized row major Int8 format"}}  # of the inspector
LATER_WORDS = {"fp32": "Float", "fp16": "Half", "int8": "Int8"}


def recorded(kind: str, version: str) -> frozenset[str]:
    """Names of a class, or of ``module``, in a version; methods without the brackets that mark them in the file."""
    groups = RECORDED["names"][kind].items()
    return frozenset(name.removesuffix("()") for versions, names in groups if version in versions.split()
                     for name in names)


class Named:
    """An object of a class of which only the recorded names exist."""

    names: ClassVar[frozenset[str]]
    trt: ClassVar[Any]

    def __getattribute__(self, name: str) -> Any:
        _require_name(type(self), name)
        return super().__getattribute__(name)

    def __setattr__(self, name: str, value: Any) -> None:
        _require_name(type(self), name)
        super().__setattr__(name, value)


def _require_name(kind: type[Any], name: str) -> None:
    if not name.startswith("_") and name not in kind.__dict__["names"]:
        raise AttributeError(f"'{kind.__name__}' object of TensorRT has no attribute '{name}'")


def _trt(thing: Any) -> Any:
    return type(thing).__dict__["trt"]


def _is_a(thing: Any, kind: Any) -> Any:
    """pybind11 refuses an argument of another type with a TypeError."""
    if not isinstance(thing, kind):
        raise TypeError(f"incompatible function arguments: {thing!r}")
    return thing


class ILogger:
    """Subclassed by users; the members of its severity are added for each version."""

    def log(self, severity: Any, message: str) -> None:
        raise NotImplementedError


class ITensor(Named):
    def __init__(self, value: onnx.ValueInfoProto) -> None:
        self._value = value

    @property
    def name(self) -> str:
        return self._value.name

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(dim.dim_value or -1 for dim in self._value.type.tensor_type.shape.dim)


class INetworkDefinition(Named):
    def __init__(self, flags: int) -> None:
        self._flags, self._model = flags, onnx.ModelProto()

    @property
    def num_inputs(self) -> int:
        return len(self._model.graph.input)

    def get_input(self, index: int) -> Any:
        return _trt(self).ITensor(self._model.graph.input[index])


class ParserError(Named):
    def __init__(self, text: str) -> None:
        self._text = text

    def desc(self) -> str:
        return self._text


class OnnxParser(Named):
    def __init__(self, network: Any, logger: ILogger) -> None:
        self._network, self._logger = _is_a(network, INetworkDefinition), _is_a(logger, ILogger)
        self._errors: list[str] = []

    @property
    def num_errors(self) -> int:
        return len(self._errors)

    def get_error(self, index: int) -> Any:
        return _trt(self).ParserError(self._errors[index])

    def parse(self, model: bytes) -> bool:
        try:
            self._network._model.ParseFromString(_is_a(model, bytes))
        except Exception as error:  # noqa: BLE001  # protobuf's class differs between its implementations
            self._errors.append(f"ModelImporter: failed to parse ({error})")
        for node in self._network._model.graph.node:
            if not onnx.defs.has(node.op_type):
                self._errors.append(f"Plugin not found, are the plugin name, version, and namespace correct?\n"
                                    f"({node.op_type})")
        return not self._errors


class IOptimizationProfile(Named):
    def __init__(self) -> None:
        self._shapes: dict[str, tuple[tuple[int, ...], ...]] = {}

    def set_shape(self, name: str, *least_best_most: tuple[int, ...]) -> None:
        assert len(least_best_most) == 3
        self._shapes[_is_a(name, str)] = least_best_most


class ITimingCache(Named):
    def __init__(self, data: bytes) -> None:
        self._data = data

    def serialize(self) -> bytes:
        return self._data


class IBuilderConfig(Named):
    def __init__(self, version: str, logger: ILogger) -> None:
        self._version, self._logger, self._flags = version, logger, {"TF32"}
        self._profiles: list[IOptimizationProfile] = []
        self._pools: dict[str, int] = {}
        self._cache: Any = self.create_timing_cache(b"")
        self.profiling_verbosity = _trt(self).ProfilingVerbosity.LAYER_NAMES_ONLY
        self.default_device_type, self.DLA_core = _trt(self).DeviceType.GPU, -1

    def set_flag(self, flag: Any) -> None:
        self._flags.add(_is_a(flag, _trt(self).BuilderFlag).name)

    def clear_flag(self, flag: Any) -> None:
        self._flags.discard(_is_a(flag, _trt(self).BuilderFlag).name)

    def set_memory_pool_limit(self, pool: Any, size: int) -> None:
        self._pools[_is_a(pool, _trt(self).MemoryPoolType).name] = _is_a(size, int)

    def add_optimization_profile(self, profile: Any) -> int:
        self._profiles.append(_is_a(profile, IOptimizationProfile))
        return len(self._profiles) - 1

    def create_timing_cache(self, data: bytes) -> Any:
        return _trt(self).ITimingCache(_is_a(data, bytes) or CACHE_MAGIC + self._version.encode() + b"\n")

    def set_timing_cache(self, cache: Any, ignore_mismatch: bool) -> bool:
        data = _is_a(cache, ITimingCache)._data
        if not data.startswith(CACHE_MAGIC + self._version.encode() + b"\n") and not ignore_mismatch:
            self._logger.log(_trt(self).ILogger.ERROR, "The timing cache will not be used: it is of another version")
            return False
        self._cache = cache
        return True

    def get_timing_cache(self) -> Any:
        return self._cache


class Builder(Named):
    def __init__(self, logger: ILogger) -> None:
        self._logger = _is_a(logger, ILogger)

    @property
    def num_DLA_cores(self) -> int:
        return int(_trt(self).dla_cores)

    def create_network(self, flags: int = 0) -> Any:
        return _trt(self).INetworkDefinition(_is_a(flags, int))

    def create_builder_config(self) -> Any:
        return _trt(self).IBuilderConfig(_trt(self).__version__, self._logger)

    def create_optimization_profile(self) -> Any:
        return _trt(self).IOptimizationProfile()

    def build_serialized_network(self, network: Any, config: Any) -> bytes | None:
        trt, model = _trt(self), _is_a(network, INetworkDefinition)._model
        problem = _problem(trt, network, config)
        if problem:
            self._logger.log(trt.ILogger.ERROR, problem)
            return None
        config._cache._data += b"measured\n"
        header = {"version": trt.__version__, "flags": sorted(config._flags), "pools": config._pools,
                  "shapes": config._profiles[0]._shapes, "dla": config.DLA_core,
                  "detailed": config.profiling_verbosity.name == "DETAILED"}
        return MAGIC + json.dumps(header).encode() + b"\n" + bytes(model.SerializeToString())


def _problem(trt: Any, network: Any, config: Any) -> str | None:
    """Why TensorRT would build nothing."""
    strong = getattr(trt.NetworkDefinitionCreationFlag, "STRONGLY_TYPED", None)
    explicit = getattr(trt.NetworkDefinitionCreationFlag, "EXPLICIT_BATCH", None)
    always_strong = not hasattr(trt.BuilderFlag, "FP16")
    is_strong = always_strong or (strong is not None and bool(network._flags >> int(strong) & 1))
    if trt.__version__.startswith("8") and not network._flags >> int(explicit) & 1:
        return "Networks with an implicit batch dimension do not parse from ONNX"
    if is_strong and config._flags & {"FP16", "INT8"}:
        return "Precision flags and a strongly typed network exclude each other"
    has_qdq = any(node.op_type == "QuantizeLinear" for node in network._model.graph.node)
    if has_qdq and not is_strong and "INT8" not in config._flags:
        return "int8 quantization without the flag INT8"
    if any(-1 in tensor.shape for tensor in map(network.get_input, range(network.num_inputs))) and not config._profiles:
        return "Network has dynamic or shape inputs, but no optimization profile has been defined"
    for tensor in map(network.get_input, range(network.num_inputs)):
        shapes = config._profiles[0]._shapes[tensor.name]
        if any(asked != size for shape in shapes for asked, size in zip(shape, tensor.shape, strict=True) if size > 0):
            return f"{tensor.name}: profile {shapes} does not fit {tensor.shape}"
        if config.default_device_type == trt.DeviceType.DLA and len(set(shapes)) > 1:
            return "DLA does not support dynamic dimensions"
    return None


class Runtime(Named):
    def __init__(self, logger: ILogger) -> None:
        self._logger, self.DLA_core = _is_a(logger, ILogger), -1

    def deserialize_cuda_engine(self, data: bytes) -> Any:
        trt, (header, _, model) = _trt(self), _is_a(data, bytes).removeprefix(MAGIC).partition(b"\n")
        trt.deserialised.append(data)
        if not data.startswith(MAGIC) or json.loads(header)["version"] != trt.__version__:
            self._logger.log(trt.ILogger.ERROR, "Serialization assertion stdVersionRead == kSERIALIZATION_VERSION "
                             "failed.")
            return None
        if json.loads(header)["dla"] != self.DLA_core:
            self._logger.log(trt.ILogger.ERROR, "Cannot deserialize engine: wrong DLA core")
            return None
        return trt.ICudaEngine(json.loads(header), model)


class ICudaEngine(Named):
    def __init__(self, header: dict[str, Any], model: bytes) -> None:
        self._header, self._model = header, onnx.load_model_from_string(model)
        session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
        self._session, self._inputs = session, [value.name for value in session.get_inputs()]
        self._tensors = {value.name: value for value in session.get_inputs() + session.get_outputs()}

    @property
    def num_io_tensors(self) -> int:
        return len(self._tensors)

    @property
    def device_memory_size(self) -> int:
        return CONTEXT_BYTES

    @property
    def device_memory_size_v2(self) -> int:
        return CONTEXT_BYTES

    def get_tensor_name(self, index: int) -> str:
        return list(self._tensors)[index]

    def get_tensor_mode(self, name: str) -> Any:
        return getattr(_trt(self).TensorIOMode, "INPUT" if name in self._inputs else "OUTPUT")

    def get_tensor_dtype(self, name: str) -> Any:
        types = {"tensor(float)": "FLOAT", "tensor(float16)": "HALF"}
        return getattr(_trt(self).DataType, types[self._tensors[name].type])

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        return tuple(size if isinstance(size, int) else -1 for size in self._tensors[name].shape)

    def get_tensor_profile_shape(self, name: str, profile: int) -> list[tuple[int, ...]]:
        assert profile == 0
        return [tuple(shape) for shape in self._header["shapes"][name]]

    def create_execution_context(self) -> Any:
        return _trt(self).IExecutionContext(self)

    def create_engine_inspector(self) -> Any:
        return _trt(self).EngineInspector(self)


class EngineInspector(Named):
    def __init__(self, engine: ICudaEngine) -> None:
        self._engine = engine

    def get_engine_information(self, form: Any) -> str:
        assert form.name == "JSON"
        header, model = self._engine._header, self._engine._model
        nodes = [node for node in model.graph.node if node.op_type == "Conv"]
        if not header["detailed"]:
            return json.dumps({"Layers": [node.name for node in nodes], "Bindings": []})
        is_int8 = any(node.op_type == "QuantizeLinear" for node in model.graph.node)
        is_half = any(tensor.data_type == onnx.TensorProto.FLOAT16 for tensor in model.graph.initializer)
        kind = "int8" if is_int8 else "fp16" if is_half or "FP16" in header["flags"] else "fp32"
        word = WORDS.get(header["version"], LATER_WORDS)
        return json.dumps({"Layers": [{
            "Name": node.name or node.output[0], "LayerType": "CaskConvolution",
            "Inputs": [{"Name": node.input[0], "Dimensions": [1], "Format/Datatype": word[kind]}],
            "Outputs": [{"Name": node.output[0], "Dimensions": [1], "Format/Datatype": word["fp32"]}],
        } for node in nodes], "Bindings": []})


class IExecutionContext(Named):
    def __init__(self, engine: ICudaEngine) -> None:
        self._engine = engine
        self._shapes: dict[str, tuple[int, ...]] = {}
        self._addresses: dict[str, int] = {}

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        least, _, most = self._engine.get_tensor_profile_shape(_is_a(name, str), 0)
        if not all(low <= size <= high for low, size, high in zip(least, shape, most, strict=True)):
            return False
        self._shapes[name] = tuple(_is_a(size, int) for size in shape)
        return True

    def set_tensor_address(self, name: str, memory: int) -> bool:
        if name not in self._engine._tensors:
            return False
        self._addresses[name] = _is_a(memory, int)
        return True

    def execute_async_v3(self, stream_handle: int) -> bool:
        engine = self._engine
        if engine._tensors.keys() != self._addresses.keys() or self._shapes.keys() != set(engine._inputs):
            return False
        shapes, addresses = dict(self._shapes), dict(self._addresses)  # those of this call, whenever it is run
        _trt(self).gpu.queue(_is_a(stream_handle, int), lambda: self._run(shapes, addresses))
        return True

    def _run(self, shapes: dict[str, tuple[int, ...]], addresses: dict[str, int]) -> None:
        trt, engine = _trt(self), self._engine

        def array(name: str, shape: tuple[int, ...]) -> Any:
            return trt.gpu.array_at(addresses[name], shape, np.dtype(trt.nptype(engine.get_tensor_dtype(name))))

        names = [name for name in engine._tensors if name not in shapes]
        outputs = engine._session.run(names, {name: array(name, shape) for name, shape in shapes.items()})
        for name, found in zip(names, outputs, strict=True):
            array(name, found.shape)[:] = found


CLASSES = (ITensor, INetworkDefinition, ParserError, OnnxParser, IOptimizationProfile, ITimingCache, IBuilderConfig,
           Builder, Runtime, ICudaEngine, EngineInspector, IExecutionContext)


class Host:
    """The memory of the host for that of a GPU; streams have nothing to wait for."""

    def queue(self, stream: int, work: Callable[[], None]) -> None:
        work()

    def array_at(self, address: int, shape: tuple[int, ...], dtype: Any) -> Any:
        memory = (ctypes.c_char * (int(np.prod(shape)) * dtype.itemsize)).from_address(address)
        return np.frombuffer(memory, dtype).reshape(shape)


class Module:
    """What ``import tensorrt`` gives.

    Attributes:
        deserialised: all that a runtime was asked to open, for tests of what must not be.
        dla_cores: of the board that is played.
    """

    def __init__(self, version: str, dla_cores: int, gpu: Any) -> None:
        self.__name__, self.__version__ = "tensorrt", version
        self.deserialised: list[bytes] = []
        self.dla_cores, self.gpu = dla_cores, gpu
        for kind in CLASSES:
            names = recorded(kind.__name__, version)
            setattr(self, kind.__name__, type(kind.__name__, (kind,), {"names": names, "trt": self}))
        for name in ENUMS:
            setattr(self, name, _enum(name, version))
        severity = enum.IntEnum("Severity", SEVERITIES, start=0)  # type: ignore[misc]
        self.ILogger = type("ILogger", (ILogger,), {member.name: member for member in severity})

    def nptype(self, dtype: Any) -> Any:
        return NUMPY[dtype.name]


def _enum(name: str, version: str) -> Any:
    """Members in their recorded order, numbered as they come; the flag of the explicit batch is 0, as in TensorRT."""
    having = [member for versions, names in RECORDED["names"][name].items() if version in versions.split()
              for member in names]
    return enum.IntEnum(name, having, start=0)


def fake_tensorrt(version: str = "10.3.0", dla_cores: int = 0, gpu: Any = None) -> Any:
    """A stand-in for the module ``tensorrt`` of one of ``VERSIONS``."""
    assert version in VERSIONS, f"{version}, recorded are {VERSIONS}"
    module = Module(version, dla_cores, gpu or Host())
    assert recorded("module", version) >= {kind.__name__ for kind in CLASSES} | {*ENUMS, "ILogger", "nptype"}
    return module
