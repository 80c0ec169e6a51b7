"""Visibility: one more output beside any head, learnt from v = 2 against v = 1, and told as a probability."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from deploy.export.checkpoint_to_artifact import export_checkpoint
from deploy.export.target import target_named
from deploy.runtime.session import open_session
from edgekp.artifact import open_artifact, verify_artifact
from edgekp.codecs import build_codec
from edgekp.contract import Contract, contract_from_json, make_contract
from edgekp.errors import ArtifactError, DataError, RecipeError
from edgekp.golden import check_golden, make_golden
from edgekp.preprocess import InputSpec
from edgekp.recipe import Model
from edgekp.sample import Instance, Int
from edgekp.skeletons import COCO17
from optimize.channel_groups import Dependencies
from tests import tiny
from tests.manifests import rewrite_manifest
from tests.train.promises import dead_parameters, onnx_error
from train.__main__ import main
from train.dataset import Crops, KeypointDataset, Pool
from train.loop import fit
from train.models import build, quantized, spec_of
from train.models.checkpoint import load_checkpoint, save_checkpoint
from train.objective import Objective, Part
from train.precision import precision_for
from train.task import Task, Teacher
from train.validate import validate
from train.visibility import balanced_accuracy, require_both_kinds, visibility_loss
from train.world import World

CPU = torch.device("cpu")
SILENT = Contract(InputSpec((64, 64)), build_codec("heatmap", (64, 64), {}), COCO17)
SAYING = replace(SILENT, visibility=True)
HEADS = {"heatmap": ("hrnet_lite", "heatmap"), "cpm": ("hrnet_lite", "heatmap"), "simcc": ("hrnet_lite", "simcc"),
         "rtmcc": ("hrnet_lite", "simcc"), "integral": ("mobilefacenet", "regression")}


def asked_for(head: str = "heatmap", visibility: bool = True) -> tiny.Recipe:
    backbone, codec = HEADS[head]
    options = tiny.HRNET.options if backbone == "hrnet_lite" else {}
    return tiny.recipe((64, 64), Model(backbone, head, options, visibility=visibility), codec)


def task_of(recipe: tiny.Recipe, teacher: Teacher | None = None) -> Task:
    return Task("test", recipe.contract(), [], [], recipe.train, tiny.STILL, teacher)


# ---- the contract

def test_the_last_output_of_a_contract_is_visibility_and_manifests_without_it_have_none() -> None:
    assert SAYING.outputs == ("heatmaps", "visibility")
    assert SILENT.outputs == ("heatmaps",)
    assert "visibility" not in SILENT.to_json()
    for contract in (SILENT, SAYING):
        assert contract_from_json(json.loads(json.dumps(contract.to_json()))) == contract
    assert SAYING.differences(SILENT) == ["visibility: True here, None there"]


def test_the_recipe_decides() -> None:
    for visibility in (False, True):
        recipe = asked_for(visibility=visibility)
        assert (recipe.contract().outputs[-1] == "visibility") == visibility
        assert spec_of(recipe).visibility == visibility


def test_golden_vectors_catch_a_contract_that_gains_or_loses_visibility() -> None:
    assert check_golden(SAYING, make_golden(SAYING)) == []
    assert check_golden(SAYING, make_golden(SILENT)) == ["golden vectors lack 'output_visibility'"]
    assert "'output_visibility', which the model does not say" in check_golden(SILENT, make_golden(SAYING))[0]
    vectors = make_golden(SAYING)
    vectors["visible"] = 1 - vectors["visible"]
    assert "golden 'visible'" in check_golden(SAYING, vectors)[0]


def test_a_network_of_whole_scenes_says_no_visibility() -> None:
    with pytest.raises(RecipeError, match=r"model\.visibility: codec 'openpose' finds people in whole images"):
        make_contract(InputSpec((64, 64), padding=1.0), "openpose", {}, COCO17, visibility=True)


def test_a_prediction_holds_the_logistic_function_of_the_logits(rng: np.random.Generator) -> None:
    logits = rng.normal(0, 3, (2, 17))
    logits[0, :3] = (-1e4, 0.0, 1e4)
    maps = np.zeros((2, 17, 16, 16), np.float32)
    affines = np.tile(np.array([[1.0, 0, 0], [0, 1, 0]]), (2, 1, 1))
    found = SAYING.interpret({"heatmaps": maps, "visibility": logits}, affines)
    with np.errstate(over="ignore"):
        np.testing.assert_allclose([one.visible for one in found], 1 / (1 + np.exp(-logits)), atol=1e-12)
    assert [one.visible for one in SILENT.interpret({"heatmaps": maps}, affines)] == [None, None]


# ---- the network

@pytest.mark.parametrize("head", HEADS)
def test_it_is_one_tensor_at_the_end_in_both_modes(head: str) -> None:
    net = build(spec_of(asked_for(head)))
    plain = build(spec_of(asked_for(head, visibility=False)))
    for training in (True, False):
        said = net.train(training)(torch.randn(3, 3, 64, 64))
        assert len(said) == len(plain.train(training)(torch.randn(3, 3, 64, 64))) + 1
        assert said[-1].shape == (3, 17)
    assert set(plain.state_dict()) == {name for name in net.state_dict() if not name.startswith("visibility.")}


@pytest.mark.parametrize("head", HEADS)
def test_every_parameter_gets_a_gradient(head: str) -> None:
    net = build(spec_of(asked_for(head)))
    nn.init.normal_(net.get_submodule("visibility.output").weight, std=0.3)  # type: ignore[arg-type]
    assert dead_parameters(net, side=64) == []


@pytest.mark.parametrize("head", HEADS)
def test_the_onnx_file_says_what_the_network_says(tmp_path: Path, head: str) -> None:
    assert onnx_error(asked_for(head), tmp_path) < 1e-4


def test_pruning_and_int8_leave_its_last_layer_alone() -> None:
    net, spec, _ = tiny.network(asked_for())
    dependencies = Dependencies(net, (64, 64))
    groups = {name: group.channels for name, group in dependencies.groups().items()}
    pruned = dependencies.narrow({name: torch.rand(count) for name, count in groups.items()},
                                 {name: count // 2 for name, count in groups.items()})
    assert pruned(torch.randn(2, 3, 64, 64))[-1].shape == (2, 17)
    kept = quantized(spec, ("head.output",)).quantization
    assert kept is not None
    assert kept.keeps("visibility.output")
    assert not kept.keeps("visibility.reduce.0.0")


# ---- what is learnt

def test_a_batch_holds_one_where_a_keypoint_is_visible(tmp_path: Path) -> None:
    people = tiny.instances(tmp_path, 4)
    dataset = KeypointDataset(people, SAYING, None, seed=0)
    crops = dataset.collate([dataset[0, row, 0] for row in range(4)])
    assert isinstance(crops, Crops)
    crops.visibility[0, 5] = 0
    batch = dataset.batch(crops)
    assert len(batch.targets) == 2
    np.testing.assert_array_equal(batch.targets[1], crops.visibility == 2)
    assert batch.weight[0, 5] == 0


def test_the_loss_is_the_cross_entropy_of_what_is_labelled(rng: np.random.Generator) -> None:
    logits, visible = torch.tensor([[2.0, -1.0, 0.5, 40.0]]), torch.tensor([[1.0, 1.0, 0.0, 0.0]])
    weight = torch.tensor([[1.0, 1.0, 2.0, 0.0]])
    p = 1 / (1 + np.exp(-np.array([2.0, -1.0, 0.5])))
    expected = [-np.log(p[0]), -np.log(p[1]), -2 * np.log(1 - p[2]), 0.0]
    np.testing.assert_allclose(visibility_loss(logits, visible, weight)[0], expected, rtol=1e-5)


@pytest.mark.parametrize("head", ["heatmap", "cpm", "simcc"])
@pytest.mark.parametrize("share", [0.1, 2.0])
def test_its_share_is_added_to_the_loss_of_the_places(head: str, share: float, rng: np.random.Generator) -> None:
    recipe = asked_for(head)
    recipe = replace(recipe, train=replace(recipe.train, loss="kl" if head == "simcc" else "mse",
                                           visibility_share=share))
    silent = replace(recipe, model=replace(recipe.model, visibility=False))
    target = recipe.build_codec().encode(rng.uniform(10, 50, (4, 17, 2)), np.full((4, 17), 2))
    goals = tuple(torch.from_numpy(target.arrays[name]) for name in silent.contract().outputs)
    visible, weight = torch.randint(0, 2, (4, 17)).float(), torch.from_numpy(target.weight)
    inputs = torch.randn(4, 3, 64, 64)
    said = build(spec_of(recipe)).train()(inputs)
    precision = precision_for(recipe.train, CPU)
    weight[1, 3:] = 0.0
    total, count = torch.tensor(100.0), torch.tensor(weight.numel())  # as if more parts of the batch were to come
    found = Objective(task_of(recipe), precision)(said, Part(inputs, (*goals, visible), weight, total, count))
    places = Objective(task_of(silent), precision)(said[:-1], Part(inputs, goals, weight, total, count))
    entropy = F.binary_cross_entropy_with_logits(said[-1], visible, reduction="none")[weight > 0].sum() / 100
    torch.testing.assert_close(found, places + share * entropy)


def test_a_teacher_teaches_places_and_the_labels_visibility(rng: np.random.Generator) -> None:
    recipe = asked_for()
    teacher = Teacher(build(spec_of(recipe)).eval().requires_grad_(False), 1.0)
    inputs, said = torch.randn(2, 3, 64, 64), (torch.randn(2, 17, 16, 16), torch.randn(2, 17, requires_grad=True))
    part = Part(inputs, (torch.zeros(2, 17, 16, 16), torch.ones(2, 17)), torch.ones(2, 17), torch.tensor(34.0),
                torch.tensor(34))
    torch.autograd.backward(Objective(task_of(recipe, teacher), precision_for(recipe.train, CPU))(said, part))
    assert said[1].grad is not None
    assert (said[1].grad < 0).all()  # upwards, to what the labels say


# ---- what is measured

def test_balanced_accuracy_weighs_both_kinds_alike() -> None:
    visibility = np.array([[2, 2, 2, 2, 2, 2, 1, 1, 0]])
    told = np.array([[0.9, 0.9, 0.9, 0.9, 0.9, 0.1, 0.1, 0.8, 0.9]])
    assert balanced_accuracy(told, visibility) == pytest.approx((5 / 6 + 1 / 2) / 2)
    assert balanced_accuracy(np.ones((1, 9)), visibility) == 0.5
    assert balanced_accuracy(told[:, :6], visibility[:, :6]) == pytest.approx(5 / 6)  # one kind only


class Parrot(nn.Module):
    """A network that says one and the same logit everywhere."""

    def __init__(self, logit: float) -> None:
        super().__init__()
        self.logit = logit

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return torch.zeros(len(x), 17, 16, 16), torch.full((len(x), 17), self.logit)


def test_validation_tells_it_where_the_network_says_so(tmp_path: Path) -> None:
    people = tiny.instances(tmp_path, 8)
    found = validate(Parrot(1.0), people, SAYING, CPU, World())
    assert found["visibility"] == 0.5
    assert set(found) == {"pck@0.2", "error", "visibility"}

    class Mute(Parrot):
        def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, ...]:
            return super().forward(x)[:1]
    assert set(validate(Mute(1.0), people, SILENT, CPU, World())) == {"pck@0.2", "error"}


# ---- data that tell nothing

@pytest.mark.parametrize(("v", "missing"), [(2, r"hidden \(v = 1\)"), (1, r"visible \(v = 2\)")])
def test_data_with_one_kind_of_keypoints_are_refused(tmp_path: Path, v: int, missing: str) -> None:
    people = [replace(person, visibility=np.full(17, v)) for person in tiny.instances(tmp_path, 4)]
    with pytest.raises(DataError, match=f"none of the 68 labelled keypoints to learn from is {missing}, a class"):
        require_both_kinds(people)
    people[2].visibility[3] = 3 - v
    require_both_kinds(people)


def test_training_refuses_such_data_before_its_first_step(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    tiny.write_sets(tmp_path)
    path = tmp_path / "train.json"
    document = json.loads(path.read_text())
    for annotation in document["annotations"]:
        annotation["keypoints"][2::3] = [2] * 17
    path.write_text(json.dumps(document))
    (tmp_path / "recipe.toml").write_text(tiny.toml().replace("[model]", "[model]\nvisibility = true"))
    monkeypatch.setenv("EDGEKP_DATA", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    assert main(["--recipe", "recipe.toml"]) == 2
    assert "a class without labels" in capsys.readouterr().err


# ---- the whole way

@pytest.mark.parametrize("head", ["heatmap", "integral"])
def test_an_export_says_it_and_a_session_names_it(tmp_path: Path, head: str, rng: np.random.Generator) -> None:
    net, spec, contract = tiny.network(asked_for(head))
    for name in ("checkpoint", "export"):
        (tmp_path / name).mkdir()
    save_checkpoint(tmp_path / "checkpoint", net, spec, contract)
    checkpoint = load_checkpoint(tmp_path / "checkpoint")
    assert checkpoint.spec == spec
    assert export_checkpoint(checkpoint, tmp_path / "export", target_named("cpu"), 17)["largest_difference"] < 1e-4
    x = rng.normal(size=(2, 3, 64, 64)).astype(np.float32)
    with torch.no_grad():
        expected = net(torch.from_numpy(x))[-1].numpy()
    for folder in (tmp_path / "checkpoint", tmp_path / "export"):
        artifact = verify_artifact(folder)
        session = open_session(artifact)
        found = session.infer(x)
        session.close()
        assert tuple(found) == artifact.contract.outputs == contract.outputs
        np.testing.assert_allclose(found["visibility"], expected, atol=1e-4)


def test_an_export_that_lost_its_visibility_is_refused(tmp_path: Path) -> None:
    net, spec, contract = tiny.network(asked_for())
    save_checkpoint(tmp_path, net, spec, contract)
    rewrite_manifest(tmp_path, lambda manifest: manifest["contract"].pop("visibility"))
    assert open_artifact(tmp_path).contract.outputs == ("heatmaps",)
    with pytest.raises(ArtifactError, match="output_visibility"):
        verify_artifact(tmp_path)


def colored(folder: Path, count: int, seed: int) -> tuple[Instance, ...]:
    """People whose upper and lower body are each wholly visible or wholly hidden, which its colour tells."""
    rng, people = np.random.default_rng(seed), []
    color_of = {(False, 2): (0, 255, 0), (False, 1): (255, 0, 0), (True, 2): (0, 0, 255), (True, 1): (0, 255, 255)}
    folder.mkdir()
    for number in range(count):
        picture = rng.integers(90, 110, (72, 80, 3), dtype=np.uint8)
        keypoints_xy = rng.uniform((14, 12), (66, 60), (17, 2))
        visibility: Int = np.where(COCO17.lower_body, rng.integers(1, 3), rng.integers(1, 3))
        for xy, is_lower, v in zip(keypoints_xy.round().astype(int), COCO17.lower_body, visibility, strict=True):
            picture[xy[1] - 3:xy[1] + 4, xy[0] - 3:xy[0] + 4] = color_of[bool(is_lower), int(v)]
        person = tiny.instance(folder, picture, keypoints_xy, [8, 6, 64, 60], name=str(number))
        people.append(replace(person, id=number, visibility=visibility))
    return tuple(people)


@pytest.mark.slow
def test_what_can_be_seen_is_learnt_and_holds_for_people_never_seen(tmp_path: Path) -> None:
    recipe = asked_for()
    settings = replace(recipe.train, epochs=16, batch=8, lr=5e-3, validate_every=16, ema_decay=0.9,
                       visibility_share=1.0)
    task = Task("test", recipe.contract(), [Pool(colored(tmp_path / "train", 48, 0))],
                [Pool(colored(tmp_path / "val", 24, 1))], settings, tiny.STILL)
    _, history = fit(build(spec_of(recipe)), task, CPU)
    assert history[-1]["val_visibility"] > 0.75  # 48 halves of people: guessing reaches 0.5, and 0.75 in 3.5 sigma
