"""Structured pruning: the least important channels leave until a goal is reached, in rounds that each train on."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from deploy.export.target import target_named
from edgekp.errors import RecipeError
from edgekp.recipe import Recipe
from edgekp.recipe_steps import Prune
from edgekp.stage import say
from eval.latency import machine
from optimize.channel_groups import ChannelGroup, Dependencies
from optimize.channel_sensitivity import Scan, scan
from optimize.importance import scores_of
from optimize.pruning_goal import Aim, meter_for, search
from optimize.step import Context, Result
from train.dataset import input_digests
from train.history import Entry
from train.models.channels import read_channels
from train.models.checkpoint import Checkpoint
from train.models.cost import count_macs, count_parameters

SHUFFLED = ("lite_hrnet", "shufflenet_v2")  # torch-pruning cannot follow channels through a shuffle


def prune(parent: Checkpoint, settings: Prune, context: Context) -> Result:
    """Remove channels until as much of the goal is gone as was asked for, then train on to recover.

    Channel counts stay multiples, so the reduction reached is the nearest one and is reported.

    Raises:
        RecipeError: The network is already on the int8 grid, it shuffles its channels, or the reduction cannot be
            reached.
    """
    _refuse(parent)
    multiple = _multiple(settings)
    scanned = scan(parent, scores_of(parent, settings.importance, context), multiple, context) \
        if settings.sensitivity else None
    with TemporaryDirectory() as folder:
        aim = Aim(meter_for(settings, parent, context.recipe, Path(folder)), settings.goal, multiple, parent.spec)
        pruned, rounds, history = _in_rounds(parent, settings, scanned, aim, context)
    report = {**_costs(parent, pruned), "goal": settings.goal, "reduction_asked": settings.reduction,
              "reduction_reached": 1 - rounds[-1]["share_left"], "importance": settings.importance,
              "multiple": multiple, "rounds": rounds, "channels": _channels(parent, pruned),
              "sensitivity": scanned.report() if scanned else None}
    return Result(pruned.net, pruned.spec, report, history)


def facts(settings: Prune, recipe: Recipe) -> dict[str, Any]:
    """What the result depends on besides the settings of the step and what it trains on."""
    found: dict[str, Any] = {"multiple": _multiple(settings)}
    if settings.sensitivity:
        found |= {"metric": recipe.eval.metric, "val": input_digests(recipe, "val")}
    return found | ({"machine": machine()} if settings.goal == "latency" else {})


def _multiple(settings: Prune) -> int:
    return settings.round_to or target_named(settings.target).channel_multiple


def _refuse(parent: Checkpoint) -> None:
    if parent.spec.quantization:
        raise RecipeError("optimize: 'prune' comes after 'quantize'; put quantize last")
    if parent.spec.backbone in SHUFFLED:
        raise RecipeError(f"optimize: 'prune' cannot follow the channel shuffles of backbone '{parent.spec.backbone}'; "
                          "leave it out and choose a smaller width or depth")


def _in_rounds(parent: Checkpoint, settings: Prune, scanned: Scan | None, aim: Aim,
               context: Context) -> tuple[Checkpoint, list[dict[str, Any]], list[Entry]]:
    """Equal parts of the reduction, each from what training made of the one before it."""
    current, rounds, history = parent, list[dict[str, Any]](), list[Entry]()
    for number in range(1, settings.rounds + 1):
        scores = scores_of(current, settings.importance, context)
        wanted = 1 - settings.reduction * number / settings.rounds
        found = search(current, scanned.weighted(scores) if scanned else scores, wanted, aim)
        say(f"optimize: pruned: {1 - found.cost.share:.0%} less {aim.what}, {1 - wanted:.0%} asked")
        last = number == settings.rounds
        net, entries = context.fine_tune(current, found.net, "recover" if last else f"recover {number}",
                                         settings.epochs if last else settings.round_epochs, settings.lr)
        current = replace(current, net=net, spec=found.spec)
        rounds.append({"share_asked": wanted, "share_left": found.cost.share, **found.cost.details,
                       "recovered": entries[-1] if entries else None})
        history += [{**entry, "epoch": entry["epoch"] + len(history)} for entry in entries]
    return current, rounds, history


def _costs(before: Checkpoint, after: Checkpoint) -> dict[str, int]:
    return {"macs_before": count_macs(before.net, before.spec.input_hw),
            "macs_after": count_macs(after.net, after.spec.input_hw),
            "parameters_before": count_parameters(before.net), "parameters_after": count_parameters(after.net)}


def _channels(before: Checkpoint, after: Checkpoint) -> list[dict[str, Any]]:
    """Of every group its layers and its channels before and after; in the order of the network."""
    groups, left = Dependencies(before.net, before.spec.input_hw).groups(), read_channels(after.net)
    order = list(read_channels(before.net))

    def row(name: str, group: ChannelGroup) -> dict[str, Any]:
        return {"group": name, "layers": list(group.layers), "before": group.channels, "after": left[name][1]}

    return [row(name, groups[name]) for name in sorted(groups, key=order.index)]
