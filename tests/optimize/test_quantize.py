"""INT8: enough images, spread over the data, scales that fit, and a network that still says the same."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from edgekp.errors import DataError, RecipeError
from edgekp.recipe_steps import Quantize
from edgekp.sample import Instance
from optimize.calibration_set import choose_instances
from optimize.ptq import set_weight_scales
from optimize.quantize import quantize
from optimize.step import Context
from tests import tiny
from train.dataset import KeypointDataset, Pool
from train.models import quantized
from train.models.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from train.models.quantized import fake_quantizers, insert_fake_quantizers, quant_convs

Parent = Callable[[tiny.Recipe], Checkpoint]
MakeContext = Callable[..., Context]
RECIPE = tiny.recipe()
FEW = Quantize("quantize", images=128)


@pytest.mark.parametrize("observer", ["minmax", "percentile", "entropy", "mse"])
@torch.no_grad()
def test_the_network_on_the_grid_says_nearly_what_the_float_network_says(
        people: tuple[Instance, ...], parent: Parent, context: MakeContext, observer: str, tmp_path: Path) -> None:
    checkpoint = parent(RECIPE)
    result = quantize(checkpoint, replace(FEW, observer=observer), context(RECIPE, 160))  # type: ignore[arg-type]
    dataset = KeypointDataset(people, RECIPE.contract(), None, 0)
    x = torch.stack([torch.from_numpy(dataset.sample(0, i)[0]) for i in range(8)])
    expected, found = checkpoint.net(x)[0], result.net(x)[0]
    off = float((found - expected).abs().mean() / expected.abs().mean())
    assert 1e-4 < off < 0.05  # 12 layers, each rounding by at most 1 / 254 of its largest value
    folder = tmp_path / "int8"
    folder.mkdir()
    save_checkpoint(folder, result.net, result.spec, checkpoint.contract)
    assert torch.equal(load_checkpoint(folder).net(x)[0], found)
    assert result.report["float_layers"] == ["head.output"]
    assert result.report["instances"] == 128
    assert all(threshold > 0 for threshold in result.report["thresholds"].values())


def test_fewer_than_128_images_are_refused(people: tuple[Instance, ...]) -> None:
    with pytest.raises(RecipeError, match=r"optimize\.quantize\.images: 127, expected at least 128"):
        choose_instances(people, 127)


def test_fewer_than_128_training_instances_are_refused(people: tuple[Instance, ...], parent: Parent,
                                                       context: MakeContext) -> None:
    with pytest.raises(DataError, match="127 training instances, calibration needs at least 128"):
        quantize(parent(RECIPE), FEW, context(RECIPE, 127))


def crowd(count: int, people: tuple[Instance, ...]) -> list[Instance]:
    """Instances sorted by size and visibility, as a careless file would list them."""
    return [replace(people[0], id=i, area_px2=float(i), visibility=np.where(np.arange(17) < i % 17, 2, 1))
            for i in range(count)]


def test_chosen_instances_are_the_same_each_time_and_none_twice(people: tuple[Instance, ...]) -> None:
    many = crowd(1000, people)
    first, again = (choose_instances(many, 200) for _ in range(2))
    assert [one.id for one in first] == [one.id for one in again]
    assert len({one.id for one in first}) == len(first) == 200


def test_all_are_chosen_when_there_are_not_more(people: tuple[Instance, ...]) -> None:
    assert {one.id for one in choose_instances(crowd(150, people), 256)} == set(range(150))


def test_chosen_instances_are_spread_over_size_and_visibility_and_are_not_the_first(
        people: tuple[Instance, ...]) -> None:
    many = crowd(1700, people)
    chosen = choose_instances(many, 170)
    visible = np.bincount([int((one.visibility == 2).sum()) for one in chosen], minlength=17)
    assert visible.min() >= 2  # 100 of each number among 1700: half of the chosen are ten of each, taken at random
    areas = np.array([one.area_px2 for one in chosen])
    assert np.histogram(areas, 5, (0, 1700))[0].min() > 10  # 17 in each fifth by chance alone
    assert areas.max() > 1600


@torch.no_grad()
def test_the_largest_weight_of_each_channel_becomes_127() -> None:
    net, spec, _ = tiny.network(RECIPE)
    grid = quantized(spec, ("head.output",)).quantization
    assert grid
    graph = insert_fake_quantizers(net, grid)
    first = next(iter(quant_convs(graph).values()))
    first.weight[3] = 0.0  # a dead filter
    set_weight_scales(graph)
    for conv in quant_convs(graph).values():
        levels = conv.weight / conv.weight_scale.reshape(-1, 1, 1, 1)
        peaks = levels.abs().amax((1, 2, 3))
        alive = conv.weight.abs().amax((1, 2, 3)) > 0
        torch.testing.assert_close(peaks[alive], torch.full_like(peaks[alive], 127.0))
    assert float(first.weight_scale[3]) > 0


def test_quantizing_twice_is_refused(parent: Parent, context: MakeContext) -> None:
    checkpoint = parent(RECIPE)
    on_grid = replace(checkpoint, spec=quantized(checkpoint.spec, ("head.output",)))
    with pytest.raises(RecipeError, match="'quantize' occurs twice"):
        quantize(on_grid, FEW, context(RECIPE, 160))


def test_an_unknown_layer_to_keep_is_refused(parent: Parent, context: MakeContext) -> None:
    with pytest.raises(RecipeError, match=r"keep_float: no layer 'head\.last'"):
        quantize(parent(RECIPE), replace(FEW, keep_float=("head.last",)), context(RECIPE, 160))


def test_a_validation_image_among_those_to_calibrate_with_is_refused(
        people: tuple[Instance, ...], parent: Parent, context: MakeContext) -> None:
    leaking = replace(context(RECIPE, 160), val=[Pool(people[-1:])])
    with pytest.raises(DataError, match=r"\.png: chosen for calibration, and also in a validation set"):
        quantize(parent(RECIPE), replace(FEW, images=160), leaking)


def test_nothing_left_for_int8_is_refused(parent: Parent, context: MakeContext) -> None:
    with pytest.raises(RecipeError, match=r"keep_float: covers every convolution"):
        quantize(parent(RECIPE), replace(FEW, keep_float=("backbone", "head")), context(RECIPE, 160))


def test_an_unknown_layer_for_16_bits_is_refused(parent: Parent, context: MakeContext) -> None:
    with pytest.raises(RecipeError, match=r"int16: no layer 'backbone\.stems'; known: .*backbone\.stem\.0\.0"):
        quantize(parent(RECIPE), replace(FEW, int16=("backbone.stems",)), context(RECIPE, 160))


@torch.no_grad()
def test_weights_that_are_no_numbers_are_refused_by_name(parent: Parent, context: MakeContext) -> None:
    checkpoint = parent(RECIPE)
    checkpoint.net.get_submodule("backbone.stem.1.0").weight[0] = float("nan")  # type: ignore[index]
    with pytest.raises(DataError, match=r"layer 'backbone\.stem\.1\.0' has weights that are NaN"):
        quantize(checkpoint, FEW, context(RECIPE, 160))


@torch.no_grad()
def test_results_that_are_no_numbers_are_refused_by_name(parent: Parent, context: MakeContext) -> None:
    checkpoint = parent(RECIPE)
    for layer in ("backbone.stem.0.0", "backbone.stem.1.0"):
        checkpoint.net.get_submodule(layer).weight.mul_(1e30)  # type: ignore[operator, union-attr]
    with pytest.raises(DataError, match=r"layer 'backbone\.stem\.1\.0' gives NaN or infinity"):
        quantize(checkpoint, FEW, context(RECIPE, 160))


@torch.no_grad()
def test_a_dead_layer_is_reported_and_harms_nothing(parent: Parent, context: MakeContext,
                                                    capfd: pytest.CaptureFixture[str]) -> None:
    checkpoint, name = parent(RECIPE), "backbone.stages.0.0.branches.0.0.body.0"
    layer = checkpoint.net.get_submodule(name)
    layer[1].weight.zero_()  # type: ignore[index, union-attr, operator]
    layer[1].bias.fill_(-1.0)  # type: ignore[index, union-attr, operator]
    result = quantize(checkpoint, FEW, context(RECIPE, 160))
    assert result.report["dead_layers"] == [f"{name}.0"]
    assert f"zero on every calibration image: {name}.0" in capfd.readouterr().err
    x = torch.randn(2, 3, 64, 64)
    expected = checkpoint.net(x)[0]
    assert float((result.net(x)[0] - expected).abs().mean() / expected.abs().mean()) < 0.05


@torch.no_grad()
def test_the_scale_of_a_channel_leaves_room_for_its_bias(parent: Parent, context: MakeContext) -> None:
    """A channel that is all but switched off: its bias must fit into int32 at the scale of input times weights."""
    checkpoint, name = parent(RECIPE), "backbone.stages.0.0.branches.0.0.body.0"
    checkpoint.net.get_submodule(name)[1].weight[2] = 1e-12  # type: ignore[index, union-attr]
    net = quantize(checkpoint, FEW, context(RECIPE, 160)).net
    conv = quant_convs(net)[f"{name}.0"]
    before = next(quantizer for quantizer in fake_quantizers(net).values() if quantizer.layer == "backbone.stem.1.0")
    assert conv.bias is not None
    assert float((conv.bias.abs() / (before.scale * conv.weight_scale)).max()) < 2**31


@torch.no_grad()
@pytest.mark.parametrize("changes", [{"int16": ("backbone", "add", "add_1", "add_2", "image")}, {"equalize": True},
                                     {"correct_bias": True}, {"rounding": "adaptive"}], ids=lambda one: next(iter(one)))
def test_every_setting_changes_the_network_and_none_spoils_it(
        changes: dict[str, object], people: tuple[Instance, ...], parent: Parent, context: MakeContext,
        tmp_path: Path) -> None:
    checkpoint = parent(RECIPE)
    dataset = KeypointDataset(people, RECIPE.contract(), None, 0)
    x = torch.stack([torch.from_numpy(dataset.sample(0, i)[0]) for i in range(8)])
    expected = checkpoint.net(x)[0]

    def error(settings: Quantize) -> float:
        result = quantize(checkpoint, settings, context(RECIPE, 160))
        folder = tmp_path / f"{len(list(tmp_path.iterdir()))}"
        folder.mkdir()
        save_checkpoint(folder, result.net, result.spec, checkpoint.contract)
        return float((load_checkpoint(folder).net(x)[0] - expected).square().mean())

    plain, changed = error(FEW), error(replace(FEW, **changes))  # type: ignore[arg-type]
    assert changed != plain
    assert changed < (0.7 if "int16" in changes else 1.5) * plain  # without activations, weights alone are rounded


def test_calibration_does_not_depend_on_what_was_drawn_before(parent: Parent, context: MakeContext) -> None:
    checkpoint = parent(RECIPE)
    first = quantize(checkpoint, FEW, context(RECIPE, 160)).report
    torch.randn(100)
    assert quantize(checkpoint, FEW, context(RECIPE, 160)).report == first
