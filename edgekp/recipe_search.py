"""What a search for a model within a budget may try. Knows no network."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

from edgekp.errors import RecipeError
from edgekp.strict import require_above_zero


@dataclass(frozen=True)
class Search:
    """The space of ``python -m optimize.search`` and what its training may cost; an empty list follows the recipe.

    Attributes:
        widths: of the backbone, as its option ``width``; by default 0.5, 0.75, 1 and 1.25 times the recipe's.
        input_sizes: heights and widths, pixels; by default 0.75 and 1 times the recipe's.
        macs_reductions: shares of the multiply-accumulates that pruning takes away, 0 for a network that is not pruned;
            by default 0 and the share of the recipe's pruning.
        precisions: int8 comes from the float training by quantization, and costs no training of its own.
        epochs: how long a network has learnt after each round; by default an eighth, a quarter and a half of the
            recipe's.
        keep: share of the networks that goes on from each round to the next.
    """

    widths: tuple[float, ...] = ()
    input_sizes: tuple[tuple[int, int], ...] = ()
    macs_reductions: tuple[float, ...] = ()
    precisions: tuple[Literal["fp32", "int8"], ...] = ("fp32", "int8")
    epochs: tuple[int, ...] = ()
    keep: float = 0.5

    def __post_init__(self) -> None:
        require_above_zero("search", self, "keep")
        if self.keep > 1:
            raise RecipeError(f"search.keep: {self.keep}, expected a share above 0 and up to 1")
        if not self.precisions:
            raise RecipeError("search.precisions: [], expected fp32, int8 or both")
        if not all(0 <= share < 1 for share in self.macs_reductions):
            raise RecipeError(f"search.macs_reductions: {list(self.macs_reductions)}, expected shares from 0 up")
        if not all(width > 0 for width in self.widths):
            raise RecipeError(f"search.widths: {list(self.widths)}, expected numbers above 0")
        if not all(earlier < later for earlier, later in pairwise((0, *self.epochs))):
            raise RecipeError(f"search.epochs: {list(self.epochs)}, expected rising numbers above 0, one a round")
