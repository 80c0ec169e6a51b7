"""A recipe as TOML again, and the recipe of a candidate: what a full run needs to make the model that was found."""

from __future__ import annotations

import json
from dataclasses import MISSING, fields, is_dataclass, replace
from typing import Any

from edgekp.recipe import Recipe
from edgekp.recipe_search import Search
from edgekp.recipe_steps import Prune, Qat, Quantize, Step
from optimize.search.candidates import Candidate, pruning_of, recipe_of_network


def recipe_of_candidate(recipe: Recipe, candidate: Candidate, target: str, name: str) -> Recipe:
    """The recipe with a candidate's width, input, pruning for a target, and precision; other steps stay as they are."""
    return replace(recipe_of_network(recipe, candidate.network), name=name, search=Search(),
                   optimize=_steps(recipe, candidate, target))


def to_toml(recipe: Recipe) -> str:
    """All settings that differ from their defaults, as a recipe's file spells them."""
    plain = _changed(recipe)
    steps = plain.pop("optimize", [])
    values = {key: value for key, value in plain.items() if not isinstance(value, dict)}
    lines = _lines(values)
    for name, section in plain.items():
        if isinstance(section, dict):
            lines += ["", f"[{name}]", *_lines(section)]
    for step in steps:
        lines += ["", "[[optimize]]", *_lines(step)]
    return "\n".join(lines) + "\n"


def _steps(recipe: Recipe, candidate: Candidate, target: str) -> tuple[Step, ...]:
    """One pruning where the recipe has its first, or none; the grid at the end, or none."""
    share, int8 = candidate.network.macs_reduction, candidate.precision == "int8"
    leaving = (Prune,) if int8 else (Prune, Quantize, Qat)
    place = next((index for index, step in enumerate(recipe.optimize) if isinstance(step, Prune)), 0)
    steps = [step for step in recipe.optimize if not isinstance(step, leaving)]
    if share:
        steps.insert(place, pruning_of(recipe, candidate.network, target))
    if int8 and not any(isinstance(step, Quantize) for step in steps):
        steps.append(Quantize("quantize"))
    return tuple(steps)


def _changed(settings: Any) -> dict[str, Any]:
    """The fields of a dataclass that differ from their defaults, as plain values."""
    found = {}
    for entry in fields(settings):
        value = getattr(settings, entry.name)
        default = entry.default_factory() if entry.default_factory is not MISSING else entry.default
        if value is not None and value != default:
            found[entry.name] = _plain(value)
    return found


def _plain(value: Any) -> Any:
    if isinstance(value, (list, tuple)):
        return [_plain(entry) for entry in value]
    return _changed(value) if is_dataclass(value) else value


def _lines(table: dict[str, Any]) -> list[str]:
    return [f"{key} = {_spelled(value)}" for key, value in table.items()]


def _spelled(value: Any) -> str:
    """A value in one line; JSON's strings are TOML's."""
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{key} = {_spelled(entry)}" for key, entry in value.items()) + " }"
    if isinstance(value, list):
        return "[" + ", ".join(map(_spelled, value)) + "]"
    return str(value) if isinstance(value, float) else json.dumps(value, ensure_ascii=False)
