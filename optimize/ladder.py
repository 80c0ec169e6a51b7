"""Which repair follows which until the gate passes, from the cheapest to the dearest.

Knows no network and no image: attempts are made and judged by a workshop.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from edgekp.recipe_steps import Quantize
from edgekp.stage import say
from eval.verdict import ORDER, Outcome

MOST_FLOAT = 8  # more layers in float than this, and training on is the better use of time
WIDENED = 8  # activations that become 16 bits wide, the worst ones


@dataclass(frozen=True)
class Rung:
    """A change of settings that costs no time on the device, and why it may help."""

    name: str
    why: str
    changes: dict[str, Any]


RUNGS = (
    Rung("observer mse", "the threshold with the least squared error: clips little, rounds finely",
         {"observer": "mse"}),
    Rung("observer percentile", "clips the largest 0.01 %: single outliers no longer make all steps wide",
         {"observer": "percentile"}),
    Rung("observer entropy", "keeps the distribution of an activation rather than its values", {"observer": "entropy"}),
    Rung("equalisation", "one scale an activation serves all its channels well only where these have like ranges",
         {"equalize": True}),
    Rung("bias correction", "rounding shifts the mean of an output; the bias can take that back",
         {"correct_bias": True}),
    Rung("adaptive rounding", "the nearest level of each weight is not the best for their sum",
         {"rounding": "adaptive"}),
)
INT16_WHY = "65,536 levels in place of 256 for the activations that cost most; TensorRT refuses such a model"
FLOAT_WHY = "the fewest layers that the gate needs in float, the most sensitive ones first"
QAT_WHY = "weights that know of the rounding can move away from where it hurts"


@dataclass(frozen=True)
class Attempt:
    """A quantized network and what the gate says of it.

    Attributes:
        name: of its folder in the workshop.
        trained: whether it was trained on with the rounding in place.
        outcome: the worst of all validation sets.
        used: upper bound of the loss in budgets, the largest of all validation sets; a pass is below 1.
        losses: what the gate found, by validation set.
    """

    name: str
    settings: Quantize
    outcome: Outcome
    used: float
    losses: dict[str, dict[str, Any]]
    size_bytes: int
    trained: bool = False

    def is_better_than(self, other: Attempt) -> bool:
        return (ORDER.index(self.outcome), self.used) < (ORDER.index(other.outcome), other.used)


class Workshop(Protocol):
    """Makes and judges attempts, and says which layers are worst."""

    no_int16: str  # why 16-bit activations are no choice; empty where they are

    def attempt(self, settings: Quantize) -> Attempt: ...

    def train_on(self, attempt: Attempt) -> Attempt: ...

    def worst_layers(self, settings: Quantize) -> list[str]:
        """Convolutions on the grid that ``keep_float`` can name, the worst one first."""

    def worst_activations(self, settings: Quantize) -> list[str]:
        """Layers whose 8-bit results ``int16`` can name, the worst one first."""


@dataclass(frozen=True)
class Step:
    """A rung that was tried or skipped.

    Attributes:
        kept: whether the rungs above build on it.
        note: why it was skipped; else empty.
    """

    rung: str
    why: str
    kept: bool
    attempt: Attempt | None = None
    note: str = ""


@dataclass(frozen=True)
class LeftInFloat:
    """A layer that stayed in float: the network with it in float, and with it on the grid, none of them trained on."""

    layer: str
    attempt: Attempt
    without: Attempt


@dataclass
class Climb:
    """The way up the ladder. ``steps`` hold at least the recipe's own settings, which are ``best`` until beaten."""

    workshop: Workshop
    steps: list[Step] = field(default_factory=list)
    seen: dict[Quantize, Attempt] = field(default_factory=dict)

    @property
    def best(self) -> Attempt:
        return next(step.attempt for step in reversed(self.steps) if step.kept and step.attempt)

    @property
    def passed(self) -> bool:
        return self.best.outcome == "pass"

    def take(self, rung: str, why: str, settings: Quantize) -> None:
        """Try settings, and keep them if the gate likes them better."""
        if settings in self.seen:
            self.skip(rung, why, "changes nothing here")
        else:
            self.note(rung, why, self.judged(settings))

    def skip(self, rung: str, why: str, reason: str) -> None:
        self.steps.append(Step(rung, why, False, note=reason))
        say(f"repair: {rung}: skipped, {reason}")

    def note(self, rung: str, why: str, attempt: Attempt) -> None:
        kept = not self.steps or attempt.is_better_than(self.best)
        self.steps.append(Step(rung, why, kept, attempt))
        say(f"repair: {rung}: {attempt.outcome}, {_spell(attempt)}{'' if kept else '; no better, so not kept'}")

    def judged(self, settings: Quantize) -> Attempt:
        if settings not in self.seen:
            self.seen[settings] = self.workshop.attempt(settings)
        return self.seen[settings]


def climb(way: Climb, settings: Quantize) -> None:
    """Try the recipe's settings, then one rung after the other, up to the first that passes."""
    way.take("recipe", "what the recipe asks for", settings)
    for rung in RUNGS:
        if not way.passed:
            way.take(rung.name, rung.why, replace(way.best.settings, **rung.changes))
    for dear in (_widen, _leave_in_float, _train_on):
        if not way.passed:
            dear(way)


def left_in_float(way: Climb) -> list[LeftInFloat]:
    """Every layer that the best attempt keeps in float, and what the network is worth without that."""
    settings = way.best.settings
    return [LeftInFloat(layer, way.judged(settings), way.judged(_without(settings, layer)))
            for layer in settings.keep_float]


def _widen(way: Climb) -> None:
    if way.workshop.no_int16:
        way.skip("16-bit activations", INT16_WHY, way.workshop.no_int16)
        return
    settings = way.best.settings
    worst = way.workshop.worst_activations(settings)[:WIDENED]
    way.take("16-bit activations", INT16_WHY, replace(settings, int16=tuple(dict.fromkeys([*settings.int16, *worst]))))


def _leave_in_float(way: Climb) -> None:
    """Twice as many layers until the gate passes, then the fewest that still do, then without those not needed."""
    settings = way.best.settings
    layers = way.workshop.worst_layers(settings)[:MOST_FLOAT]

    def passes(count: int) -> bool:
        return way.judged(_with(settings, layers[:count])).outcome == "pass"

    counts = sorted({min(2 ** power, len(layers)) for power in range(MOST_FLOAT.bit_length())} - {0})
    enough = next((count for count in counts if passes(count)), None)
    if enough is None:
        tried = [way.judged(_with(settings, layers[:count])) for count in counts]
        chosen = _best(tried) if tried else None
    else:
        fewest = _fewest(passes, max((count for count in counts if count < enough), default=0), enough)
        chosen = _drop_idle(way, _with(settings, layers[:fewest]), layers[:fewest])
    if chosen is None:
        way.skip("float layers", FLOAT_WHY, "no convolution is left on the grid")
    else:
        way.note(f"{len(chosen.settings.keep_float) - len(settings.keep_float)} float layer(s)", FLOAT_WHY, chosen)


def _fewest(passes: Callable[[int], bool], too_few: int, enough: int) -> int:
    """The smallest count that passes, by halving."""
    while enough - too_few > 1:
        middle = (too_few + enough) // 2
        too_few, enough = (too_few, middle) if passes(middle) else (middle, enough)
    return enough


def _drop_idle(way: Climb, settings: Quantize, layers: list[str]) -> Attempt:
    """Back to the grid with each layer that the gate passes without."""
    for layer in layers if len(layers) > 1 else []:
        if way.judged(_without(settings, layer)).outcome == "pass":
            settings = _without(settings, layer)
    return way.judged(settings)


def _train_on(way: Climb) -> None:
    way.note("short QAT", QAT_WHY, way.workshop.train_on(way.best))


def _with(settings: Quantize, layers: list[str]) -> Quantize:
    return replace(settings, keep_float=(*settings.keep_float, *layers))


def _without(settings: Quantize, layer: str) -> Quantize:
    return replace(settings, keep_float=tuple(kept for kept in settings.keep_float if kept != layer))


def _best(attempts: list[Attempt]) -> Attempt:
    best = attempts[0]
    for attempt in attempts[1:]:
        best = attempt if attempt.is_better_than(best) else best
    return best


def _spell(attempt: Attempt) -> str:
    return "; ".join(f"{name}: {loss['reason']}" for name, loss in attempt.losses.items())
