"""OpenPose's head: it learns whole scenes by heart, stage by stage, and goes all the way to a device."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from deploy.export.checkpoint_to_artifact import export_checkpoint
from deploy.export.target import target_named
from edgekp.errors import RecipeError
from edgekp.preprocess import frame_xywh, read_image
from edgekp.recipe import CodecChoice, Model, Recipe
from edgekp.recipe_steps import Distill, Prune, Quantize
from edgekp.sample import Scene
from optimize.distill import distill
from optimize.prune import prune
from optimize.quantize import quantize
from optimize.step import Context, Result
from tests import tiny, tiny_scenes
from tests.train.promises import dead_parameters, onnx_error
from train.dataset import Pool
from train.loop import fit
from train.models import build, spec_of
from train.models.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from train.task import Task

CPU = torch.device("cpu")
RECIPE = tiny_scenes.recipe()


def with_head(**options: int) -> Recipe:
    return replace(RECIPE, model=replace(RECIPE.model, head_options=RECIPE.model.head_options | options))


def with_stride(stride: int) -> Recipe:
    return replace(RECIPE, codec=CodecChoice("openpose", {"stride": stride, "sigma": 4.0}))


@pytest.mark.parametrize("stages", [0, 1, 2])
def test_each_stage_is_told_in_training_and_only_the_last_in_evaluation(stages: int) -> None:
    net = build(spec_of(with_head(stages=stages)))
    image = torch.randn(2, 3, 96, 128)
    shapes = [(2, 19, 24, 32), (2, 38, 24, 32)]
    assert [tuple(said.shape) for said in net.train()(image)] == shapes * (stages + 1)
    assert [tuple(said.shape) for said in net.eval()(image)] == shapes


def test_a_refinement_reads_the_maps_before_it() -> None:
    """Silence the first stage, and the last one says something else."""
    torch.manual_seed(0)
    net, _, _ = tiny.network(RECIPE)
    image = torch.randn(1, 3, 96, 128)
    with torch.no_grad():
        before = net(image)
        for layer in net.get_submodule("head.output.says.0").children():
            nn.init.zeros_(layer.weight)  # type: ignore[arg-type]
            nn.init.zeros_(layer.bias)  # type: ignore[arg-type]
        after = net(image)
    assert all(not torch.allclose(one, other, atol=1e-3) for one, other in zip(before, after, strict=True))


@pytest.mark.parametrize("stride", [4, 8, 16])
def test_a_finer_feature_is_halved_until_it_has_the_codecs_stride(stride: int) -> None:
    recipe = with_stride(stride)
    heatmaps, _ = build(spec_of(recipe)).eval()(torch.randn(1, 3, 96, 128))
    assert tuple(heatmaps.shape[2:]) == (96 // stride, 128 // stride)


@pytest.mark.parametrize("backbone", [
    Model("resnet", options={"width": 8, "output_stride": 8}, neck="fpn", neck_options={"channels": 16}),
    Model("mobilefacenet", neck="fpn", neck_options={"channels": 16})])
def test_any_backbone_serves_behind_a_neck(backbone: Model) -> None:
    recipe = replace(with_stride(8), model=replace(backbone, head_options={"channels": 16}))
    heatmaps, pafs = build(spec_of(recipe)).eval()(torch.randn(1, 3, 96, 128))
    assert (heatmaps.shape[1:], pafs.shape[1:]) == ((19, 12, 16), (38, 12, 16))


def test_every_parameter_learns() -> None:
    assert dead_parameters(build(spec_of(with_head(stages=2))), side=64) == []


@pytest.mark.parametrize("stages", [0, 2])
def test_onnx_says_what_torch_says(stages: int, tmp_path: Path) -> None:
    torch.manual_seed(0)
    assert onnx_error(with_head(stages=stages), tmp_path) < 1e-4


@pytest.mark.parametrize(("recipe", "message"), [
    (with_head(stages=6), r"model\.head_options: stages 6, expected 0 to 5"),
    (with_head(channels=12), r"channels 12, expected a multiple of 8"),
    (with_stride(2), r"codec\.options\.stride: 2, but the feature under the head has stride 4"),
    (replace(RECIPE, model=replace(RECIPE.model, head="heatmap", head_options={})),
     r"model\.head: 'heatmap' says \['heatmaps'\], the codec expects \['heatmaps', 'pafs'\]"),
    (replace(tiny.recipe(), model=replace(tiny.HRNET, head="openpose")),
     r"model\.head: 'openpose' says \['heatmaps', 'pafs'\], the codec expects \['heatmaps'\]"),
    (replace(RECIPE, model=Model("mobilefacenet")), r"'openpose' reads 1 feature maps, .*'mobilefacenet' gives 3")])
def test_parts_that_do_not_fit_are_refused(recipe: Recipe, message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        spec_of(recipe)


def pool_of(scenes: tuple[Scene, ...]) -> Pool:
    return Pool(tuple(person for scene in scenes for person in scene.people), 0, scenes)


@pytest.mark.slow
def test_four_scenes_are_learnt_by_heart_and_everybody_on_them_is_found(tmp_path: Path) -> None:
    scenes = tiny_scenes.scenes(tmp_path, [1, 2, 3, 2])
    recipe = tiny_scenes.recipe(batch=4, epochs=120, lr=1e-2, warmup_steps=10, validate_every=120)
    torch.manual_seed(0)
    task = Task("test", recipe.contract(), [pool_of(scenes)], [pool_of(scenes)], recipe.train, tiny.STILL)
    net, history = fit(build(spec_of(recipe)), task, CPU)
    assert history[-1]["loss"] < 0.2 * history[0]["loss"]
    assert history[-1]["val_recall@0.5"] == history[-1]["val_ap@0.5"] == 1.0
    contract = tiny_scenes.contract()
    for scene in scenes:
        image = read_image(scene.image.path)
        tensor, input_to_image = contract.prepare(image, frame_xywh(image))
        with torch.no_grad():
            outputs = dict(zip(contract.outputs, (said.numpy() for said in net(torch.from_numpy(tensor[None]))),
                               strict=True))
        (people,) = contract.interpret(outputs, input_to_image[None])
        assert len(people) == len(scene.people)
        for person in scene.people:
            distance = [np.median(np.linalg.norm(one.keypoints_xy - person.keypoints_xy, axis=-1)) for one in people]
            assert min(distance) < 2.5  # half a cell, 2.5 image pixels


def saved(result: Result, recipe: Recipe, folder: Path) -> Checkpoint:
    folder.mkdir()
    save_checkpoint(folder, result.net, result.spec, recipe.contract())
    return load_checkpoint(folder)


@pytest.mark.slow
def test_a_scene_network_is_pruned_taught_quantized_and_exported(tmp_path: Path) -> None:
    recipe = replace(tiny_scenes.recipe(batch=4, epochs=1), augment=tiny.STILL)
    torch.manual_seed(0)
    net, spec, _ = tiny.network(recipe)
    baseline = saved(Result(net, spec, {}, []), recipe, tmp_path / "train")
    context = Context(recipe, [pool_of(tiny_scenes.scenes(tmp_path, [2] * 64))], [], tmp_path / "train", CPU)
    pruned = prune(baseline, Prune("prune", macs_reduction=0.3, epochs=1), context)
    assert 0.2 < pruned.report["reduction_reached"] < 0.4
    small = saved(pruned, recipe, tmp_path / "pruned")
    taught = saved(distill(small, Distill("distill", epochs=1), context), recipe, tmp_path / "distilled")
    on_grid = quantize(taught, Quantize("quantize", images=128), context)
    assert all(layer.startswith("head.output.") for layer in on_grid.report["float_layers"])
    assert len(on_grid.report["float_layers"]) == 6  # both maps of two stages, and what the second reads of the first
    integer = saved(on_grid, recipe, tmp_path / "int8")
    for checkpoint, target in ((taught, "cpu"), (integer, "cpu"), (integer, "jetson")):
        folder = tmp_path / f"{checkpoint.artifact.model['precision']}-{target}"
        export_checkpoint(checkpoint, folder, target_named(target), opset=17)  # refuses what says something else
