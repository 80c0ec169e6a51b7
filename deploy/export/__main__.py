"""``python -m deploy.export``: every checkpoint of a run becomes an artifact for one target.

The folder of the target holds the final model; the models on the way to it, the float baseline first, are in
sub-folders that ``models.json`` lists in order, so that the gate can compare them. The model of a second task lies
beside them, in a folder of the task's name.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from deploy.export.checkpoint_to_artifact import export_checkpoint, require_embeddable
from deploy.export.target import target_named
from edgekp.artifact import require_contract
from edgekp.atomic import sha256, write_file
from edgekp.cli import recipe_of, run, stage_parser
from edgekp.errors import StageError
from edgekp.recipe import Recipe
from edgekp.run_lock import locked
from edgekp.stage import Key, require_stage, run_stage, say
from edgekp.stage_results import MODELS_FILE, listed_models, optimized_key
from train.models.checkpoint import load_checkpoint

VERSION = 1


def checkpoints_of(recipe: Recipe) -> dict[str, Path]:
    """Folder of each checkpoint of a run by model name, the float baseline first, the final model last.

    Raises:
        StageError: One is missing, or the optimized ones come from another float model or from other steps.
    """
    folders = {"float": require_stage(recipe.run_folder / "train", "make train")}
    if recipe.optimize:
        optimized = require_stage(recipe.run_folder / "optimize", "make optimize")
        if reasons := optimized_key(recipe).reasons_to_run(optimized):
            raise StageError(f"{optimized}: made from something else than is there now (found -> expected: "
                             f"{reasons[0]}); run: make optimize")
        folders |= {name: optimized / name for name in listed_models(optimized, "make optimize")}
    return folders


def second_checkpoint(recipe: Recipe) -> dict[str, Path]:
    """Folder of the checkpoint of the second task by its name; empty where the recipe has no such task."""
    if recipe.second is None:
        return {}
    folder = recipe.run_folder / "train" / recipe.second.name
    if not (folder / "manifest.json").is_file():
        raise StageError(f"{folder}: no checkpoint there; run: make train")
    return {recipe.second.name: folder}


def export(recipe: Recipe, target_name: str, *, force: bool) -> None:
    """Export all checkpoints of a run for a target."""
    target = target_named(target_name)
    folders, second = checkpoints_of(recipe), second_checkpoint(recipe)
    contract, *of_second = recipe.for_each_task(Recipe.contract)
    contracts = dict.fromkeys(folders, contract) | dict(zip(second, of_second, strict=True))
    digests = {name: sha256(folder / "manifest.json") for name, folder in (folders | second).items()}
    for contract in contracts.values():
        require_embeddable(contract, target, recipe.export.embed)
    key = Key("export", VERSION, {"export": recipe.export, "target": asdict(target)}, digests)

    def work(scratch: Path) -> None:
        for name, folder in (folders | second).items():
            checkpoint = load_checkpoint(folder)
            require_contract(checkpoint.artifact, contracts[name], "make train optimize")
            found = export_checkpoint(checkpoint, scratch / name, target, recipe.export.opset, recipe.export.embed)
            say(f"export: {name}: equal to its network within {found['largest_difference']:.2g} of the largest output")
        for path in (scratch / list(folders)[-1]).iterdir():
            shutil.copy2(path, scratch)
        write_file(scratch / MODELS_FILE, json.dumps({"models": list(folders)}) + "\n")

    result = recipe.run_folder / "export" / target_name
    if run_stage(result, key, work, force=force):
        say(f"export: next: {target.next_step}")


def main(argv: Sequence[str] | None = None) -> int:
    parser = stage_parser("python -m deploy.export", "Export the checkpoints of a run for a target.")
    parser.add_argument("--target", default="cpu", help="a name in deploy/targets (default: %(default)s)")

    def command(arguments: argparse.Namespace) -> int:
        recipe = recipe_of(arguments)
        with locked(recipe.run_folder):
            export(recipe, arguments.target, force=arguments.force)
        return 0

    return run(command, parser, argv)


if __name__ == "__main__":
    sys.exit(main())
