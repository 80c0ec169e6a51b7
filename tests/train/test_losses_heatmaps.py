"""Losses of heatmaps that weigh errors: by keypoint (OHKM), by cell (Adaptive Wing), by position (joint)."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from edgekp.codecs import Heatmap
from edgekp.sample import Float
from train.losses import adaptive_wing, joint, mean, mse, ohkm
from train.losses.adaptive_wing import THETA, per_cell


def tensors(*arrays: Float) -> tuple[torch.Tensor, ...]:
    return tuple(torch.from_numpy(np.ascontiguousarray(array)) for array in arrays)


def test_ohkm_is_the_mean_over_the_eight_worst_of_each_instance(rng: np.random.Generator) -> None:
    output, target = rng.normal(size=(2, 3, 17, 4, 5))
    errors = np.sort(((output - target) ** 2).sum((2, 3)), axis=1)[:, -8:]
    weight = torch.ones(3, 17, dtype=torch.float64)
    found = mean(ohkm(tensors(output), tensors(target), weight), weight.sum())
    assert float(found) == pytest.approx(errors.mean(), rel=1e-12)


def test_ohkm_mines_among_what_counts_and_by_what_it_counts() -> None:
    error = torch.arange(1.0, 11.0)  # of ten keypoints, as one cell each; the last is the worst
    weight = torch.ones(1, 10)
    weight[0, 9], weight[0, 0] = 0, 9  # the worst is not labelled, the least counts nine times
    output = error.sqrt().reshape(1, 10, 1, 1).requires_grad_()
    weighted = ohkm((output,), (torch.zeros(1, 10, 1, 1),), weight)
    mined = [0, 2, 3, 4, 5, 6, 7, 8]  # keypoint 1 has an error of 2, all others that count one of 3 or more
    assert weighted[0].nonzero().ravel().tolist() == mined
    expected = (9 * 1 + sum(range(3, 10))) / (9 + 7)  # the weighted mean over the mined
    assert float(mean(weighted.detach(), weight.sum())) == pytest.approx(expected, rel=1e-6)
    weighted.sum().backward()
    assert output.grad is not None
    assert output.grad.ravel().nonzero().ravel().tolist() == mined


@pytest.mark.parametrize("labelled", [0, 1, 7, 8])
def test_ohkm_of_at_most_eight_labelled_keypoints_is_mse(labelled: int, rng: np.random.Generator) -> None:
    output, target = tensors(*rng.normal(size=(2, 2, 17, 4, 5)))
    target[:, 0] = output[:, 0]  # one without an error is mined before one without a weight
    weight = torch.zeros(2, 17)
    weight[:, :labelled] = 1
    torch.testing.assert_close(ohkm((output,), (target,), weight), mse((output,), (target,), weight), rtol=1e-6, atol=0)


def paper_awing(y: float, found: float) -> float:
    """Equations 4 and 5 of Wang et al., ICCV 2019."""
    alpha, omega, epsilon, theta = 2.1, 14, 1, 0.5
    ratio = theta / epsilon
    a = omega * (1 / (1 + ratio ** (alpha - y))) * (alpha - y) * ratio ** (alpha - y - 1) * (1 / epsilon)
    c = theta * a - omega * np.log(1 + ratio ** (alpha - y))
    distance = abs(y - found)
    return float(omega * np.log(1 + (distance / epsilon) ** (alpha - y)) if distance < theta else a * distance - c)


def test_adaptive_wing_equals_the_formula_of_its_paper() -> None:
    for y in (0.0, 0.1, 0.5, 0.99, 1.0):
        for error in (-1.5, -0.5, -0.49, -0.01, 0.0, 0.001, 0.3, 0.5, 0.51, 2.0):
            found = per_cell(torch.tensor(y + error, dtype=torch.float64), torch.tensor(y, dtype=torch.float64))
            assert float(found) == pytest.approx(paper_awing(y, y + error), abs=1e-12)


@pytest.mark.parametrize("y", [0.0, 0.5, 1.0])
def test_adaptive_wing_and_its_slope_are_continuous_at_theta(y: float) -> None:
    step, (below, above) = 1e-9, (torch.tensor(y + THETA + side * 1e-9, dtype=torch.float64, requires_grad=True)
                                  for side in (-1, 1))
    losses = [per_cell(found, torch.tensor(y, dtype=torch.float64)) for found in (below, above)]
    for loss in losses:
        loss.backward()
    assert below.grad is not None
    assert above.grad is not None
    assert 0 < float((losses[1] - losses[0]).detach()) < 2 * step * 1.01 * float(above.grad)
    assert float(below.grad) == pytest.approx(float(above.grad), rel=1e-7)  # the curvature times 2 steps


def test_adaptive_wing_is_steep_at_a_keypoint_and_flat_in_the_background() -> None:
    """What the exponent is for: an error of 0.01 in a peak costs about 100 times that in an empty cell."""
    error = torch.tensor(0.01)
    at_peak, in_void = per_cell(1 - error, torch.tensor(1.0)), per_cell(error, torch.tensor(0.0))
    assert float(at_peak / in_void) == pytest.approx(100, rel=0.01)  # 0.01^1.1 to 0.01^2.1


def test_adaptive_wing_counts_cells_with_heat_and_their_neighbours_eleven_times() -> None:
    target = torch.zeros(1, 1, 7, 9)
    target[0, 0, 3, 4], target[0, 0, 3, 7] = 0.2, 0.19
    output = target + 0.3
    importance = torch.ones(7, 9)
    importance[2:5, 3:6] = 11
    expected = sum(float(importance[row, column]) * paper_awing(float(target[0, 0, row, column]),
                                                                float(output[0, 0, row, column]))
                   for row in range(7) for column in range(9)) / 63
    found = adaptive_wing((output,), (target,), torch.ones(1, 1))
    assert float(found) == pytest.approx(expected, rel=1e-5)


def test_adaptive_wing_stays_smooth_where_a_teacher_says_more_than_one() -> None:
    found = torch.tensor(1.6, requires_grad=True)
    per_cell(found, torch.tensor(1.6)).backward()
    assert found.grad is not None
    assert float(found.grad) == 0.0  # |0|^(2.1 - 1.6) would have an infinite one


def test_joint_equals_numpy(rng: np.random.Generator) -> None:
    maps, true_maps = rng.uniform(size=(2, 1, 1, 4, 5))
    expected = ((maps - true_maps) ** 2).sum()
    means = []
    for one in (maps, true_maps):
        share = np.exp(20 * one[0, 0])
        share /= share.sum()
        rows, columns = np.indices((4, 5))
        means.append(np.array([(share * columns).sum(), (share * rows).sum()]))
    expected += 0.1 * np.abs(means[0] - means[1]).sum()
    assert float(joint(tensors(maps), tensors(true_maps), torch.ones(1, 1))) == pytest.approx(expected, rel=1e-9)


def test_the_soft_argmax_of_joint_finds_a_gaussian_between_cells() -> None:
    """Two Gaussians a quarter of a cell apart: their soft-argmax is as far apart, so what is left is its L1."""
    codec = Heatmap((256, 192))
    cells = np.array([[[20.0, 30.0]], [[20.25, 30.0]]])
    maps = torch.from_numpy(codec.encode(codec.grid.to_pixels(cells), np.full((2, 1), 2)).arrays["heatmaps"])
    one, other = maps[:1], maps[1:]
    from_positions = joint((one,), (other,), torch.ones(1, 1)) - mse((one,), (other,), torch.ones(1, 1))
    assert float(from_positions) / 0.1 == pytest.approx(0.25, abs=0.05)  # 0.45 cells wide, so sampled with that error
