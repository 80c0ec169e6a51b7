"""The focal loss and the head that says probabilities for it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from edgekp.codecs import Heatmap, build_codec
from edgekp.errors import RecipeError
from edgekp.recipe import CodecChoice, Model, Recipe
from tests import tiny
from train.__main__ import main
from train.losses import LOSSES, check_loss, focal, loss_named, mean
from train.models import build, quantized, spec_of
from train.schedule import learning_rate

ONE = torch.ones(1, 1)
SIGMOID = replace(tiny.HRNET, head_options={"sigmoid": True})


def paper_focal(p: np.ndarray, y: np.ndarray) -> float:
    """Equation 1 of Law & Deng, ECCV 2018, of one object: alpha 2, beta 4."""
    cells = np.where(y == 1, (1 - p) ** 2 * np.log(p), (1 - y) ** 4 * p**2 * np.log(1 - p))
    return float(-cells.sum())


def test_focal_equals_the_formula_of_its_paper(rng: np.random.Generator) -> None:
    codec = build_codec("msra", (64, 48), {})  # rounds a keypoint to a cell, as the paper does
    target = codec.encode(np.array([[[21.0, 33.0], [30.0, 12.0]]]), np.full((1, 2), 2)).arrays["heatmaps"]
    p = rng.uniform(0.001, 0.999, target.shape)
    found = focal((torch.from_numpy(p),), (torch.from_numpy(target).double(),), torch.ones(1, 2))[0]
    for k in range(2):
        assert float(found[k]) == pytest.approx(paper_focal(p[0, k], target[0, k].astype(np.float64)), rel=1e-12)


def test_focal_asks_for_the_highest_cell_and_no_other() -> None:
    codec = Heatmap((64, 48))  # between cells: no target is 1
    target = torch.from_numpy(codec.encode(np.array([[[20.2, 33.1]]]), np.full((1, 1), 2)).arrays["heatmaps"])
    p = torch.full_like(target, 0.3).requires_grad_()
    focal((p,), (target,), ONE).sum().backward()
    assert p.grad is not None
    assert (p.grad < 0).flatten().nonzero().ravel().tolist() == [int(target.argmax())]
    assert float(p.grad.min()) == pytest.approx(  # y of the slope of (1 - p)^2 log p, and its own small (1 - y)^4
        float(target.max()) * (2 * 0.7 * np.log(0.3) - 0.7**2 / 0.3), rel=1e-3)


def test_focal_hardly_minds_a_map_that_spills_over_to_neighbours() -> None:
    """The reduction of the penalty: next to the keypoint, with y = 0.88, a false 0.5 costs 1/5000 of a far one."""
    target = torch.from_numpy(build_codec("msra", (64, 48), {}).encode(
        np.array([[[20.0, 32.0]]]), np.full((1, 1), 2)).arrays["heatmaps"])
    right = (target == 1).float()
    costs = []
    for column in (6, 0):
        spilled = right.clone()
        spilled[0, 0, 8, column] = 0.5
        costs.append(float(focal((spilled,), (target,), ONE) - focal((right,), (target,), ONE)))
    near = float(1 - target[0, 0, 8, 6]) ** 4
    far = float(1 - target[0, 0, 8, 0]) ** 4
    assert costs[0] / costs[1] == pytest.approx(near / far, rel=1e-3)
    assert near < 1 / 5000


def test_focal_of_saturated_wrong_maps_is_finite_and_still_learnt() -> None:
    target = torch.zeros(1, 1, 4, 4)
    target[0, 0, 1, 1] = 1
    logits = torch.full((1, 1, 4, 4), 12.0)
    logits[0, 0, 1, 1] = -12.0
    logits.requires_grad_()
    loss = focal((logits.sigmoid(),), (target,), ONE)
    loss.sum().backward()
    assert float(loss.detach()) == pytest.approx(16 * 12, rel=1e-3)  # -log(sigmoid(-12)) is 12, to 6e-6
    assert logits.grad is not None
    torch.testing.assert_close(logits.grad, torch.where(target == 1, -1.0, 1.0), rtol=0.02, atol=0)
    edge = focal((torch.where(target == 1, 0.0, 1.0),), (target,), ONE)
    assert float(edge) == pytest.approx(-16 * np.log(1e-6), rel=0.05)


def test_a_teacher_counts_as_much_as_it_is_sure() -> None:
    """What it says of a keypoint that is not there is no command to see one."""
    pulls = []
    for height in (0.02, 1.0):
        taught = torch.zeros(1, 1, 4, 4)
        taught[0, 0, 1, 1] = height
        student = torch.full((1, 1, 4, 4), 0.01).requires_grad_()
        focal((student,), (taught,), ONE).sum().backward()
        assert student.grad is not None
        pulls.append(float(student.grad[0, 0, 1, 1]))
    assert pulls[0] / pulls[1] == pytest.approx(0.02, rel=1e-3)
    blank = torch.zeros(1, 1, 4, 4)
    assert float(focal((blank,), (blank,), ONE)) == pytest.approx(0, abs=1e-15)


def test_a_head_with_sigmoid_says_one_percent_everywhere_at_first() -> None:
    recipe = tiny.recipe(model=SIGMOID)
    torch.manual_seed(0)
    maps, = build(spec_of(recipe))(torch.randn(2, 3, 64, 64))
    torch.testing.assert_close(maps, torch.full_like(maps, 0.01), rtol=0.1, atol=0)


def test_a_head_with_sigmoid_says_the_sigmoid_of_what_it_would_say_without() -> None:
    plain, squashed = build(spec_of(tiny.recipe())).eval(), build(spec_of(tiny.recipe(model=SIGMOID))).eval()
    tiny.enliven(plain)
    squashed.load_state_dict(plain.state_dict())
    image = torch.randn(1, 3, 64, 64)
    torch.testing.assert_close(squashed(image)[0], plain(image)[0].sigmoid(), rtol=0, atol=0)


def test_a_head_with_sigmoid_is_quantized_like_one_without() -> None:
    """The sigmoid follows the last layer, which stays in float, so that the int8 network says its sigmoid."""
    spec = quantized(spec_of(tiny.recipe()), ("head.output",))
    plain, squashed = build(spec), build(replace(spec, head_options={"sigmoid": True}))
    squashed.load_state_dict(plain.state_dict())
    image = torch.randn(1, 3, 64, 64)
    torch.testing.assert_close(squashed(image)[0], plain(image)[0].sigmoid(), rtol=0, atol=0)


def test_probabilities_near_one_survive_autocast() -> None:
    """In bf16 there is nothing between 0.996 and 1, and the focal loss of 1 in an empty cell has no slope."""
    net = build(spec_of(tiny.recipe(model=SIGMOID)))
    with torch.no_grad():
        net.get_submodule("head.output").bias.fill_(8.0)  # type: ignore[operator, union-attr]
    with torch.autocast("cpu", torch.bfloat16):
        maps, = net(torch.randn(1, 3, 64, 64))
    assert maps.dtype == torch.float32
    assert 0.999 < float(maps.detach().mean()) < 0.9998


def test_focal_is_refused_without_a_sigmoid_before_data_is_read(
        tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "recipe.toml"
    path.write_text(tiny.toml(loss="focal"))
    assert main(["--recipe", str(path)]) == 2
    assert ("train.loss: 'focal' reads probabilities, but head 'heatmap' has no sigmoid; write "
            "head_options = { sigmoid = true } below [model]") in capsys.readouterr().err


@pytest.mark.parametrize(("loss", "codec"), [("integral", "integral"), ("mse", "megvii")])
def test_a_sigmoid_is_refused_for_targets_that_it_cannot_reach(loss: str, codec: str) -> None:
    recipe = tiny.recipe(model=SIGMOID, codec=codec, loss=loss)
    with pytest.raises(RecipeError, match=f"head_options.sigmoid: true, but codec '{codec}' has targets outside 0..1"):
        check_loss(loss, recipe.contract(), spec_of(recipe))


def test_offsets_have_no_sigmoid() -> None:
    recipe = replace(tiny.recipe(model=SIGMOID), codec=CodecChoice("udp_combined", {"radius_factor": 0.15}))
    with pytest.raises(RecipeError, match="no option of head 'udp_combined' 'sigmoid'"):
        spec_of(recipe)


@pytest.mark.parametrize("loss", [name for name, loss in LOSSES.items() if loss.fits(Heatmap((64, 64)))])
def test_every_loss_of_heatmaps_takes_a_head_with_sigmoid(loss: str) -> None:
    recipe = tiny.recipe(model=SIGMOID, loss=loss)
    check_loss(loss, recipe.contract(), spec_of(recipe))


SIDE = 64
LIVELY = Model("hrnet_lite", options={"width": 16, "branches": 3, "blocks": 1, "modules": 1})
LIVELY_SIGMOID = replace(LIVELY, head_options={"sigmoid": True})
TO_A_CELL = 0.11  # 1.5 px, the mean distance in a cell of 4 x 4 px from its centre, of 14 px


def learnt_by_heart(recipe: Recipe, steps: int, rng: np.random.Generator) -> tuple[float, float, float]:
    """Last loss as a share of the first, error as a share of knowing only the mean pose, and mean score."""
    codec, loss = recipe.build_codec(), loss_named(recipe.train.loss, recipe.contract())
    inputs = torch.from_numpy(rng.normal(size=(8, 3, SIDE, SIDE)).astype(np.float32))
    keypoints_xy = rng.uniform(0.2 * SIDE, 0.8 * SIDE, (8, 17, 2))
    target = codec.encode(keypoints_xy, np.full((8, 17), 2))
    goal = tuple(torch.from_numpy(target.arrays[name]) for name in codec.outputs)
    torch.manual_seed(0)
    net = build(spec_of(recipe)).train()
    optimizer = torch.optim.Adam(net.parameters())
    losses = []
    for step in range(steps):
        optimizer.param_groups[0]["lr"] = learning_rate(step, steps, 1e-2, 10)
        outputs = net(inputs)
        cost = mean(loss.of(outputs, goal, torch.from_numpy(target.weight)), torch.tensor(float(target.weight.sum())))
        optimizer.zero_grad()
        cost.backward()
        optimizer.step()
        losses.append(float(cost.detach()))
    found_xy, scores = codec.decode({name: output.detach().numpy()
                                     for name, output in zip(codec.outputs, outputs, strict=True)})
    error_px = np.linalg.norm(found_xy - keypoints_xy, axis=-1).mean()
    mean_pose_px = np.linalg.norm(keypoints_xy.mean(0) - keypoints_xy, axis=-1).mean()
    return losses[-1] / losses[0], float(error_px / mean_pose_px), float(scores.mean())


@pytest.mark.slow
@pytest.mark.parametrize(("loss", "model", "steps"), [
    ("focal", LIVELY_SIGMOID, 160), ("mse", LIVELY_SIGMOID, 160), ("adaptive_wing", LIVELY_SIGMOID, 160),
    ("adaptive_wing", LIVELY, 80), ("joint", LIVELY, 80), ("ohkm", LIVELY, 80)])
def test_eight_samples_are_learnt_by_heart(loss: str, model: Model, steps: int, rng: np.random.Generator) -> None:
    left, error, score = learnt_by_heart(tiny.recipe(model=model, loss=loss), steps, rng)
    assert left < 0.1
    assert error < 0.15 + TO_A_CELL * (loss == "focal")
    assert 0.5 < score < 1.1
