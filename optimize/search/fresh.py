"""Candidates before any training: built, pruned, put on the grid and exported, because latency needs no knowledge."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from deploy.export.checkpoint_to_artifact import export_checkpoint
from deploy.export.target import Target
from edgekp.artifact import Artifact, open_artifact
from edgekp.contract import AnyContract
from edgekp.errors import ArtifactError, RecipeError
from edgekp.recipe import Recipe
from edgekp.recipe_steps import Prune, Quantize
from edgekp.skeleton_file import skeleton_digest
from edgekp.stage import Key, run_stage, say
from optimize.prune import prune
from optimize.ptq import quantize_network
from optimize.search.candidates import (
    Candidate,
    Network,
    pruning_of,
    quantization_of,
    recipe_of_network,
)
from optimize.step import Context
from train.history import Entry
from train.models import ModelSpec, build, spec_of
from train.models.checkpoint import Checkpoint, load_checkpoint, save_checkpoint

VERSION = 1
SEEN = 8  # inputs of noise that give a network without knowledge its scales
CHECKPOINT = "checkpoint"


@dataclass(frozen=True)
class Fresh:
    """A network with weights that have learnt nothing, and what would run on the device, by candidate."""

    checkpoint: Path
    artifacts: dict[Candidate, Artifact]


class Untaught(Context):
    """A context in which nothing is learnt: a step changes the network, and that is all."""

    def fine_tune(self, checkpoint: Checkpoint, net: nn.Module, *_: Any, **__: Any) -> tuple[nn.Module, list[Entry]]:
        return net.eval(), []


def build_all(recipe: Recipe, networks: list[Network], target: Target, folder: Path, *,
              force: bool) -> tuple[dict[Network, Fresh], dict[str, str]]:
    """All networks that can be, and why the others cannot.

    Raises:
        ArtifactError, RecipeError: The first of them, the recipe's own, cannot.
    """
    built = {networks[0]: _build(recipe, networks[0], target, folder / networks[0].name / "fresh", force)}
    left_out: dict[str, str] = {}
    for network in networks[1:]:
        try:
            built[network] = _build(recipe, network, target, folder / network.name / "fresh", force)
        except (ArtifactError, RecipeError) as error:
            say(f"search: {network.name}: left out: {error}")
            left_out[network.name] = str(error)
    return built, left_out


def architecture_digest(artifact: Artifact) -> str:
    """What a latency depends on besides the machine: widths, input, precision and spelling, but no weights."""
    checkpoint = artifact.folder.with_name(f"{artifact.folder.name}-{CHECKPOINT}")
    spec = open_artifact(checkpoint, "checkpoint").model["spec"]
    facts = {name: artifact.model.get(name) for name in ("precision", "target", "opset", "spelling")}
    return hashlib.sha256(json.dumps({"spec": spec, **facts}, sort_keys=True).encode()).hexdigest()


def export_network(folder: Path, name: str, net: nn.Module, spec: ModelSpec, contract: AnyContract, target: Target,
                   opset: int | None) -> Artifact:
    """A network as the target gets it, in ``folder/name``."""
    checkpoint = folder / f"{name}-{CHECKPOINT}"
    checkpoint.mkdir()
    save_checkpoint(checkpoint, net, spec, contract)
    export_checkpoint(load_checkpoint(checkpoint), folder / name, target, opset)
    return open_artifact(folder / name)


def _build(recipe: Recipe, network: Network, target: Target, folder: Path, force: bool) -> Fresh:
    """One network and its artifacts, unless they are up to date."""
    changed = recipe_of_network(recipe, network)
    spec, contract = spec_of(changed), changed.contract()
    pruning, quantization = structural_pruning(recipe, network, target), quantization_of(recipe)
    precisions = dict.fromkeys(recipe.search.precisions)

    def work(scratch: Path) -> None:
        float_folder = scratch / CHECKPOINT
        float_folder.mkdir()
        torch.manual_seed(recipe.train.seed)
        save_checkpoint(float_folder, build(spec).eval(), spec, contract)
        if pruning:
            _prune_in_place(float_folder, pruning, Untaught(changed, [], [], float_folder, torch.device("cpu")))
        for precision in precisions:
            parent = load_checkpoint(float_folder)
            net, its_spec = _on_grid(parent, quantization) if precision == "int8" else (parent.net, parent.spec)
            export_network(scratch, precision, net, its_spec, contract, target, recipe.export.opset)

    settings = {"model": changed.model, "input": changed.input, "codec": changed.codec, "target": asdict(target),
                "export": recipe.export, "precisions": list(precisions), "seed": recipe.train.seed,
                "prune": pruning,
                "quantize": {"keep_float": quantization.keep_float, "int16": quantization.int16}}
    key = Key(f"search {network.name}", VERSION, settings, skeleton_digest(recipe.data.skeleton))
    run_stage(folder, key, work, force=force)
    return Fresh(folder / CHECKPOINT, {Candidate(network, precision): open_artifact(folder / precision)
                                                for precision in precisions})


def structural_pruning(recipe: Recipe, network: Network, target: Target) -> Prune | None:
    """Structure alone: by the magnitudes of fresh weights, however the recipe would judge those that have learnt."""
    if not network.macs_reduction:
        return None
    multiple = pruning_of(recipe, network, target.name).round_to or target.channel_multiple
    return Prune("prune", network.macs_reduction, round_to=multiple, target=target.name)


def _prune_in_place(folder: Path, settings: Prune, context: Context) -> None:
    parent = load_checkpoint(folder)
    result = prune(parent, settings, context)
    save_checkpoint(folder, result.net, result.spec, parent.contract)


def _on_grid(parent: Checkpoint, settings: Quantize) -> tuple[nn.Module, ModelSpec]:
    noise = torch.randn(SEEN, 3, *parent.spec.input_hw, generator=torch.Generator().manual_seed(0))
    found = quantize_network(parent, Quantize("quantize", keep_float=settings.keep_float, int16=settings.int16), noise)
    return found.net, found.spec
