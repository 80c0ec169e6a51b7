"""The processes that train one network together. This one is alone; it sums nothing and gathers its own.

A batch of the recipe is always the batch of the whole world: each process works on every ``size``-th instance of it.
"""

from __future__ import annotations

from typing import TypeVar

from torch import Tensor, nn

T = TypeVar("T")


class World:
    """A world of one process.

    Attributes:
        rank: number of this process, from 0.
        size: how many there are.
    """

    rank = 0
    size = 1

    @property
    def is_first(self) -> bool:
        """Whether this process writes files and speaks."""
        return self.rank == 0

    def share(self, rows: list[T]) -> list[T]:
        """The part of ``rows`` that this process works on; the parts of all processes are ``rows``, each row once."""
        return rows[self.rank::self.size]

    def sum(self, tensor: Tensor) -> Tensor:
        """The sum of every process's ``tensor``, the same in all of them; without gradients."""
        return tensor

    def gather(self, rows: list[T]) -> list[T]:
        """Every process's share as one list, in the order that ``share`` was given."""
        return rows

    def joined(self, net: nn.Module) -> nn.Module:
        """``net`` so that a backward pass leaves in each process the mean of all processes' gradients."""
        return net
