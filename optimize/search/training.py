"""What a candidate is worth after some epochs: trained on from its last round, quantized, exported and measured."""

from __future__ import annotations

import copy
import json
import math
from collections.abc import Mapping
from dataclasses import asdict
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from deploy.export.target import Target
from edgekp.artifact import Artifact
from edgekp.atomic import sha256, write_file
from edgekp.errors import ArtifactError
from edgekp.json_file import MANIFEST_BYTES, read_json
from edgekp.recipe import Recipe
from edgekp.sample import Instance
from edgekp.stage import Key, run_stage, say
from eval.comparison import headline
from optimize.calibration_set import calibration_inputs, choose_instances, refuse_leaks
from optimize.judge import Judge
from optimize.ptq import quantize_network
from optimize.search.candidates import Network, quantization_of, recipe_of_network
from optimize.search.fresh import CHECKPOINT, Fresh, export_network
from optimize.step import Context
from train.__main__ import draw_data
from train.dataset import Pool, input_digests, read_pools
from train.models.checkpoint import device, load_checkpoint, save_checkpoint

VERSION = 1
ACCURACY = "accuracy.json"
NO_RESULT = ("epochs", "workers", "tensorboard")  # settings of training that say nothing here


class Trainer:
    """Trains the networks of a search round by round; a round of a network is a stage, and is done once.

    Args:
        folder: of the search; each network has its own in there.
    """

    def __init__(self, recipe: Recipe, target: Target, fresh: Mapping[Network, Fresh], folder: Path,
                 *, force: bool) -> None:
        self.recipe, self.target, self.fresh, self.folder = recipe, target, fresh, folder
        self.force = force
        draw_data(recipe)
        self.data = {f"{split} {name}": digest for split in ("train", "val")
                     for name, digest in input_digests(recipe, split).items()}
        self.quantization = quantization_of(recipe)

    def learn(self, network: Network, before: int, until: int) -> dict[str, float]:
        """Train a network on to ``until`` epochs; the metric by precision, NaN where no output was finite."""
        parent = self._folder(network, before) / CHECKPOINT if before else self.fresh[network].checkpoint
        folder, recipe = self._folder(network, until), recipe_of_network(self.recipe, network)

        def work(scratch: Path) -> None:
            context = Context(recipe, self._pools, [], parent, device())
            checkpoint = load_checkpoint(parent)
            net, history = context.fine_tune(checkpoint, copy.deepcopy(checkpoint.net).requires_grad_(True),
                                             network.name, until - before, recipe.train.lr)
            (scratch / CHECKPOINT).mkdir()
            save_checkpoint(scratch / CHECKPOINT, net, checkpoint.spec, checkpoint.contract)
            accuracy = self._accuracy(scratch)
            write_file(scratch / "history.json", json.dumps(history, indent=1) + "\n")
            write_file(scratch / ACCURACY, json.dumps(accuracy, indent=1) + "\n")

        run_stage(folder, self._key(network, before, until, parent), work, force=self.force)
        found = read_json(folder / ACCURACY, MANIFEST_BYTES)
        return {name: math.nan if value is None else value for name, value in found.items()}

    @cached_property
    def _pools(self) -> list[Pool]:
        return read_pools(self.recipe, "train")

    @cached_property
    def _calibrated_on(self) -> list[Instance]:
        """Training instances that give the scales, the same for all networks."""
        chosen = choose_instances([instance for pool in self._pools for instance in pool.instances],
                                  self.quantization.images)
        refuse_leaks(chosen, [instance for truth in self._judge.truths.values() for instance in truth.labels.instances])
        return chosen

    @cached_property
    def _judge(self) -> Judge:
        return Judge(self.recipe, self.folder, self.target.name)

    def _accuracy(self, scratch: Path) -> dict[str, float | None]:
        """The recipe's metric of each precision, as the target runs it; None where there is none."""
        parent = load_checkpoint(scratch / CHECKPOINT)
        found: dict[str, float | None] = {}
        for precision in dict.fromkeys(self.recipe.search.precisions):
            net, spec = parent.net, parent.spec
            if precision == "int8":
                inputs = calibration_inputs(self._calibrated_on, parent.contract).to(device())
                quantized = quantize_network(parent, self.quantization, inputs)
                net, spec = quantized.net, quantized.spec
            try:
                artifact = export_network(scratch, precision, net, spec, parent.contract, self.target,
                                          self.recipe.export.opset)
            except ArtifactError as error:  # so early, outputs may be so small that rounding is all there is
                say(f"search: no accuracy of {precision} this time: {error}")
                found[precision] = None
                continue
            value = self._metric(artifact)
            found[precision] = value if math.isfinite(value) else None
        return found

    def _metric(self, artifact: Artifact) -> float:
        """The mean over the validation sets; NaN where one of them has none."""
        metrics = self._judge.metrics(self._judge.predictions(artifact))
        return float(np.mean([of_set.get(headline(self.recipe.eval), math.nan) for of_set in metrics.values()]))

    def _folder(self, network: Network, epochs: int) -> Path:
        return self.folder / network.name / f"epochs-{epochs}"

    def _key(self, network: Network, before: int, until: int, parent: Path) -> Key:
        train = {name: value for name, value in asdict(self.recipe.train).items() if name not in NO_RESULT}
        settings: dict[str, Any] = {
            "train": train, "augment": self.recipe.augment, "epochs": [before, until], "eval": self.recipe.eval,
            "precisions": list(dict.fromkeys(self.recipe.search.precisions)), "quantize": self.quantization,
            "target": asdict(self.target), "export": self.recipe.export}
        inputs = {"parent": sha256(parent / "manifest.json"), **self.data}
        return Key(f"search {network.name}", VERSION, settings, inputs)
