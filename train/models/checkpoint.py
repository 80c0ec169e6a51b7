"""Checkpoints: weights as safetensors in an artifact folder that says how to rebuild the network around them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import nn

from edgekp.artifact import Artifact, open_artifact, write_artifact
from edgekp.atomic import write_file
from edgekp.contract import AnyContract
from edgekp.errors import ArtifactError, RecipeError
from train.models import ModelSpec, build
from train.models.cost import count_macs, count_parameters

WEIGHTS = "model.safetensors"


@dataclass(frozen=True)
class Checkpoint:
    """A network in evaluation mode with its weights, and what it was made for."""

    net: nn.Module
    spec: ModelSpec
    artifact: Artifact

    @property
    def contract(self) -> AnyContract:
        return self.artifact.contract


def save_checkpoint(folder: Path, net: nn.Module, spec: ModelSpec, contract: AnyContract, processes: int = 1) -> None:
    """Write weights, golden vectors and manifest into an existing folder; ``processes`` trained it together."""
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in net.state_dict().items()}
    write_file(folder / WEIGHTS, save(tensors))
    write_artifact(folder, "checkpoint", contract, {
        "file": WEIGHTS, "precision": "int8" if spec.quantization else "fp32", "spec": spec.to_json(),
        "parameters": count_parameters(net), "macs": count_macs(net, spec.input_hw),
        "processes": processes})


def load_checkpoint(folder: Path) -> Checkpoint:
    """Rebuild the network of a checkpoint folder.

    Raises:
        ArtifactError: Not a checkpoint, damaged, or weights that do not fit their specification.
    """
    artifact = open_artifact(folder, "checkpoint")
    try:
        spec = ModelSpec.from_json(artifact.model["spec"])
        net = build(spec)
        net.load_state_dict(load(artifact.read_model()))
    except (LookupError, AttributeError, TypeError, ValueError, RuntimeError, SafetensorError, RecipeError) as error:
        reason = str(error).partition("\n")[0]
        raise ArtifactError(f"{folder}: the weights do not fit the specification in its manifest ({reason}); train the "
                            "model again") from error
    return Checkpoint(net.eval(), spec, artifact)


def device() -> torch.device:
    """Where networks are trained: the GPU, if there is one."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")
