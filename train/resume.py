"""The state of a training run on disk, so that a stopped run goes on from where it was, bit for bit."""

from __future__ import annotations

import hmac
import json
from dataclasses import asdict, dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn, optim

from edgekp.atomic import write_file
from edgekp.errors import StageError
from edgekp.signature import signing_key
from edgekp.stage import say
from train.history import Entry

SEAL, SIGNATURE = "sha256", "hmac"  # the second with a key only, and in the file: a kill must not part the two
NEEDED = {"identity", "progress", "scaler", "conditions", SEAL}
PARTS = ("net", "average", "optimizer", "best")


@dataclass
class Progress:
    """How far a run has come.

    Attributes:
        step: the next one, from 0.
        history: one entry per finished epoch.
        loss_sum: of the steps of the epoch that has begun.
        moved: steps that moved the weights; fp16 leaves some out.
        first_loss: of the first step.
    """

    step: int = 0
    history: list[Entry] = field(default_factory=list)
    loss_sum: float = 0.0
    moved: int = 0
    first_loss: float = 0.0


@dataclass
class State:
    """Everything that the next step depends on.

    Attributes:
        average: the averaged network.
        best: the averaged weights of the best epoch so far; empty where none is kept.
    """

    net: nn.Module
    average: nn.Module
    optimizer: optim.Optimizer
    scaler: torch.amp.GradScaler
    progress: Progress = field(default_factory=Progress)
    best: dict[str, Tensor] = field(default_factory=dict)


def save_state(path: Path, identity: dict[str, Any], state: State, processes: int = 1) -> None:
    """Write a state; ``identity`` says which run it belongs to.

    Raises:
        StageError: It cannot be written, as on a full disk; an older state is still there.
    """
    entries = state.optimizer.state_dict()["state"].items()
    named = {"net": state.net.state_dict(), "average": state.average.state_dict(), "best": state.best,
             "optimizer": {f"{index}.{name}": tensor for index, of_one in entries for name, tensor in of_one.items()}}
    tensors = {f"{part}.{name}": tensor.contiguous() for part, of_part in named.items()
               for name, tensor in of_part.items()}
    metadata = {"identity": _to_json(identity), "progress": json.dumps(asdict(state.progress)),
                "scaler": _to_json(state.scaler.state_dict()), "conditions": _to_json(_conditions(processes))}
    seal = _digest(metadata, tensors)
    try:
        write_file(path, save(tensors, metadata | {SEAL: seal} | _signature(path, seal)))
    except OSError as error:
        kept = "the state before it is intact: " if path.exists() else ""
        raise StageError(f"{path}: the state of the training cannot be saved ({error.strerror}); {kept}make room, "
                         "then go on with --resume") from error


def load_state(path: Path, identity: dict[str, Any], state: State, processes: int = 1) -> None:
    """Put a saved state back into ``state``; what keeps the run from ending bit-equal is said.

    Raises:
        StageError: There is none, it is damaged, not signed though a key is given, or belongs to a run with other
            settings or to another network.
    """
    metadata, parts = _read(path)
    if metadata["identity"] != _to_json(identity):
        raise StageError(f"{path}: belongs to a run with other settings or data; start anew without --resume")
    try:
        state.net.load_state_dict(parts["net"])
        state.average.load_state_dict(parts["average"])
    except RuntimeError as error:
        raise StageError(f"{path}: holds another network than the one that these settings build now; start anew "
                         "without --resume") from error
    state.best = parts["best"]
    entries: dict[int, dict[str, Tensor]] = {}
    for name, tensor in parts["optimizer"].items():
        index, _, entry = name.partition(".")
        entries.setdefault(int(index), {})[entry] = tensor
    state.optimizer.load_state_dict({"state": entries, "param_groups": state.optimizer.state_dict()["param_groups"]})
    if scaler := json.loads(metadata["scaler"]):
        state.scaler.load_state_dict(scaler)
    state.progress = Progress(**json.loads(metadata["progress"]))
    _say_what_differs(json.loads(metadata["conditions"]), _conditions(processes))


def saved_history(path: Path, identity: dict[str, Any]) -> Any:
    """The history in a state of this very run, unchecked; None where there is none, or none that can be read."""
    try:
        with safe_open(path, "pt") as file:
            metadata = file.metadata() or {}
        return json.loads(metadata["progress"])["history"] if metadata["identity"] == _to_json(identity) else None
    except (OSError, SafetensorError, LookupError, TypeError, ValueError, RecursionError):
        return None


def _read(path: Path) -> tuple[dict[str, str], dict[str, dict[str, Tensor]]]:
    """Metadata and the tensors of each part."""
    try:
        with safe_open(path, "pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
    except (OSError, SafetensorError) as error:
        raise StageError(f"{path}: no state to resume from ({error}); start anew without --resume") from error
    if not metadata.keys() >= NEEDED:
        raise StageError(f"{path}: not the state of a training run; start anew without --resume")
    seal, signature = metadata.pop(SEAL), metadata.pop(SIGNATURE, "")
    if seal != _digest(metadata, tensors):
        raise StageError(f"{path}: was changed or damaged since it was saved; start anew without --resume")
    expected = _signature(path, seal)
    if expected and not hmac.compare_digest(signature.encode(), expected[SIGNATURE].encode()):
        raise StageError(f"{path}: is not signed with the key that is given; start anew without --resume")
    parts: dict[str, dict[str, Tensor]] = {part: {} for part in PARTS}
    for name, tensor in tensors.items():
        part, _, rest = name.partition(".")
        parts[part][rest] = tensor
    return metadata, parts


def _digest(metadata: dict[str, str], tensors: dict[str, Tensor]) -> str:
    """Of all that a state holds: the format does not notice a changed bit."""
    whole = sha256(_to_json(metadata).encode())
    for name, tensor in sorted(tensors.items()):
        whole.update(f"{name} {tensor.dtype} {list(tensor.shape)}".encode())
        whole.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return whole.hexdigest()


def _signature(path: Path, seal: str) -> dict[str, str]:
    """What a state holds beside its seal where a key is given."""
    key = signing_key()
    return {SIGNATURE: key.signature(path.name, seal.encode())} if key else {}


def _conditions(processes: int) -> dict[str, Any]:
    """What changes the order of additions, and with it the last bits of the weights."""
    return {"threads": torch.get_num_threads(), "processes": processes, "torch": torch.__version__}


def _say_what_differs(then: dict[str, Any], now: dict[str, Any]) -> None:
    differing = [f"{name} was {then.get(name)}, is {value}" for name, value in now.items() if then.get(name) != value]
    if differing:
        say(f"resume: {', '.join(differing)}; the run goes on, but its weights will not be bit-equal to those of one "
            "that was never stopped")


def _to_json(value: Any) -> str:
    return json.dumps(value, sort_keys=True)
