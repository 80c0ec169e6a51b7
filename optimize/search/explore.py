"""A search from its space to its answer: time all candidates, train those in time, the better ones longer."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

from deploy.export.target import Target
from edgekp.errors import TrainingError
from edgekp.recipe import Recipe
from edgekp.stage import say
from eval.comparison import LOWER_IS_BETTER, headline
from optimize.search.answer import Answer, Budget, Record, answered, loss
from optimize.search.candidates import Candidate, Network, networks_of, own_network, rounds_of
from optimize.search.fresh import Fresh, architecture_digest, build_all
from optimize.search.front import Point, best_first, successive_halving
from optimize.search.latency import Latency, measure, read_ledger
from optimize.search.training import Trainer

Scores = dict[tuple[Network, int], dict[str, float]]  # by network and epochs: the metric by precision


@dataclass(frozen=True)
class Space:
    """What is searched, built and timed.

    Attributes:
        folder: in which networks are built and trained.
        latencies: by name of candidate, of ``ledger``, which was recorded on ``machine``.
    """

    recipe: Recipe
    target: Target
    folder: Path
    fresh: dict[Network, Fresh]
    left_out: dict[str, str]
    ledger: Path
    latencies: dict[str, Latency]
    machine: str


def prepare(recipe: Recipe, target: Target, ledger: Path | None, *, force: bool) -> Space:
    """Build all candidates, and time them here unless a ledger knows their latency."""
    folder = recipe.run_folder / "search" / "networks"
    fresh, left_out = build_all(recipe, networks_of(recipe, target.channel_multiple), target, folder, force=force)
    artifacts = {candidate.name: artifact for of in fresh.values() for candidate, artifact in of.artifacts.items()}
    digests = {name: architecture_digest(artifact) for name, artifact in artifacts.items()}
    if ledger is None:
        ledger = measure({name: artifact.folder for name, artifact in artifacts.items()}, digests,
                         recipe.run_folder / "search" / "latency", force=force)
    return Space(recipe, target, folder, fresh, left_out, ledger, *read_ledger(ledger, digests))


def explore(space: Space, budget: Budget, *, force: bool) -> Answer:
    """Train what may keep the budget, and say what does."""
    recipe, name = space.recipe, headline(space.recipe.eval)
    scores, diverged = _train(space, budget, force=force)
    answer = Answer(recipe.name, space.target.name, space.machine, name, name.startswith(LOWER_IS_BETTER), budget,
                    recipe.train.epochs, _records(space, scores), space.left_out | diverged)
    return answered(answer)


def _train(space: Space, budget: Budget, *, force: bool) -> tuple[Scores, dict[str, str]]:
    """Successive halving over the networks that have a candidate with time; a drop needs the recipe's own one, too.

    Returns:
        The scores, and by name why a network left: its training diverged.

    Raises:
        TrainingError: The network from which drops are measured diverged.
    """
    recipe, reference = space.recipe, own_network(space.recipe)
    scores, diverged = Scores(), dict[str, str]()
    in_time = [candidate for of in space.fresh.values() for candidate in of.artifacts
               if budget.has_time_for(space.latencies[candidate.name].p50_ms)]
    networks = list(dict.fromkeys(candidate.network for candidate in in_time))
    say(f"search: {len(networks)} of {len(space.fresh)} networks have a candidate in time")
    if not networks:
        return scores, diverged
    always = [] if budget.drop is None else [reference]
    trainer = Trainer(recipe, space.target, space.fresh, space.folder, force=force)
    sign = -1 if headline(recipe.eval).startswith(LOWER_IS_BETTER) else 1

    def learn(network: Network, before: int, until: int) -> None:
        try:
            scores[network, until] = trainer.learn(network, before, until)
        except TrainingError as error:
            if network in always:
                raise
            say(f"search: {network.name}: left out: {error}")
            scores[network, until], diverged[network.name] = {}, str(error)

    def order(trained: list[Network], until: int) -> list[Network]:
        points = {candidate: Point(space.latencies[candidate.name].p50_ms,
                                   sign * scores[candidate.network, until][candidate.precision])
                  for candidate in in_time if candidate.network in trained and candidate.network.name not in diverged}
        return list(dict.fromkeys([*always, *(candidate.network for candidate in best_first(points))]))

    successive_halving(list(dict.fromkeys([*always, *networks])), rounds_of(recipe), recipe.search.keep, learn, order)
    return scores, diverged


def _records(space: Space, scores: Scores) -> list[Record]:
    """Every candidate with what is known of it after its last round."""
    reference = own_network(space.recipe)
    records = []
    for network, fresh in space.fresh.items():
        epochs = max((until for trained, until in scores if trained == network), default=0)
        own = _known(scores, reference, epochs, "fp32")
        for candidate, artifact in fresh.artifacts.items():
            latency, accuracy = space.latencies[candidate.name], _known(scores, network, epochs, candidate.precision)
            records.append(Record(
                candidate.name, network.width, *network.input_hw, network.macs_reduction, candidate.precision,
                artifact.model["macs"], artifact.model["parameters"], artifact.size_bytes, latency.p50_ms,
                latency.lowest_ms, latency.highest_ms, epochs, accuracy, loss(own, accuracy, space.recipe.eval)))
    return records


def _known(scores: Scores, network: Network, epochs: int, precision: str) -> float | None:
    """A score, or None where there is none; NaN is none."""
    value = scores.get((network, epochs), {}).get(precision, math.nan)
    return None if math.isnan(value) else value


def candidate_named(space: Space, name: str) -> Candidate:
    return next(candidate for of in space.fresh.values() for candidate in of.artifacts if candidate.name == name)
