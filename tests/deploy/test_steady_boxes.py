"""Boxes stand still while somebody hardly moves, follow who walks away, and forget small differences."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from deploy.runtime.people.person_box import overlap
from deploy.runtime.people.steady_boxes import STEP, SteadyBoxes, on_grid

BOX = np.array([[100.0, 50, 80, 160]])
boxes = st.tuples(st.floats(-500, 2000), st.floats(-500, 2000), st.floats(4, 1500), st.floats(4, 1500))


def test_a_trembling_box_does_not_move() -> None:
    rng, steady = np.random.default_rng(0), SteadyBoxes()
    first = steady.steady(BOX)
    for _ in range(100):
        np.testing.assert_array_equal(steady.steady(BOX + rng.normal(0, 2, (1, 4))), first)


def test_a_box_that_walks_away_is_followed() -> None:
    steady = SteadyBoxes()
    for step in range(200):
        wanted = BOX + [5.0 * step, 0, 0.5 * step, step]
        assert overlap(wanted, steady.steady(wanted))[0, 0] > 0.7


def test_two_people_have_their_own_boxes_in_their_order() -> None:
    steady, both = SteadyBoxes(), np.concatenate([BOX, BOX + [300, 0, 0, 0]])
    first = steady.steady(both)
    np.testing.assert_array_equal(steady.steady(both[::-1] + 1.0), first[::-1])


def test_nobody_is_no_box_and_forgets() -> None:
    steady = SteadyBoxes()
    steady.steady(BOX)
    assert steady.steady(np.empty((0, 4))).shape == (0, 4)
    np.testing.assert_array_equal(steady.steady(BOX + 3.0), on_grid(BOX + 3.0))


@given(boxes)
def test_a_box_on_the_grid_is_near_the_one_that_is_wanted(box: tuple[float, float, float, float]) -> None:
    wanted = np.array([box])
    found = on_grid(wanted)
    assert np.all(np.abs(np.log2(found[:, 2:] / wanted[:, 2:])) <= STEP / 2 + 1e-9)
    centers = [both[:, :2] + (both[:, 2:] - 1) / 2 for both in (found, wanted)]
    assert np.all(np.abs(centers[0] - centers[1]) <= found[:, 2:] * STEP / 2 + 1e-9)
    # Half a step of 1/8 octave in either size and of 1/8 of either side in place leave this much overlap.
    assert overlap(found, wanted)[0, 0] > 0.7


@given(boxes)
def test_what_is_on_the_grid_stays_there(box: tuple[float, float, float, float]) -> None:
    once = on_grid(np.array([box]))
    np.testing.assert_allclose(on_grid(once), once, atol=1e-6)
