"""The processes that train one network together; ``World`` is a process that is alone, and all that is asked of others.

A batch of the recipe is always the batch of the whole world: each process works on every ``size``-th instance of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import TypeVar

from torch import Tensor, nn

T = TypeVar("T")


class World:
    """A world of one process.

    Where there are several, all of them call ``sum``, ``any``, ``gather`` and ``told`` in the same order: each waits
    there for the others.

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

    def any(self, flag: bool) -> bool:
        """Whether ``flag`` is True in some process, the same in all of them."""
        return flag

    def gather(self, rows: list[T]) -> list[T]:
        """Every process's share as one list, in the order that ``share`` was given."""
        return rows

    def told(self, value: T) -> T:
        """The first process's ``value``; the others wait for it, so that it also says how far the first has come."""
        return value

    def with_common_statistics(self, net: nn.Module) -> nn.Module:
        """``net``, with the same weights and buffers, so that its batch norm sees the batch of the whole world."""
        return net

    def joined(self, net: nn.Module) -> nn.Module:
        """``net``, with common statistics, so that a backward pass leaves in each process the mean of all gradients."""
        return net

    def unsynced(self, joined: nn.Module) -> AbstractContextManager[None]:
        """Within it, gradients add up in each process alone; the first backward pass after it takes the mean of all."""
        return nullcontext()


def interleaved(shares: Sequence[list[T]]) -> list[T]:
    """The rows that ``World.share`` dealt out to as many processes."""
    rows: list[T] = [row for share in shares for row in share]
    for rank, share in enumerate(shares):
        rows[rank::len(shares)] = share
    return rows
