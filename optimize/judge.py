"""What a network is worth where it runs: exported for a target, run on the validation sets, judged by the gate."""

from __future__ import annotations

from pathlib import Path

from torch import nn

from deploy.export.checkpoint_to_artifact import export_checkpoint
from deploy.export.target import target_named
from edgekp.artifact import Artifact, open_artifact
from edgekp.contract import AnyContract
from edgekp.recipe import Recipe
from eval.accuracy_gate import judge_accuracy
from eval.evaluate import metrics_of, validation_sets
from eval.latency import percentiles_ms, time_in_fresh_process
from eval.metrics import measurable, measure
from eval.predict import predict
from eval.results import Result, lay_beside
from eval.verdict import Verdict
from train.models import ModelSpec
from train.models.checkpoint import load_checkpoint, save_checkpoint

Predictions = dict[str, list[Result]]  # by validation set
TARGET = "cpu"  # what runs where the optimization runs; every target has the same grid


class Judge:
    """Exports candidates of one run into folders of its own, and measures them on the run's validation sets."""

    def __init__(self, recipe: Recipe, folder: Path, target: str = TARGET) -> None:
        self.recipe, self.folder, self.target = recipe, folder, target_named(target)
        self.truths = {data.name: data.read(recipe) for data in validation_sets(recipe.data, recipe.run_folder)}

    def export(self, name: str, net: nn.Module, spec: ModelSpec, contract: AnyContract) -> Artifact:
        """The network as the target gets it; the folder of that name is new."""
        checkpoint = self.folder / f"{name}-checkpoint"
        checkpoint.mkdir(parents=True)
        save_checkpoint(checkpoint, net, spec, contract)
        return self.export_folder(name, checkpoint)

    def export_folder(self, name: str, checkpoint: Path) -> Artifact:
        """A stored checkpoint as the target gets it."""
        export_checkpoint(load_checkpoint(checkpoint), self.folder / name, self.target, self.recipe.export.opset)
        return open_artifact(self.folder / name)

    def predictions(self, artifact: Artifact) -> Predictions:
        return {name: predict([artifact], truth)[0] for name, truth in self.truths.items()}

    def verdicts(self, baseline: Predictions, candidate: Predictions, subject: str = "") -> list[Verdict]:
        """One a validation set: what the gate of the run says of the candidate's accuracy."""
        return [judge_accuracy(truth, baseline[name], candidate[name], self.recipe.eval, self.recipe.gate,
                               f"{subject} on {name}".strip()) for name, truth in self.truths.items()]

    def metrics(self, predictions: Predictions) -> dict[str, dict[str, float]]:
        """All numbers by validation set; none where no output was finite."""
        return {name: self._measured(name, results) for name, results in predictions.items()}

    def latency_ms(self, artifacts: list[Artifact], seed: int = 0) -> list[float]:
        """Median time of one call of each, one instance on one thread, in turn in a fresh process."""
        times = time_in_fresh_process([artifact.folder for artifact in artifacts], seed)
        return [percentiles_ms(wall_ms)["p50"] for wall_ms in times.wall_ms]

    def _measured(self, name: str, results: list[Result]) -> dict[str, float]:
        if not results:
            return {}
        scored = lay_beside(self.truths[name], results)
        return measure(scored, measurable(scored, metrics_of(self.recipe)), self.recipe.eval)
