"""Losses: equal to their formulas, continuous, silent where a keypoint has no weight."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from edgekp.errors import RecipeError
from train.losses import LOSSES, WING_EPSILON, WING_WIDTH, l1, loss_named, mse, wing

ONE = torch.ones(1, 1)


def wing_of(distance: float) -> float:
    """The loss of one keypoint that is off by that much in both coordinates."""
    return float(wing(torch.full((1, 1, 2), distance, dtype=torch.float64), torch.zeros(1, 1, 2), ONE))


def paper_wing(distance: float, w: float, epsilon: float) -> float:
    """Equation 5 of Feng et al., CVPR 2018."""
    constant = w - w * np.log(1 + w / epsilon)
    return float(w * np.log(1 + distance / epsilon) if distance < w else distance - constant)


def test_wing_equals_the_formula_of_its_paper() -> None:
    for pixels in (0.0, 0.01, 0.5, 2.0, 9.99, 10.0, 10.01, 40.0):
        expected = paper_wing(pixels, w=10.0, epsilon=2.0) / 112  # the paper's pixels of a 112 pixel face
        assert wing_of(pixels / 112) == pytest.approx(expected, abs=1e-9)


def test_trap_wing_without_its_constant_jumps_where_log_meets_line() -> None:
    step = 1e-9
    below, above = wing_of(WING_WIDTH - step), wing_of(WING_WIDTH + step)
    assert 0 < above - below < 3 * step  # the steeper side has slope 1, log's is 10 / 12
    assert wing_of(0.0) == 0.0


def test_wing_punishes_small_errors_more_than_l1_does() -> None:
    small = WING_EPSILON / 10
    assert wing_of(small) == pytest.approx(WING_WIDTH / WING_EPSILON * small, rel=0.06)  # slope w / epsilon = 5


def test_mse_equals_numpy(rng: np.random.Generator) -> None:
    output, target = rng.normal(size=(2, 3, 4, 5, 5))
    weight = np.array([[1, 1, 0, 1], [0, 1, 1, 1], [1, 1, 1, 0]], dtype=np.float64)
    by_keypoint = ((output - target) ** 2).sum((2, 3))
    expected = (by_keypoint * weight).sum() / 9
    found = mse(*(torch.from_numpy(array) for array in (output, target, weight)))
    assert float(found) == pytest.approx(expected, rel=1e-12)


def test_l1_equals_numpy(rng: np.random.Generator) -> None:
    output, target = rng.normal(size=(2, 3, 4, 2))
    found = l1(torch.from_numpy(output), torch.from_numpy(target), torch.ones(3, 4, dtype=torch.float64))
    assert float(found) == pytest.approx(np.abs(output - target).mean(), rel=1e-12)


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("shape", [(2, 3, 2), (2, 3, 4, 4)])
def test_a_keypoint_of_weight_zero_has_no_gradient_and_no_say(name: str, shape: tuple[int, ...]) -> None:
    output = torch.randn(shape, requires_grad=True)
    weight = torch.tensor([[1.0, 0.0, 1.0], [0.0, 1.0, 1.0]])
    target = torch.randn(shape)
    loss = LOSSES[name](output, target, weight)
    loss.backward()
    assert output.grad is not None
    moved = output.grad.flatten(2).abs().sum(-1) > 0
    assert torch.equal(moved, weight > 0)
    counts = (weight > 0).reshape(2, 3, *[1] * (len(shape) - 2))
    quiet_target = torch.where(counts, target, torch.full_like(target, 1e6))
    assert float(LOSSES[name](output.detach(), quiet_target, weight)) == float(loss.detach())


@pytest.mark.parametrize("name", LOSSES)
def test_a_batch_without_a_labelled_keypoint_costs_nothing(name: str) -> None:
    output = torch.randn(2, 3, 2, requires_grad=True)
    loss = LOSSES[name](output, torch.zeros(2, 3, 2), torch.zeros(2, 3))
    loss.backward()
    assert float(loss.detach()) == 0.0
    assert output.grad is not None
    assert not output.grad.any()


def test_an_unknown_loss_is_refused_with_the_nearest() -> None:
    with pytest.raises(RecipeError, match=r"train\.loss: no loss 'wings'; did you mean 'wing'\?"):
        loss_named("wings")
