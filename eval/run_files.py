"""What the stages left in a run's folder, gathered for a report. Knows no drawing and no HTML."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgekp.atomic import sha256
from edgekp.contract import flatten
from edgekp.errors import StageError
from edgekp.json_file import read_json
from edgekp.recipe import Data, Eval
from edgekp.skeletons import skeleton_named
from edgekp.stage import KEY_FILE, require_stage
from edgekp.stage_results import stage_entry
from edgekp.strict import strict
from eval.evaluate import predictions_file, stored_results, validation_sets
from eval.ground_truth import GroundTruth, read_ground_truth
from eval.results import Scored, lay_beside

Record = dict[str, Any]
NOT_MEASURED = ("ledger", "model train")  # what a gate or a waterfall rests on beside what was measured


@dataclass(frozen=True)
class RunFiles:
    """A run, measured and perhaps judged.

    Attributes:
        records: those of metrics.json; the first is the float baseline's.
        gates: what gate.json holds, or None where the gate has not judged what was measured.
        histories: of each model that was trained, epoch by epoch.
        reports: what each step of optimization said of itself, by the model it made.
        waterfall: where points went between the first and the last model, or None where nobody looked.
        keys: stage.json of each stage that left one.
    """

    folder: Path
    choice: Eval
    data: Data
    target: str
    records: list[Record]
    gates: dict[str, Any] | None
    histories: dict[str, list[dict[str, float]]]
    reports: dict[str, dict[str, Any]]
    waterfall: dict[str, Any] | None
    keys: dict[str, dict[str, Any]]

    @property
    def models(self) -> list[str]:
        """In the order of their making; the first is the float baseline, the last the one that ships."""
        return list(dict.fromkeys(record["model"] for record in self.records))

    @property
    def data_names(self) -> list[str]:
        return list(dict.fromkeys(record["data"] for record in self.records))

    def records_on(self, data: str) -> list[Record]:
        """One record a model."""
        return [record for record in self.records if record["data"] == data]

    def truths(self) -> dict[str, GroundTruth]:
        """The labels that the models were measured on, by name.

        Raises:
            StageError: A file of labels is no longer the one that was measured on.
        """
        found = {}
        for entry in validation_sets(self.data, self.folder):
            if sha256(entry.labels) != self.keys["eval"]["inputs"].get(f"data {entry.name}"):
                raise StageError(f"{entry.labels}: has changed since the models were measured on it; "
                                 f"run: {eval_command(self.folder)}")
            found[entry.name] = read_ground_truth(entry.labels, skeleton_named(self.data.skeleton), entry.images)
        return found

    def scored(self, model: str, data: str, truth: GroundTruth) -> Scored:
        """A model's stored predictions beside the truth."""
        return lay_beside(truth, stored_results(predictions_file(self.folder / "eval", model, data), truth))


def eval_command(run: Path) -> str:
    return f"make eval gate RECIPE=recipes/{run.name}.toml"


def read_run(run: Path) -> RunFiles:
    """Gather a run's files, each as its stage wrote it.

    Raises:
        StageError: The run has not been evaluated, or a file has changed since; the message names the command.
    """
    evaluated = require_stage(run / "eval", eval_command(run))
    records = read_json(evaluated / "metrics.json")
    key = stage_entry(evaluated, eval_command(run), "eval", "data", "target")
    settings, made = key["settings"], {records[0]["model"]: "train"}
    made |= {record["model"]: f"optimize {record['model']}" for record in records if record["model"] not in made}
    kept = _kept({"train": (run / "train", "make train"),
                  **{stage: (run / "optimize" / name, "make optimize") for name, stage in list(made.items())[1:]},
                  "export": (run / "export" / settings["target"], f"make export TARGET={settings['target']}"),
                  "eval": (evaluated, eval_command(run)), "gate": (run / "gate", eval_command(run))})
    explained = _kept({"waterfall": (run / "waterfall", "make report")})
    measured = key["inputs"] | {f"predictions {path.stem}": sha256(path)
                                for path in (evaluated / "predictions").glob("*.json")}
    folders = {name: kept[stage][0] for name, stage in made.items() if stage in kept}
    return RunFiles(
        run, strict(Eval, settings["eval"], "eval"), strict(Data, _without_none(settings["data"]), "data"),
        settings["target"], records, _of_these(kept.get("gate"), "gate.json", settings, measured),
        _all_there({name: folder / "history.json" for name, folder in folders.items()}),
        _all_there({name: folder / "report.json" for name, folder in folders.items() if name != records[0]["model"]}),
        _of_these(explained.get("waterfall"), "waterfall.json", settings, measured),
        {stage: entry for stage, (_, entry) in kept.items()})


def _kept(stages: dict[str, tuple[Path, str]]) -> dict[str, tuple[Path, Record]]:
    """Folder and key of each stage that left a result, from folder and command; one that was changed is refused."""
    return {stage: (require_stage(folder, command), stage_entry(folder, command))
            for stage, (folder, command) in stages.items() if (folder / KEY_FILE).is_file()}


def _of_these(kept: tuple[Path, Record] | None, file: str, settings: Record, measured: dict[str, str]) -> Any:
    """What a gate or a waterfall says of the very models that were measured; one of the past says nothing of these."""
    if kept is None:
        return None
    folder, key = kept
    same = [key["settings"].get(name, settings[name]) == settings[name] for name in ("eval", "target")]
    same += [measured.get(name) == digest for name, digest in key["inputs"].items() if name not in NOT_MEASURED]
    return read_json(folder / file) if all(same) else None


def settings_of(key: dict[str, Any]) -> list[tuple[str, Any]]:
    """Each setting of a stage by its dotted name."""
    return list(flatten(key["settings"]))


def _all_there(paths: dict[str, Path]) -> dict[str, Any]:
    """Contents by name, without files that are missing or hold nothing: not every step trains or reports."""
    found = {name: _if_there(path) for name, path in paths.items()}
    return {name: value for name, value in found.items() if value}


def _if_there(path: Path) -> Any:
    return read_json(path) if path.is_file() else None


def _without_none(table: dict[str, Any]) -> dict[str, Any]:
    """JSON has null where a recipe leaves a key out."""
    return {name: value for name, value in table.items() if value is not None}
