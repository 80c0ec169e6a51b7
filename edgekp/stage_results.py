"""What stages left for others to read: their keys, their lists of models, and what optimized models were made from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from edgekp.atomic import sha256
from edgekp.errors import StageError
from edgekp.json_file import MANIFEST_BYTES, read_json
from edgekp.manifest import MANIFEST
from edgekp.recipe import Recipe
from edgekp.stage import KEY_FILE, Key

MODELS_FILE = "models.json"


def optimized_key(recipe: Recipe) -> Key:
    """What all models of ``runs/R/optimize`` together were made from: the steps and the float model."""
    baseline = recipe.run_folder / "train" / MANIFEST
    steps = {f"step {number}": step for number, step in enumerate(recipe.optimize, 1)}
    return Key("optimize", 1, steps, {"float": sha256(baseline)})


def listed_models(folder: Path, command: str) -> list[str]:
    """Names of the models in a stage's result, in the order of their making.

    Raises:
        StageError: There is no such list; the message names the command that writes it.
    """
    listed = read_json(folder / MODELS_FILE, MANIFEST_BYTES, StageError)
    names = listed.get("models") if isinstance(listed, dict) else None
    if not isinstance(names, list) or not names or not all(isinstance(name, str) for name in names):
        raise StageError(f"{folder}/{MODELS_FILE}: lists no models; run: {command}")
    return names


def stage_entry(folder: Path, command: str, *settings: str) -> dict[str, Any]:
    """A stage's key as its stage.json has it: ``settings``, with at least the named ones, and ``inputs``.

    Raises:
        StageError: It lacks some of that.
    """
    entry = read_json(folder / KEY_FILE, MANIFEST_BYTES, StageError)
    tables = [entry.get(name) if isinstance(entry, dict) else None for name in ("settings", "inputs")]
    if not all(isinstance(table, dict) for table in tables) or not set(settings) <= set(tables[0] or ()):
        raise StageError(f"{folder}/{KEY_FILE}: expected settings ({', '.join(settings) or 'any'}) and inputs, not all "
                         f"of that is there; run: {command}")
    return dict(entry)
