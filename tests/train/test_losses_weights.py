"""What each keypoint counts, as the recipe says it: read, refused where it does not fit, and felt by the loss."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from edgekp.errors import RecipeError
from edgekp.recipe_file import load_recipe
from tests import tiny
from train.dataset import KeypointDataset, Pool
from train.loop import fit
from train.models import build, spec_of
from train.task import Task

WRISTS_AND_ANKLES = (1.0,) * 7 + (1.2, 1.2, 1.5, 1.5) + (1.0, 1.0, 1.2, 1.2, 1.5, 1.5)  # HRNet's for COCO


def recipe_file(folder: Path, **train: object) -> Path:
    path = folder / "recipe.toml"
    path.write_text(tiny.toml(**train))
    return path


def test_keypoint_weights_are_read_as_numbers(tmp_path: Path) -> None:
    path = recipe_file(tmp_path, keypoint_weights=[*WRISTS_AND_ANKLES[:-1], 2])
    assert load_recipe(path).train.keypoint_weights == (*WRISTS_AND_ANKLES[:-1], 2.0)
    assert load_recipe(recipe_file(tmp_path)).train.keypoint_weights == ()


@pytest.mark.parametrize(("weights", "message"), [
    ([1.0] * 16, "16 numbers, but skeleton 'coco17' has 17 keypoints; give one for each, in this order: nose, "),
    ([1.0] * 16 + [-0.5], "expected numbers from 0, not all 0"),
    ([0.0] * 17, "expected numbers from 0, not all 0"),
    (1.5, "expected a list"),
    (["1"] * 17, r"\[0\]: '1', expected float"),
])
def test_keypoint_weights_that_do_not_fit_are_refused(tmp_path: Path, weights: object, message: str) -> None:
    with pytest.raises(RecipeError, match=rf"train\.keypoint_weights.*{message}"):
        load_recipe(recipe_file(tmp_path, keypoint_weights=weights))


def test_infinite_keypoint_weights_are_refused(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="expected numbers from 0"):
        load_recipe(recipe_file(tmp_path), ["train.keypoint_weights=[inf" + ", 1.0" * 16 + "]"])


@pytest.mark.parametrize("codec", ["heatmap", "regression", "simcc"])
def test_keypoint_weights_multiply_those_of_the_labels(codec: str, tmp_path: Path) -> None:
    people = tiny.instances(tmp_path, 4)
    people[1].visibility[9:] = 0
    contract = tiny.recipe(codec=codec, model=tiny.FACENET if codec == "regression" else tiny.HRNET).contract()
    plain, weighted = (KeypointDataset(people, contract, None, 0, weights) for weights in ((), WRISTS_AND_ANKLES))
    crops = plain.collate([plain[0, index, 0] for index in range(4)])
    before, after = plain.batch(crops), weighted.batch(crops)
    assert after.weight.dtype == torch.float32
    np.testing.assert_allclose(after.weight, before.weight * torch.tensor(WRISTS_AND_ANKLES), rtol=0, atol=0)
    assert before.weight[1].tolist() == [1.0] * 9 + [0.0] * 8
    for target, same in zip(before.targets, after.targets, strict=True):
        assert torch.equal(target, same)


def test_a_keypoint_whose_weight_is_zero_is_not_learnt(tmp_path: Path) -> None:
    """The biases start at 0, where weight decay leaves them, so that only what is learnt moves."""
    recipe = tiny.recipe(epochs=1, keypoint_weights=(1.0, 0.5) + (0.0,) * 15)
    task = Task("test", recipe.contract(), [Pool(tiny.instances(tmp_path, 8))], [], recipe.train, tiny.STILL)
    net, _ = fit(build(spec_of(recipe)), task, torch.device("cpu"))
    moved = net.get_parameter("head.output.bias") != 0
    assert moved.tolist() == [True] * 2 + [False] * 15
