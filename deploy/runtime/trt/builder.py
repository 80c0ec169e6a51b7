"""From an artifact's ONNX file to model.engine and engine.json beside it, on the machine that will run it.

Knows no camera and no command line: ``deploy/build_engine.py`` asks for it, ``deploy/run_trt.py`` where none fits.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

from deploy.runtime.gpu.driver import Gpu
from deploy.runtime.trt.engine import machine_of
from deploy.runtime.trt.layers import layers_of
from deploy.runtime.trt.module import (
    device_memory_bytes,
    import_tensorrt,
    keeping_logger,
    network_flags,
    precision_flags,
    quoted,
)
from deploy.runtime.trt.order import FLAGS, Order, request_of
from deploy.runtime.trt.stamp import (
    ENGINE,
    TIMING_CACHE,
    VERSION,
    Machine,
    Request,
    Stamp,
    checked_timing_cache,
    fitting_engine,
    why_stale,
)
from edgekp.artifact import Artifact
from edgekp.atomic import write_file
from edgekp.errors import EngineError
from edgekp.run_lock import locked
from edgekp.stage import say

AS_ASKED_BY_NOBODY = Order()


@dataclass(frozen=True)
class Built:
    """An engine, and the times of kernels that were measured for it; empty where this TensorRT keeps none."""

    engine: bytes
    timing_cache: bytes


def build_engine(artifact: Artifact, gpu: Gpu, order: Order = AS_ASKED_BY_NOBODY, *, force: bool = False,
                 trt: Any = None) -> Stamp:
    """Put an engine beside an artifact's model, unless the one that lies there fits.

    Args:
        gpu: of the driver that is open; the engine is built for it.
        trt: TensorRT's module, where it is not the installed one.

    Raises:
        ArtifactError: The artifact holds no ONNX file.
        EngineError: What is asked cannot be had here, TensorRT refuses the model, or the folder cannot be written.
        StageError: Another process is building one there.
    """
    trt = trt or import_tensorrt()
    machine, request = machine_of(gpu, trt), request_of(order, artifact, trt)
    reason = "--force" if force else why_stale(artifact, machine, request)
    if reason is None:
        say(f"build_engine: up to date ({artifact.folder / ENGINE})")
        return fitting_engine(artifact, machine, request)[0]
    if not os.access(artifact.folder, os.W_OK):  # known before minutes of building
        raise _unwritable(artifact, "no permission")
    with locked(artifact.folder):
        say(f"build_engine: building because {reason}")
        start = time.perf_counter()
        built = build(artifact, request, trt)
        stamp = _stamped(artifact, machine, request, built, time.perf_counter() - start, trt)
        try:
            _publish(artifact, built, stamp)
        except OSError as error:
            raise _unwritable(artifact, error.strerror) from error
    say(f"build_engine: done ({artifact.folder / ENGINE})")
    return stamp


def build(artifact: Artifact, request: Request, trt: Any) -> Built:
    """What TensorRT makes of a file; needs a GPU, but for TensorRT-RTX."""
    logger = keeping_logger(trt)  # builder, network and parser live no longer than it does
    path = artifact.folder / request.onnx
    builder = trt.Builder(logger)
    network = builder.create_network(network_flags(trt, strongly_typed=request.strongly_typed))
    parser = trt.OnnxParser(network, logger)
    if not parser.parse(artifact.read(request.onnx)):
        reasons = [parser.get_error(index).desc() for index in range(parser.num_errors)] or [quoted(logger)]
        raise EngineError(f"{path}: TensorRT's parser refuses it: {' '.join(reasons[0].split())}; "
                          "python -m deploy.export.qdq_lint may say why")
    config = _config(builder, network, request, trt)
    _use_timing_cache(config, artifact)
    logger.errors.clear()  # a timing cache of another machine is said to be an error
    plan = builder.build_serialized_network(network, config)
    if plan is None:
        raise EngineError(f"{path}: TensorRT builds no engine from it: {quoted(logger)}; try another --precision")
    cache = config.get_timing_cache()
    return Built(bytes(plan), bytes(cache.serialize()) if cache else b"")


def _config(builder: Any, network: Any, request: Request, trt: Any) -> Any:
    config = builder.create_builder_config()
    config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED  # so that the inspector tells each layer's type
    if request.workspace_mb is not None:
        config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, request.workspace_mb << 20)
    if not request.strongly_typed:
        for flag in precision_flags(trt, FLAGS[request.precision]) or ():
            config.set_flag(flag)
    if request.precision == "fp32":
        config.clear_flag(trt.BuilderFlag.TF32)  # on by default, with the 10 bits of fp16
    if request.dla is not None:
        _use_dla(builder, config, request.dla, trt)
    config.add_optimization_profile(_profile(builder, network, request))
    return config


def _profile(builder: Any, network: Any, request: Request) -> Any:
    """Batches from 1 on, tuned for one person, which is what most pictures show; more are slower, but as right."""
    profile = builder.create_optimization_profile()
    for index in range(network.num_inputs):
        tensor = network.get_input(index)
        batch, *shape = tuple(tensor.shape)
        if 0 < batch != request.max_batch:
            raise EngineError(f"{request.onnx}: is of a fixed batch of {batch}; use --max-batch {batch}")
        one = (max(batch, 1), *shape)
        profile.set_shape(tensor.name, one, one, (request.max_batch, *shape))
    return profile


def _use_dla(builder: Any, config: Any, core: int, trt: Any) -> None:
    """All layers that it takes to the accelerator, the others to the GPU."""
    if core >= builder.num_DLA_cores:
        raise EngineError(f"--dla {core}: TensorRT sees {builder.num_DLA_cores} DLA cores here, numbered from 0; AGX "
                          "Orin, Orin NX and Xavier have some, other boards none; TensorRT 10.8 to 11.4.0 use none")
    config.default_device_type = trt.DeviceType.DLA
    config.DLA_core = core
    config.set_flag(trt.BuilderFlag.GPU_FALLBACK)


def _use_timing_cache(config: Any, artifact: Artifact) -> None:
    """That of the last build, or an empty one where it is of another GPU or version, or was changed."""
    cache = config.create_timing_cache(checked_timing_cache(artifact.folder))
    if cache is None or not config.set_timing_cache(cache, False):
        config.set_timing_cache(config.create_timing_cache(b""), False)


def _stamped(artifact: Artifact, machine: Machine, request: Request, built: Built, seconds: float, trt: Any) -> Stamp:
    """Opens what was built, which is its first test."""
    logger = keeping_logger(trt)
    runtime = trt.Runtime(logger)
    if request.dla is not None:
        runtime.DLA_core = request.dla
    engine = runtime.deserialize_cuda_engine(built.engine)
    if engine is None:
        raise EngineError(f"{artifact.folder}: an engine was built, but does not open here: {quoted(logger)}; "
                          "see edgekp doctor device")
    return Stamp(VERSION, machine, request, artifact.files[request.onnx], sha256(built.engine).hexdigest(),
                 len(built.engine), device_memory_bytes(engine), round(seconds, 2), layers_of(engine, trt),
                 sha256(built.timing_cache).hexdigest() if built.timing_cache else "")


def _publish(artifact: Artifact, built: Built, stamp: Stamp) -> None:
    """The stamp last: a crash before it leaves an engine without its digest, which is built again."""
    if built.timing_cache:
        write_file(artifact.folder / TIMING_CACHE, built.timing_cache)
    write_file(artifact.folder / ENGINE, built.engine)
    stamp.write(artifact.folder)


def _unwritable(artifact: Artifact, why: str | None) -> EngineError:
    return EngineError(f"{artifact.folder}: the engine cannot be put beside its model ({why}); copy the artifact to a "
                       "folder that you may write")
