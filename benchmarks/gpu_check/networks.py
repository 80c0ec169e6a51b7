"""The networks that are timed: a tiny one in torch, and an artifact by TensorRT, TensorRT-RTX or torch. No clock."""

from __future__ import annotations

from copy import deepcopy
from pathlib import Path
from typing import Any

from benchmarks.gpu_check.end_to_end import Network
from benchmarks.gpu_check.record import Skip
from deploy.runtime.gpu.driver import CudaDriver
from deploy.runtime.gpu.estimator import Engine
from deploy.runtime.loop.newest_export import newest_export
from deploy.runtime.session import open_session
from edgekp.artifact import Artifact, open_artifact
from edgekp.codecs import Heatmap
from edgekp.contract import Contract
from edgekp.errors import ArtifactError, EngineError
from edgekp.preprocess import InputSpec
from edgekp.skeletons import COCO17

INPUT_HW = (128, 96)
MOST = 8  # people at once
TARGET = "jetson"


def tiny_network() -> Network:
    """Random weights: what is timed does not depend on them."""
    torch = _torch()
    from benchmarks.gpu_check.torch_engine import TorchEngine, TorchOnHost
    from train.models import ModelSpec, build

    torch.manual_seed(0)
    net = build(ModelSpec("hrnet_lite", "heatmap", len(COCO17), INPUT_HW,
                          {"width": 8, "branches": 2, "blocks": 1, "modules": 1})).eval()
    contract = Contract(InputSpec(INPUT_HW), Heatmap(INPUT_HW), COCO17)
    return Network(f"tiny, torch {torch.__version__}", contract,
                   lambda _: TorchEngine(deepcopy(net), INPUT_HW, contract.outputs, MOST),
                   lambda: TorchOnHost(net, contract.outputs))


def network_of(folder: Path | None) -> Network:
    """An artifact's, by default that of the newest export for a Jetson."""
    artifact = open_artifact(folder or _newest())
    return _in_torch(artifact) if artifact.kind == "checkpoint" else _by_tensorrt(artifact)


def _newest() -> Path:
    try:
        return newest_export(TARGET)
    except ArtifactError as error:
        raise Skip(str(error)) from error


def _by_tensorrt(artifact: Artifact) -> Network:
    from deploy.runtime.trt.builder import build_engine
    from deploy.runtime.trt.engine import open_engine
    from deploy.runtime.trt.module import import_tensorrt, label

    try:
        trt = import_tensorrt()
    except EngineError as error:
        raise Skip(f"{error}; or name a checkpoint, which torch runs") from error

    def engine(driver: CudaDriver) -> Engine:
        build_engine(artifact, driver.gpu, trt=trt)
        return open_engine(artifact, driver, trt)
    return Network(f"{artifact.folder.name}, TensorRT {label(trt)}", artifact.contract, engine,
                   lambda: open_session(artifact))


def _in_torch(artifact: Artifact) -> Network:
    torch = _torch()
    from benchmarks.gpu_check.torch_engine import TorchEngine
    from train.models.checkpoint import load_checkpoint

    contract = artifact.contract
    most = MOST if isinstance(contract, Contract) else 1
    return Network(f"{artifact.folder.name}, torch {torch.__version__}", contract,
                   lambda _: TorchEngine(load_checkpoint(artifact.folder).net, contract.input.input_hw,
                                         contract.outputs, most),
                   lambda: open_session(artifact))


def _torch() -> Any:
    try:
        import torch
    except ImportError as error:
        raise Skip(f"torch is not installed ({error})") from error
    if not torch.cuda.is_available():
        raise Skip("torch is installed without CUDA")
    return torch
