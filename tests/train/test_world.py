"""The algebra of a world of processes: what is dealt out comes back whole, in order, each row once."""

from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from train.distributed import DistributedWorld
from train.world import World, interleaved

ROWS = st.lists(st.integers(), max_size=40)
SIZES = st.integers(1, 9)  # more processes than rows, too


def shares(rows: list[int], size: int) -> list[list[int]]:
    return [DistributedWorld(rank, size, torch.device("cpu")).share(rows) for rank in range(size)]


@given(ROWS, SIZES)
def test_gathering_is_the_inverse_of_sharing(rows: list[int], size: int) -> None:
    assert interleaved(shares(rows, size)) == rows


@given(ROWS, SIZES)
def test_no_process_gets_two_rows_more_than_another(rows: list[int], size: int) -> None:
    lengths = [len(share) for share in shares(rows, size)]
    assert max(lengths) - min(lengths) <= 1


@given(st.integers(1, 4), st.integers(1, 4), st.integers(1, 4))
def test_a_part_of_the_batch_is_the_same_rows_for_any_number_of_processes(each: int, parts: int, size: int) -> None:
    """So that the batch norm of a part, in gradient accumulation, does not depend on the number of processes."""
    rows = list(range(each * parts * size))
    in_parts = [[share[part * each:(part + 1) * each] for share in shares(rows, size)] for part in range(parts)]
    assert [sorted(interleaved(part)) for part in in_parts] == [
        rows[part * each * size:(part + 1) * each * size] for part in range(parts)]


def test_a_world_of_one_process_changes_nothing() -> None:
    world, net, rows, tensor = World(), nn.Linear(1, 1), [3, 1, 2], torch.ones(2)
    assert world.is_first
    assert world.share(rows) == world.gather(rows) == rows
    assert world.sum(tensor) is tensor
    assert world.told("yes") == "yes"
    assert [world.any(flag) for flag in (True, False)] == [True, False]
    assert world.joined(net) is world.with_common_statistics(net) is net
    with world.unsynced(net) as nothing:
        assert nothing is None
