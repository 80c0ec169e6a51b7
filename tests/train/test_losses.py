"""Losses: equal to their formulas, silent where a keypoint has no weight, at peace with a teacher one agrees with."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from edgekp.codecs import CODECS, Codec, build_codec
from edgekp.errors import RecipeError
from edgekp.sample import Float
from train.losses import (
    LOSSES,
    WING_EPSILON,
    WING_WIDTH,
    Tensors,
    cross_entropy,
    heatmap_offset,
    integral,
    kl,
    l1,
    loss_named,
    mse,
    udp_combined,
    wing,
)

ONE = torch.ones(1, 1)
INPUT_HW = (64, 48)
VARIANTS: list[tuple[str, dict[str, Any]]] = [
    *((name, {}) for name in CODECS), ("simcc", {"smoothing": "normalised_gaussian"}),
    ("simcc", {"smoothing": "standard"})]
CASES = [(loss, build_codec(codec, INPUT_HW, options)) for loss in LOSSES for codec, options in VARIANTS
         if LOSSES[loss].fits(build_codec(codec, INPUT_HW, options))]
each_case = pytest.mark.parametrize(("name", "codec"), CASES, ids=[f"{name}-{codec}" for name, codec in CASES])


def targets_of(codec: Codec, rng: np.random.Generator, n: int = 2, k: int = 3) -> Tensors:
    """Targets of keypoints well inside the input."""
    xy = rng.uniform((12, 12), (35, 51), (n, k, 2))
    target = codec.encode(xy, np.full((n, k), 2))
    return tuple(torch.from_numpy(target.arrays[name]) for name in codec.outputs)


def noisy(targets: Tensors) -> Tensors:
    """What a network might say, with gradients."""
    return tuple((target + 0.3 * torch.randn_like(target)).requires_grad_() for target in targets)


def wing_of(distance: float) -> float:
    """The loss of one keypoint that is off by that much in both coordinates."""
    return float(wing((torch.full((1, 1, 2), distance, dtype=torch.float64),), (torch.zeros(1, 1, 2),), ONE))


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
    found = mse((torch.from_numpy(output),), (torch.from_numpy(target),), torch.from_numpy(weight))
    assert float(found) == pytest.approx(expected, rel=1e-12)


def test_l1_equals_numpy(rng: np.random.Generator) -> None:
    output, target = rng.normal(size=(2, 3, 4, 2))
    found = l1((torch.from_numpy(output),), (torch.from_numpy(target),), torch.ones(3, 4, dtype=torch.float64))
    assert float(found) == pytest.approx(np.abs(output - target).mean(), rel=1e-12)


def test_heatmap_offset_equals_numpy(rng: np.random.Generator) -> None:
    maps, true_maps = rng.uniform(size=(2, 2, 3, 4, 5))
    offsets, true_offsets = rng.normal(size=(2, 2, 6, 4, 5))
    squared = ((maps - true_maps) ** 2).sum((2, 3))
    distance = np.abs(offsets - true_offsets).reshape(2, 3, 2, 4, 5).sum(2)
    expected = (squared + 0.1 * (distance * true_maps).sum((2, 3))).mean()
    found = heatmap_offset(tensors(maps, offsets), tensors(true_maps, true_offsets), torch.ones(2, 3))
    assert float(found) == pytest.approx(expected, rel=1e-9)


def test_udp_combined_equals_numpy(rng: np.random.Generator) -> None:
    output, target = rng.normal(size=(2, 2, 9, 4, 5))
    target[:, ::3] = rng.integers(0, 2, (2, 3, 4, 5))
    error = (output - target).reshape(2, 3, 3, 4, 5)
    error[:, :, 1:] *= target[:, ::3, None]
    found = udp_combined(tensors(output), tensors(target), torch.ones(2, 3))
    assert float(found) == pytest.approx((error**2).sum((2, 3, 4)).mean(), rel=1e-9)


def test_offsets_where_the_target_has_no_heat_have_no_say(rng: np.random.Generator) -> None:
    codec = build_codec("offset", INPUT_HW, {"sigma": 1.0})
    maps, offsets = targets_of(codec, rng)
    astray = torch.where(maps.repeat_interleave(2, 1) > 0, offsets, 1e3)
    assert float(heatmap_offset((maps, astray), (maps, offsets), torch.ones(2, 3))) == 0


def test_a_teachers_map_below_zero_does_not_reward_wrong_offsets() -> None:
    maps, offsets = torch.full((1, 1, 4, 4), -0.1), torch.zeros(1, 2, 4, 4)
    assert float(heatmap_offset((maps, offsets + 1), (maps, offsets), ONE)) == 0


def test_kl_and_cross_entropy_equal_numpy_and_differ_by_the_entropy(rng: np.random.Generator) -> None:
    x, y, true_x, true_y = rng.normal(size=(4, 2, 3, 7))
    expected = np.zeros((2, 3))
    for output, target in ((x, true_x), (y, true_y)):
        p, q = softmax(10 * target), softmax(10 * output)
        expected += (p * np.log(p / q)).sum(-1)
    found = float(kl(tensors(x, y), tensors(true_x, true_y), torch.ones(2, 3)))
    assert found == pytest.approx(expected.mean(), rel=1e-9)
    p_x, p_y = softmax(10 * true_x), softmax(10 * true_y)
    entropy = -(p_x * np.log(p_x)).sum(-1) - (p_y * np.log(p_y)).sum(-1)
    crossed = float(cross_entropy(tensors(10 * x, 10 * y), tensors(p_x, p_y), torch.ones(2, 3)))
    assert crossed == pytest.approx(found + entropy.mean(), rel=1e-9)


def test_integral_is_the_distance_of_the_means_plus_the_divergence(rng: np.random.Generator) -> None:
    logits, true_logits = rng.normal(size=(2, 1, 1, 4, 5))
    p, q = softmax(true_logits.ravel()), softmax(logits.ravel())
    rows, columns = (index.ravel() for index in np.indices((4, 5)))
    expected = abs(((p - q) * columns).sum()) + abs(((p - q) * rows).sum()) + (p * np.log(p / q)).sum()
    assert float(integral(tensors(logits), tensors(true_logits), ONE)) == pytest.approx(expected, rel=1e-9)


def tensors(*arrays: Float) -> Tensors:
    return tuple(torch.from_numpy(np.ascontiguousarray(array)) for array in arrays)


def softmax(logits: Float) -> Float:
    weights = np.exp(logits - logits.max(-1, keepdims=True))
    return np.asarray(weights / weights.sum(-1, keepdims=True))


@each_case
def test_a_perfect_output_costs_less_than_any_other(name: str, codec: Codec, rng: np.random.Generator) -> None:
    targets, weight = targets_of(codec, rng), torch.ones(2, 3)
    perfect = tuple(target.clamp_min(1e-9).log() for target in targets) if name == "cross_entropy" else targets
    best = float(LOSSES[name].of(perfect, targets, weight))
    assert best == pytest.approx(0, abs=1e-5) or name == "cross_entropy"  # which leaves the target's entropy
    for size in (1e-2, 1.0):
        other = tuple(output + size * torch.randn_like(output) for output in perfect)
        assert float(LOSSES[name].of(other, targets, weight)) > best


@each_case
def test_a_keypoint_of_weight_zero_has_no_gradient_and_no_say(
        name: str, codec: Codec, rng: np.random.Generator) -> None:
    targets = targets_of(codec, rng)
    outputs = noisy(targets)
    weight = torch.tensor([[1.0, 0.0, 1.0], [0.0, 1.0, 1.0]])
    loss = LOSSES[name].of(outputs, targets, weight)
    loss.backward()
    for output in outputs:
        assert output.grad is not None
        moved = output.grad.reshape(2, 3, -1).abs().sum(-1) > 0
        assert torch.equal(moved, weight > 0)
    counts = weight[..., None] > 0  # a keypoint's channels lie side by side
    other_targets = tuple(torch.where(counts, target.reshape(2, 3, -1), 1e6).reshape_as(target) for target in targets)
    assert float(LOSSES[name].of(outputs, other_targets, weight).detach()) == float(loss.detach())


@each_case
def test_a_batch_without_a_labelled_keypoint_costs_nothing(name: str, codec: Codec, rng: np.random.Generator) -> None:
    targets = targets_of(codec, rng)
    outputs = noisy(targets)
    loss = LOSSES[name].of(outputs, tuple(torch.zeros_like(target) for target in targets), torch.zeros(2, 3))
    loss.backward()
    assert float(loss.detach()) == 0.0
    assert all(output.grad is not None and not output.grad.any() for output in outputs)


@each_case
def test_who_says_what_the_teacher_says_has_nothing_to_learn(name: str, codec: Codec, rng: np.random.Generator) -> None:
    """A teacher's outputs, read as targets, have the teacher's outputs for their best answer."""
    outputs = noisy(targets_of(codec, rng))
    loss = LOSSES[name].of(outputs, LOSSES[name].taught(tuple(output.detach() for output in outputs)), torch.ones(2, 3))
    loss.backward()
    for output in outputs:
        assert output.grad is not None
        np.testing.assert_allclose(output.grad.numpy(), 0, atol=1e-6)


@pytest.mark.parametrize(("name", "options"), VARIANTS, ids=str)
def test_every_codec_has_a_loss(name: str, options: dict[str, Any]) -> None:
    assert any(loss.fits(build_codec(name, INPUT_HW, options)) for loss in LOSSES.values())


@pytest.mark.parametrize(("name", "codec", "options", "message"), [
    ("wings", "regression", {}, r"train\.loss: no loss 'wings'; did you mean 'wing'\?"),
    ("wing", "heatmap", {}, r"'wing' does not read the targets of codec 'heatmap' .* those that do: mse, l1$"),
    ("mse", "integral", {}, r"codec 'integral' with these options; those that do: integral$"),
    ("mse", "offset", {}, "those that do: heatmap_offset$"),
    ("mse", "udp_combined", {}, "those that do: udp_combined$"),
    ("kl", "regression", {}, "those that do: mse, wing, l1$"),
    ("mse", "simcc", {}, "those that do: kl$"),
    ("kl", "simcc", {"smoothing": "standard"}, "those that do: cross_entropy$"),
])
def test_a_loss_that_does_not_fit_is_refused_with_those_that_do(
        name: str, codec: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        loss_named(name, build_codec(codec, INPUT_HW, options))
