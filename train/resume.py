"""The state of a training run on disk, so that a stopped run goes on from where it was, bit for bit."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn, optim

from edgekp.atomic import write_file
from edgekp.errors import StageError

Entry = dict[str, float]


@dataclass
class Progress:
    """How far a run has come: the next step, and one history entry per epoch."""

    step: int
    history: list[Entry]


def save_state(path: Path, identity: dict[str, Any], progress: Progress, net: nn.Module, average: nn.Module,
               optimizer: optim.Optimizer) -> None:
    """Write everything the next step depends on; ``identity`` says which run it belongs to."""
    tensors: dict[str, Tensor] = {}
    for prefix, module in (("net", net), ("average", average)):
        tensors |= {f"{prefix}.{name}": tensor.contiguous() for name, tensor in module.state_dict().items()}
    for index, entries in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer.{index}.{name}": tensor.contiguous() for name, tensor in entries.items()}
    metadata = {"identity": json.dumps(identity, sort_keys=True), "step": str(progress.step),
                "history": json.dumps(progress.history)}
    write_file(path, save(tensors, metadata))


def load_state(path: Path, identity: dict[str, Any], net: nn.Module, average: nn.Module,
               optimizer: optim.Optimizer) -> Progress:
    """Put a saved state back.

    Raises:
        StageError: There is none, it is damaged, or it belongs to a run with other settings.
    """
    try:
        with safe_open(path, "pt") as file:
            metadata = file.metadata()
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
    except (FileNotFoundError, SafetensorError) as error:
        raise StageError(f"{path}: no state to resume from ({error}); start anew without --resume") from error
    if not metadata or not {"identity", "step", "history"} <= metadata.keys():
        raise StageError(f"{path}: not the state of a training run; start anew without --resume")
    if metadata["identity"] != json.dumps(identity, sort_keys=True):
        raise StageError(f"{path}: belongs to a run with other settings or data; start anew without --resume")
    parts: dict[str, dict[str, Tensor]] = {"net": {}, "average": {}, "optimizer": {}}
    for name, tensor in tensors.items():
        prefix, _, rest = name.partition(".")
        parts[prefix][rest] = tensor
    net.load_state_dict(parts["net"])
    average.load_state_dict(parts["average"])
    states: dict[int, dict[str, Tensor]] = {}
    for name, tensor in parts["optimizer"].items():
        index, _, entry = name.partition(".")
        states.setdefault(int(index), {})[entry] = tensor
    optimizer.load_state_dict({"state": states, "param_groups": optimizer.state_dict()["param_groups"]})
    return Progress(int(metadata["step"]), json.loads(metadata["history"]))
