"""Where the ladder's attempts are made: quantized, exported for the target, run on the validation sets and judged."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import inf
from pathlib import Path
from typing import Any

from torch import Tensor

from edgekp.artifact import Artifact, boxed_contract
from edgekp.recipe_steps import Qat, Quantize
from edgekp.sample import Instance
from eval.verdict import Verdict, worst
from optimize.judge import Judge, Predictions
from optimize.ladder import Attempt
from optimize.ptq import Quantized, quantize_network
from optimize.qat import qat
from optimize.sensitivity import LayerCost, choose_probe, layer_costs
from optimize.step import Context
from train.history import Entry
from train.models.checkpoint import Checkpoint, load_checkpoint

NUMBERS = ("baseline", "candidate", "loss", "loss_lower_95", "loss_upper_95", "budget")
NO_INT16 = "TensorRT has no 16-bit integers"


@dataclass(frozen=True)
class Made:
    """A network that was attempted, and what its target gets."""

    found: Quantized
    artifact: Artifact
    history: list[Entry]


class JudgedWorkshop:
    """Makes attempts of one float network and lets the gate of the run judge them against its float baseline.

    Attributes:
        made: networks by the names of their attempts.
        float_verdicts: what the gate says of the network before anything is rounded.
    """

    def __init__(self, parent: Checkpoint, context: Context, calibrated_with: Sequence[Instance], inputs: Tensor,
                 folder: Path, target: str) -> None:
        self.parent, self.context, self.inputs = parent, context, inputs
        self.judge = Judge(context.recipe, folder, target)
        self.no_int16 = "" if self.judge.target.spelling == "uint8" else NO_INT16
        self.probe = choose_probe([instance for pool in context.train for instance in pool.instances], calibrated_with,
                                  boxed_contract(parent.artifact, "optimize.quantize.repair"))
        self.made: dict[str, Made] = {}
        self.baseline = self.judge.export_folder("float", context.baseline)
        self.baseline_says = self.judge.predictions(self.baseline)
        self.float_verdicts = self.judge.verdicts(self.baseline_says, self._parent_says(), "the float network")
        self._measured: dict[Quantize, list[LayerCost]] = {}

    def attempt(self, settings: Quantize) -> Attempt:
        return self._judged(settings, quantize_network(self.parent, settings, self.inputs), [])

    def train_on(self, attempt: Attempt) -> Attempt:
        """Short training with the rounding in place, the baseline as its teacher."""
        start = load_checkpoint(self.judge.folder / f"{attempt.name}-checkpoint")
        trained = qat(start, Qat("qat"), self.context)
        found = replace(self.made[attempt.name].found, net=trained.net.cpu(), spec=trained.spec)
        return replace(self._judged(attempt.settings, found, trained.history), trained=True)

    def worst_layers(self, settings: Quantize) -> list[str]:
        return [cost.layer for cost in self.costs(settings) if cost.has_weights]

    def worst_activations(self, settings: Quantize) -> list[str]:
        return [cost.layer for cost in self.costs(settings) if cost.has_activation]

    def costs(self, settings: Quantize) -> list[LayerCost]:
        """Of the layers with these settings, but with weights that are still the float network's.

        Adaptive rounding and bias correction change the weights to make up for the rounding of all layers, so they
        tell nothing of one layer alone.
        """
        plain = replace(settings, rounding="nearest", correct_bias=False)
        if plain not in self._measured:
            self._measured[plain] = layer_costs(quantize_network(self.parent, plain, self.inputs).net, self.probe)
        return self._measured[plain]

    def latency_ms(self, names: Sequence[str]) -> dict[str, float]:
        """Of the baseline and of attempts, measured in turn."""
        artifacts = [self.baseline, *(self.made[name].artifact for name in names)]
        return dict(zip(("float", *names), self.judge.latency_ms(artifacts), strict=True))

    def _parent_says(self) -> Predictions:
        if self.parent.artifact.folder.resolve() == self.context.baseline.resolve():
            return self.baseline_says
        return self.judge.predictions(self.judge.export_folder("parent", self.parent.artifact.folder))

    def _judged(self, settings: Quantize, found: Quantized, history: list[Entry]) -> Attempt:
        name = f"attempt-{len(self.made) + 1}"
        artifact = self.judge.export(name, found.net, found.spec, self.parent.contract)
        verdicts = self.judge.verdicts(self.baseline_says, self.judge.predictions(artifact))
        self.made[name] = Made(found, artifact, history)
        losses = {data: loss_of(verdict) for data, verdict in zip(self.judge.truths, verdicts, strict=True)}
        return Attempt(name, settings, worst(verdicts), max(map(_used, verdicts)), losses, artifact.size_bytes)


def loss_of(verdict: Verdict) -> dict[str, Any]:
    """What a report keeps of a verdict; numbers are missing where nothing could be compared."""
    numbers = {name: verdict.numbers[name] for name in NUMBERS if name in verdict.numbers}
    return {"gate": verdict.gate, "outcome": verdict.outcome, "reason": verdict.reason, **numbers}


def _used(verdict: Verdict) -> float:
    numbers = verdict.numbers
    return float(numbers["loss_upper_95"] / numbers["budget"]) if "budget" in numbers else inf
