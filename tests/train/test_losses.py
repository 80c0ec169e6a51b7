"""Losses: equal to their formulas, silent where a keypoint has no weight, at peace with a teacher one agrees with."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from edgekp.codecs import CODECS, Codec, build_codec
from edgekp.contract import Contract
from edgekp.errors import RecipeError
from edgekp.preprocess import InputSpec
from edgekp.sample import Float
from edgekp.skeletons import Skeleton
from train.losses import (
    LOSSES,
    WING_EPSILON,
    WING_WIDTH,
    Tensors,
    heatmap_offset,
    integral,
    loss_named,
    mean,
    wing,
)

ONE = torch.ones(1, 1)
THREE = Skeleton("three", ("a", "b", "c"), (), (), (0.03, 0.08, 0.1))
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


def contract_of(codec: Codec) -> Contract:
    return Contract(InputSpec(INPUT_HW), codec, THREE)


def cost(name: str, outputs: Tensors, targets: Tensors, weight: Tensor, codec: Codec | None = None) -> Tensor:
    """The loss of a batch; the codec matters only to who asks the contract for more."""
    formula = loss_named(name, contract_of(codec)).of if codec else LOSSES[name].of
    return mean(formula(outputs, targets, weight), weight.sum())


def best_answer(name: str, targets: Tensors) -> Tensors:
    """The outputs that a loss asks for with these targets."""
    if name == "cross_entropy":
        return tuple(target.clamp_min(1e-9).log() for target in targets)
    if name == "focal":
        return tuple((target == target.amax((2, 3), keepdim=True)).float() for target in targets)
    return targets


def noisy(targets: Tensors, size: float = 0.3) -> Tensors:
    """What a network might say, with gradients."""
    return tuple((target + size * torch.randn_like(target)).requires_grad_() for target in targets)


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
    found = cost("mse", tensors(output), tensors(target), torch.from_numpy(weight))
    assert float(found) == pytest.approx(expected, rel=1e-12)


def test_l1_equals_numpy(rng: np.random.Generator) -> None:
    output, target = rng.normal(size=(2, 3, 4, 2))
    found = cost("l1", tensors(output), tensors(target), torch.ones(3, 4, dtype=torch.float64))
    assert float(found) == pytest.approx(np.abs(output - target).mean(), rel=1e-12)


def test_heatmap_offset_equals_numpy(rng: np.random.Generator) -> None:
    maps, true_maps = rng.uniform(size=(2, 2, 3, 4, 5))
    offsets, true_offsets = rng.normal(size=(2, 2, 6, 4, 5))
    squared = ((maps - true_maps) ** 2).sum((2, 3))
    distance = np.abs(offsets - true_offsets).reshape(2, 3, 2, 4, 5).sum(2)
    expected = (squared + 0.1 * (distance * true_maps).sum((2, 3))).mean()
    found = cost("heatmap_offset", tensors(maps, offsets), tensors(true_maps, true_offsets), torch.ones(2, 3))
    assert float(found) == pytest.approx(expected, rel=1e-9)


def test_udp_combined_equals_numpy(rng: np.random.Generator) -> None:
    output, target = rng.normal(size=(2, 2, 9, 4, 5))
    target[:, ::3] = rng.integers(0, 2, (2, 3, 4, 5))
    error = (output - target).reshape(2, 3, 3, 4, 5)
    error[:, :, 1:] *= target[:, ::3, None]
    found = cost("udp_combined", tensors(output), tensors(target), torch.ones(2, 3))
    assert float(found) == pytest.approx((error**2).sum((2, 3, 4)).mean(), rel=1e-9)


def test_offsets_where_the_target_has_no_heat_have_no_say(rng: np.random.Generator) -> None:
    codec = build_codec("offset", INPUT_HW, {"sigma": 1.0})
    maps, offsets = targets_of(codec, rng)
    astray = torch.where(maps.repeat_interleave(2, 1) > 0, offsets, 1e3)
    assert float(cost("heatmap_offset", (maps, astray), (maps, offsets), torch.ones(2, 3))) == 0


def test_a_teachers_map_below_zero_does_not_reward_wrong_offsets() -> None:
    maps, offsets = torch.full((1, 1, 4, 4), -0.1), torch.zeros(1, 2, 4, 4)
    assert float(heatmap_offset((maps, offsets + 1), (maps, offsets), ONE)) == 0


def test_kl_and_cross_entropy_equal_numpy_and_differ_by_the_entropy(rng: np.random.Generator) -> None:
    x, y, true_x, true_y = rng.normal(size=(4, 2, 3, 7))
    expected = np.zeros((2, 3))
    for output, target in ((x, true_x), (y, true_y)):
        p, q = softmax(10 * target), softmax(10 * output)
        expected += (p * np.log(p / q)).sum(-1)
    found = float(cost("kl", tensors(x, y), tensors(true_x, true_y), torch.ones(2, 3)))
    assert found == pytest.approx(expected.mean(), rel=1e-9)
    p_x, p_y = softmax(10 * true_x), softmax(10 * true_y)
    entropy = -(p_x * np.log(p_x)).sum(-1) - (p_y * np.log(p_y)).sum(-1)
    crossed = float(cost("cross_entropy", tensors(10 * x, 10 * y), tensors(p_x, p_y), torch.ones(2, 3)))
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
    perfect = best_answer(name, targets)
    best = float(cost(name, perfect, targets, weight, codec))
    assert best == pytest.approx(0, abs=1e-5) or name == "cross_entropy"  # which leaves the target's entropy
    for size in (1e-2, 1.0):
        other = tuple(output + size * torch.randn_like(output) for output in perfect)
        assert float(cost(name, other, targets, weight, codec)) > best


@each_case
def test_a_keypoint_of_weight_zero_has_no_gradient_and_no_say(
        name: str, codec: Codec, rng: np.random.Generator) -> None:
    targets = targets_of(codec, rng)
    outputs = noisy(targets, 0.03)  # near enough for oks to feel it
    weight = torch.tensor([[1.0, 0.0, 1.0], [0.0, 1.0, 1.0]])
    loss = cost(name, outputs, targets, weight, codec)
    loss.backward()
    for output in outputs:
        assert output.grad is not None
        moved = output.grad.reshape(2, 3, -1).abs().sum(-1) > 0
        assert torch.equal(moved, weight > 0)
    counts = weight[..., None] > 0  # a keypoint's channels lie side by side
    other_targets = tuple(torch.where(counts, target.reshape(2, 3, -1), 1e6).reshape_as(target) for target in targets)
    assert float(cost(name, outputs, other_targets, weight, codec).detach()) == float(loss.detach())


@each_case
def test_a_batch_without_a_labelled_keypoint_costs_nothing(name: str, codec: Codec, rng: np.random.Generator) -> None:
    targets = targets_of(codec, rng)
    outputs = noisy(targets)
    loss = cost(name, outputs, tuple(torch.zeros_like(target) for target in targets), torch.zeros(2, 3), codec)
    loss.backward()
    assert float(loss.detach()) == 0.0
    assert all(output.grad is not None and not output.grad.any() for output in outputs)


@pytest.mark.parametrize(("name", "codec"), [case for case in CASES if case[0] != "focal"], ids=str)
def test_who_says_what_the_teacher_says_has_nothing_to_learn(name: str, codec: Codec, rng: np.random.Generator) -> None:
    """A teacher's outputs, read as targets, have the teacher's outputs for their best answer; focal reads a cell."""
    outputs = noisy(targets_of(codec, rng))
    taught = LOSSES[name].taught(tuple(output.detach() for output in outputs))
    cost(name, outputs, taught, torch.ones(2, 3), codec).backward()
    for output in outputs:
        assert output.grad is not None
        np.testing.assert_allclose(output.grad.numpy(), 0, atol=2e-6)


@each_case
def test_the_parts_of_a_batch_cost_together_what_the_whole_costs(
        name: str, codec: Codec, rng: np.random.Generator) -> None:
    """With the weight of the whole, as parts of a step and processes divide by it: the loss and its gradients."""
    targets = tuple(target.double() for target in targets_of(codec, rng, n=4))
    weight = torch.tensor([[1.0, 0, 1.5], [0, 1, 1], [0, 0, 0], [2, 1, 1]], dtype=torch.float64)
    whole, parts = noisy(targets), []
    formula = loss_named(name, contract_of(codec)).of
    mean(formula(whole, targets, weight), weight.sum()).backward()
    for rows in (slice(0, 1), slice(1, 4)):
        part = tuple(output.detach()[rows].requires_grad_() for output in whole)
        mean(formula(part, tuple(target[rows] for target in targets), weight[rows]), weight.sum()).backward()
        parts.append(part)
    for output, first, second in zip(whole, *parts, strict=True):
        gradients = torch.cat([gradient for gradient in (first.grad, second.grad) if gradient is not None])
        torch.testing.assert_close(gradients, output.grad, rtol=1e-12, atol=1e-15)


@each_case
def test_gradients_are_those_of_the_loss(name: str, codec: Codec, rng: np.random.Generator) -> None:
    """Against differences: no seam that the random outputs could hit is as wide as the step of 1e-6."""
    torch.manual_seed(0)
    targets = tuple(target.double() for target in targets_of(codec, rng, n=1))
    away = tuple((0.8 * target + 0.1 * torch.rand_like(target) + 0.01).requires_grad_() for target in targets)
    formula = loss_named(name, contract_of(codec)).of
    weight = torch.tensor([[1.0, 0.0, 1.5]], dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda *outputs: formula(outputs, targets, weight), away, fast_mode=True)


@each_case
def test_outputs_of_half_precision_cost_about_as_much(name: str, codec: Codec, rng: np.random.Generator) -> None:
    """What autocast leaves of an output: 8 bits, of which noise of 0.3 of the peak hides the least."""
    targets, weight = targets_of(codec, rng), torch.ones(2, 3)
    outputs = tuple(target + 0.3 * target.abs().max() * torch.randn_like(target) for target in targets)
    rounded = tuple(output.bfloat16().float().requires_grad_() for output in outputs)
    found = cost(name, rounded, targets, weight, codec)
    found.backward()
    assert float(found.detach()) == pytest.approx(float(cost(name, outputs, targets, weight, codec)), rel=0.02)
    assert all(output.grad is not None and output.grad.isfinite().all() for output in rounded)


@pytest.mark.parametrize(("name", "options"), VARIANTS, ids=str)
def test_every_codec_has_a_loss(name: str, options: dict[str, Any]) -> None:
    assert any(loss.fits(build_codec(name, INPUT_HW, options)) for loss in LOSSES.values())


@pytest.mark.parametrize(("name", "codec", "options", "message"), [
    ("wings", "regression", {}, r"train\.loss: no loss 'wings'; did you mean 'wing'\?"),
    ("wing", "heatmap", {}, r"'wing' does not read the targets of codec 'heatmap' .* those that do: mse, ohkm, "),
    ("mse", "integral", {}, r"codec 'integral' with these options; those that do: integral$"),
    ("mse", "offset", {}, "those that do: heatmap_offset$"),
    ("mse", "udp_combined", {}, "those that do: udp_combined$"),
    ("kl", "regression", {}, "those that do: mse, wing, l1, smooth_l1, oks$"),
    ("mse", "simcc", {}, "those that do: kl$"),
    ("oks", "heatmap", {}, "'oks' does not read the targets of codec 'heatmap'"),
    ("focal", "megvii", {}, "those that do: mse, ohkm, l1$"),
    ("kl", "simcc", {"smoothing": "standard"}, "those that do: cross_entropy$"),
])
def test_a_loss_that_does_not_fit_is_refused_with_those_that_do(
        name: str, codec: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        loss_named(name, contract_of(build_codec(codec, INPUT_HW, options)))
