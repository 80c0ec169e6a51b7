"""A recipe read from its file: overrides applied, and sections that do not fit each other refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from edgekp.codecs import Regression, SimCC
from edgekp.contract import AnyContract, SceneContract
from edgekp.errors import RecipeError
from edgekp.recipe import Recipe, SecondTask
from edgekp.recipe_augment import Augment
from edgekp.strict import read_toml, strict, toml_value

FIRST_OPSET_WITH_GRID_SAMPLE = 16


def load_recipe(path: Path, overrides: list[str] | None = None) -> Recipe:
    """Read a recipe and apply ``section.key=value`` overrides.

    Raises:
        RecipeError: No such file, broken TOML, an unknown key, or a value of the wrong type.
    """
    table = read_toml(path)
    for override in overrides or []:
        _override(table, override)
    table.setdefault("name", path.stem)
    recipe = strict(Recipe, table, "")
    if Path(recipe.name).name != recipe.name or recipe.name in ("", "..") or not recipe.name.isprintable():
        raise RecipeError(f"{path}: name: {recipe.name!r:.80}, expected that of a folder in runs/, without a path")
    recipe.for_each_task(lambda task: _check_task(path, task))
    if recipe.second:
        _check_together(path, recipe, recipe.second)
    return recipe


def _check_task(path: Path, recipe: Recipe) -> None:
    """Refuse sections that do not fit each other."""
    contract = recipe.contract()  # codec options and the skeleton's name are checked before any stage runs
    if recipe.eval.metric == "nme" and contract.skeleton.normaliser is None:
        raise RecipeError(f"{path}: eval.metric: 'nme' needs a skeleton with a normaliser, "
                          f"'{contract.skeleton.name}' has none; use oks_ap or pck")
    _check_augment(path, recipe.augment, contract)
    _check_keypoint_weights(path, recipe.train.keypoint_weights, contract)
    opset = recipe.export.opset
    if recipe.model.transformer and opset is not None and opset < FIRST_OPSET_WITH_GRID_SAMPLE:
        raise RecipeError(f"{path}: export.opset: {opset}, but model.transformer needs "
                          f"{FIRST_OPSET_WITH_GRID_SAMPLE} or more (GridSample)")
    if not (recipe.data.drawn or (recipe.data.train and recipe.data.val)):
        raise RecipeError(f"{path}: data: expected either [data.drawn] or both [[data.train]] and [[data.val]]")


def _check_together(path: Path, recipe: Recipe, second: SecondTask) -> None:
    """Refuse tasks that one forward pass cannot serve: it sees the batches of both as one."""
    if any(isinstance(contract, SceneContract) for contract in recipe.for_each_task(Recipe.contract)):
        raise RecipeError(f"{path}: second: codec 'openpose' is shown whole images, and two tasks learn together from "
                          "crops alone; choose another codec, or leave [second] out")
    why = "the backbone sees both tasks in one batch"
    if second.input and second.input.input_hw != recipe.input.input_hw:
        raise RecipeError(f"{path}: second.input.input_hw: {list(second.input.input_hw)}, expected "
                          f"{list(recipe.input.input_hw)} as in [input]: {why}")
    if second.augment.multi_scale != recipe.augment.multi_scale:
        raise RecipeError(f"{path}: second.augment.multi_scale: {list(second.augment.multi_scale)}, expected "
                          f"{list(recipe.augment.multi_scale)} as in [augment]: {why}")
    if recipe.model.transformer:
        raise RecipeError(f"{path}: model.transformer: true, but it learns what is upright from one task; leave it or "
                          "[second] out")


def _check_augment(path: Path, augment: Augment, contract: AnyContract) -> None:
    """Refuse what the skeleton or the codec has no use for."""
    if augment.half_body_p and isinstance(contract, SceneContract):
        raise RecipeError(f"{path}: augment.half_body_p: {augment.half_body_p}, but the network is shown whole images; "
                          "leave it out")
    if augment.half_body_p and not contract.skeleton.lower_body.any():
        raise RecipeError(f"{path}: augment.half_body_p: {augment.half_body_p}, but skeleton "
                          f"'{contract.skeleton.name}' is no body; leave it out")
    if augment.multi_scale and isinstance(contract.codec, (Regression, SimCC)):
        raise RecipeError(f"{path}: augment.multi_scale: {list(augment.multi_scale)}, but heads that say "
                          f"{list(contract.codec.outputs)} take inputs of one size; leave it out")


def _check_keypoint_weights(path: Path, weights: tuple[float, ...], contract: AnyContract) -> None:
    """Refuse weights of other keypoints than the skeleton's."""
    if weights and isinstance(contract, SceneContract):
        raise RecipeError(f"{path}: train.keypoint_weights: given, but codec 'openpose' weighs the cells of a scene; "
                          "leave them out")
    if weights and len(weights) != len(contract.skeleton):
        raise RecipeError(f"{path}: train.keypoint_weights: {len(weights)} numbers, but skeleton "
                          f"'{contract.skeleton.name}' has {len(contract.skeleton)} keypoints; give one for each, "
                          f"in this order: {', '.join(contract.skeleton.keypoints)}")


def _override(table: dict[str, Any], text: str) -> None:
    """Apply ``a.b=c``; a step of [[optimize]] is addressed by its method, as in ``optimize.prune.epochs=3``."""
    name, separator, raw = text.partition("=")
    if not separator or not name:
        raise RecipeError(f"--set {text}: expected section.key=value")
    *path, key = name.split(".")
    place: Any = table
    for part in path:
        if isinstance(place, list):
            place = next((entry for entry in place if isinstance(entry, dict) and entry.get("method") == part), None)
        else:
            place = place.setdefault(part, {})
        if not isinstance(place, (dict, list)):
            raise RecipeError(f"--set {text}: there is no '{part}' in this recipe; expected section.key=value")
    if isinstance(place, list):
        raise RecipeError(f"--set {text}: name a step by its method, as in optimize.prune.epochs=3")
    place[key] = toml_value(raw)
