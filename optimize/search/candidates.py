"""The networks that a search tries: changes to a recipe, in width, input size, pruning and precision.

Knows no weights: what a candidate is worth, and what it costs, is found elsewhere.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from inspect import signature
from itertools import product
from typing import TypeVar

from edgekp.contract import SceneContract
from edgekp.errors import RecipeError
from edgekp.recipe import Model, Recipe
from edgekp.recipe_steps import Prune, Quantize
from train.models import BACKBONES

S = TypeVar("S", Prune, Quantize)

WIDTH_FACTORS = (0.5, 0.75, 1.0, 1.25)
INPUT_FACTORS = (0.75, 1.0)
ROUND_SHARES = (8, 4, 2)  # by default the rounds end after an eighth, a quarter and a half of the recipe's epochs


@dataclass(frozen=True)
class Network:
    """What is trained once, for all precisions.

    Attributes:
        width: of the backbone; None where it has no such option.
        macs_reduction: share that pruning takes away, 0 for none.
    """

    width: float | None
    input_hw: tuple[int, int]
    macs_reduction: float

    @property
    def name(self) -> str:
        width = "" if self.width is None else f"w{self.width:g}-"
        pruned = f"-pruned{100 * self.macs_reduction:g}" if self.macs_reduction else ""
        return f"{width}{self.input_hw[0]}x{self.input_hw[1]}{pruned}"


@dataclass(frozen=True)
class Candidate:
    """A network in one precision: what would run on the device."""

    network: Network
    precision: str

    @property
    def name(self) -> str:
        return f"{self.network.name}-{self.precision}"


def require_searchable(recipe: Recipe) -> None:
    """Refuse what the search cannot train or measure."""
    if recipe.second:
        raise RecipeError(f"search: the recipe has a second task, '{recipe.second.name}', and the search trains one; "
                          "leave [second] out")
    if isinstance(recipe.contract(), SceneContract):
        raise RecipeError(f"search: codec '{recipe.codec.name}' is shown whole images, and the search is for networks "
                          "that are shown one person in a box; choose another codec")
    if recipe.search.widths and own_width(recipe.model) is None:
        raise RecipeError(f"search.widths: backbone '{recipe.model.backbone}' has no option 'width'; leave it out, and "
                          "the search varies input, pruning and precision")


def networks_of(recipe: Recipe, channel_multiple: int) -> list[Network]:
    """The recipe's own network, which is always there, then the others; some may turn out to be impossible.

    Args:
        channel_multiple: of which the target wants its channels, for the widths that follow the recipe.
    """
    search, own = recipe.search, own_network(recipe)
    widths: Iterable[float | None] = search.widths or _widths(own.width, channel_multiple)
    sizes = search.input_sizes or [_input_hw(recipe, factor) for factor in INPUT_FACTORS]
    prune = _step(recipe, Prune)
    shares = search.macs_reductions or (0.0, prune.macs_reduction if prune else Prune.macs_reduction)
    space = {Network(_as_option(recipe.model, width), size, share)
             for width, size, share in product(widths, sizes, shares)} | {own}
    return sorted(space, key=lambda network: (network != own, network.width or 0, network.input_hw,
                                              network.macs_reduction))


def own_network(recipe: Recipe) -> Network:
    """The recipe's float network as it is before any step of optimization."""
    return Network(own_width(recipe.model), recipe.input.input_hw, 0.0)


def own_width(model: Model) -> float | None:
    """The recipe's width, or that of the backbone; None where the backbone has no such option."""
    option = signature(BACKBONES[model.backbone]).parameters.get("width")
    return None if option is None else model.options.get("width", option.default)


def recipe_of_network(recipe: Recipe, network: Network) -> Recipe:
    """The recipe with the network's width and input; pruning and precision are steps after its training."""
    width = {} if network.width is None else {"width": network.width}
    return replace(recipe, model=replace(recipe.model, options=recipe.model.options | width),
                   input=replace(recipe.input, input_hw=network.input_hw))


def pruning_of(recipe: Recipe, network: Network, target: str) -> Prune:
    """The recipe's pruning step, or the default one, for a target; its goal is the network's share of the MACs."""
    return replace(_step(recipe, Prune) or Prune("prune"), macs_reduction=network.macs_reduction,
                   parameters_reduction=0.0, latency_reduction=0.0, target=target)


def quantization_of(recipe: Recipe) -> Quantize:
    """The recipe's quantization or the default one, without what costs more than all else in a round."""
    return replace(_step(recipe, Quantize) or Quantize("quantize"), repair=False, rounding="nearest",
                   backend="edgekp")


def rounds_of(recipe: Recipe) -> tuple[int, ...]:
    """Epochs that a network has learnt after each round."""
    return recipe.search.epochs or tuple(sorted({max(1, recipe.train.epochs // share) for share in ROUND_SHARES}))


def _step(recipe: Recipe, kind: type[S]) -> S | None:
    return next((step for step in recipe.optimize if isinstance(step, kind)), None)


def _widths(own: float | None, multiple: int) -> list[float | None]:
    """Channels in multiples, or plain multipliers."""
    if own is None:
        return [None]
    if isinstance(own, int):
        return [max(1, int(factor * own / multiple + 0.5)) * multiple for factor in WIDTH_FACTORS]
    return [factor * own for factor in WIDTH_FACTORS]


def _as_option(model: Model, width: float | None) -> float | None:
    """A width as the backbone takes it: TOML's list holds 32.0 where the option is a number of channels."""
    own = own_width(model)
    return int(width) if isinstance(own, int) and width is not None and width == int(width) else width


def _input_hw(recipe: Recipe, factor: float) -> tuple[int, int]:
    """The recipe's input times a factor, in multiples of the coarsest stride."""
    if factor == 1:
        return recipe.input.input_hw
    stride = BACKBONES[recipe.model.backbone](**recipe.model.options).coarsest_stride
    height, width = (max(1, round(factor * side / stride)) * stride for side in recipe.input.input_hw)
    return height, width
