"""The spatial transformer: it begins as nothing, undoes what it is told, and leads coordinates back to the pixel."""

from __future__ import annotations

from dataclasses import replace
from math import cos, pi, sin
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from torch import Tensor, nn

from deploy.export.checkpoint_to_onnx import to_onnx
from edgekp.codecs import Regression
from edgekp.errors import RecipeError
from edgekp.recipe import Export, Model
from edgekp.recipe_file import load_recipe
from edgekp.sample import Float
from optimize.channel_groups import Dependencies
from optimize.ptq import set_weight_scales
from tests import tiny
from tests.train.promises import dead_parameters, learnt_by_heart, onnx_error
from train.losses import wing
from train.models import build, quantized, spec_of
from train.models.checkpoint import load_checkpoint, save_checkpoint
from train.models.quantized import insert_fake_quantizers, set_enabled
from train.models.transformer import SpatialTransformer

INPUT_HW = (96, 64)  # not square: a turn in fractions of the sides would be none in pixels
UPRIGHT_XY = np.array([[20.0, 30.0], [44.0, 33.0], [31.5, 47.5], [25.0, 65.0]])  # as the upright frame shows them
SIZE_WH = np.array([64.0, 96.0])
SIMILARITIES = [(1.0, 0.0, 0.0, 0.0), (cos(pi / 6), sin(pi / 6), 0.0, 0.0), (cos(-0.6), sin(-0.6), 0.04, -0.03),
                (0.8 * cos(0.4), 0.8 * sin(0.4), -0.06, 0.05)]
each_similarity = pytest.mark.parametrize("similarity", SIMILARITIES)


def asked_for(head: str = "integral", side: int = 32) -> tiny.Recipe:
    return tiny.recipe((side, side), Model("mobilefacenet", head, transformer=True), "regression")


def set_by_hand(similarity: tuple[float, ...]) -> SpatialTransformer:
    """One that finds the same in every input."""
    transformer = SpatialTransformer(INPUT_HW)
    with torch.no_grad():
        transformer.output.bias.copy_(torch.tensor(similarity))  # type: ignore[union-attr]
    return transformer.eval()


def turned(upright_xy: Float, similarity: tuple[float, ...]) -> Float:
    """Where the points of the upright frame are in the input, by a matrix of pixels."""
    a, b, x, y = similarity
    center_xy = (SIZE_WH - 1) / 2
    return np.asarray((upright_xy - center_xy) @ np.array([[a, -b], [b, a]]).T + center_xy + np.array([x, y]) * SIZE_WH)


def blobs(keypoints_xy: Float) -> Tensor:
    """(1, 3, h, w) a Gaussian of 3 pixels around each of up to three points, one a channel."""
    y, x = np.mgrid[:INPUT_HW[0], :INPUT_HW[1]]
    maps = [np.exp(-((x - px) ** 2 + (y - py) ** 2) / 18) for px, py in keypoints_xy]
    return torch.from_numpy(np.stack(maps)[None].astype(np.float32))


def centroids(maps: Tensor) -> Tensor:
    """(1, K, 2) the regression codec's coordinates of the middle of each channel: a network that needs no training."""
    y, x = np.mgrid[:INPUT_HW[0], :INPUT_HW[1]]
    weights = maps[0].double().numpy()
    xy = np.stack([(weights * axis).sum((1, 2)) / weights.sum((1, 2)) for axis in (x, y)], -1)
    return torch.from_numpy((xy - (SIZE_WH - 1) / 2) / SIZE_WH)[None]


@each_similarity
@torch.no_grad()
def test_a_known_turn_is_undone_and_its_points_are_led_back(similarity: tuple[float, ...]) -> None:
    transformer, upright_xy = set_by_hand(similarity), UPRIGHT_XY[:3]
    in_input_xy = turned(upright_xy, similarity)
    image = blobs(in_input_xy)
    found = transformer.locate(image)
    seen = centroids(transformer.upright(image, found))
    decode = Regression(INPUT_HW).decode
    np.testing.assert_allclose(decode({"coordinates": seen.numpy()})[0][0], upright_xy, atol=0.05)
    led_back = transformer.to_input(seen, found)
    np.testing.assert_allclose(decode({"coordinates": led_back.numpy()})[0][0], in_input_xy, atol=0.05)


@each_similarity
@torch.no_grad()
def test_the_upright_frame_is_what_opencv_makes_of_the_input(
        similarity: tuple[float, ...], rng: np.random.Generator) -> None:
    """Smooth noise up to 1.2 before nothing; OpenCV 4 takes the nearest 1/32 pixel on both axes: 2 * 1.2 / 64 off."""
    image = cv2.GaussianBlur(rng.random((*INPUT_HW, 3)), (0, 0), 3).astype(np.float32) * 3
    transformer = set_by_hand(similarity)
    tensor = torch.from_numpy(image.transpose(2, 0, 1))[None]
    found = transformer.upright(tensor, transformer.locate(tensor))[0].numpy().transpose(1, 2, 0)
    corners = np.array([[0.0, 0.0], [63.0, 0.0], [0.0, 95.0]])
    in_input = turned(corners, similarity)
    upright_to_input = cv2.getAffineTransform(corners.astype(np.float32), in_input.astype(np.float32))
    expected = cv2.warpAffine(image, upright_to_input, (64, 96), flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP)
    np.testing.assert_allclose(found, expected, atol=0.04)


@torch.no_grad()
def test_inputs_that_its_stride_does_not_divide_get_one_similarity_each() -> None:
    assert SpatialTransformer((72, 40)).eval().locate(torch.randn(2, 3, 72, 40)).shape == (2, 4)


@torch.no_grad()
def test_it_begins_as_the_identity_for_every_input() -> None:
    with_it, without = build(spec_of(asked_for())).eval(), build(spec_of(tiny.recipe(
        (32, 32), tiny.FACENET, "regression"))).eval()
    missing, unexpected = with_it.load_state_dict(without.state_dict(), strict=False)
    assert unexpected == []  # the names of the other parts are those of a network without it
    assert all(name.startswith("transformer.") for name in missing)
    x = torch.randn(3, 3, 32, 32)
    torch.testing.assert_close(with_it(x)[0], without(x)[0], rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_each_input_gets_its_own_similarity() -> None:
    transformer = SpatialTransformer(INPUT_HW).eval()
    transformer.output.weight.normal_(0, 10.0)
    x = 3 * torch.randn(4, 3, *INPUT_HW)
    together = transformer.upright(x, transformer.locate(x))
    alone = torch.cat([transformer.upright(one, transformer.locate(one)) for one in x.split(1)])
    torch.testing.assert_close(together, alone, rtol=1e-3, atol=1e-3)
    assert transformer.locate(x).std(0).min() > 0.01


def test_every_parameter_gets_a_gradient_and_the_localiser_learns_from_coordinates_alone() -> None:
    net = build(spec_of(asked_for()))
    nn.init.normal_(net.get_submodule("transformer.output").weight, std=0.05)  # type: ignore[arg-type]
    assert dead_parameters(net, side=32) == []


@torch.no_grad()
def test_bfloat16_costs_no_tenth_of_a_pixel() -> None:
    """Grid and coordinates stay in float32: in bfloat16 they would be rounded to half a pixel of 128."""
    transformer, image = set_by_hand(SIMILARITIES[2]), blobs(turned(UPRIGHT_XY[:3], SIMILARITIES[2]))
    exact = transformer.upright(image, transformer.locate(image))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = transformer.locate(image)
        rounded = transformer.upright(image, found)
        led_back = transformer.to_input(centroids(rounded).float(), found)
    assert (found.dtype, rounded.dtype, led_back.dtype) == (torch.float32,) * 3
    moved_px = (centroids(rounded) - centroids(exact)).numpy() * SIZE_WH
    assert np.abs(moved_px).max() < 0.1


@pytest.mark.parametrize("head", ["integral", "gdconv"])
def test_the_onnx_file_says_what_the_network_says(tmp_path: Path, head: str) -> None:
    assert onnx_error(asked_for(head), tmp_path) < 1e-4


@torch.no_grad()
def test_the_onnx_file_turns_as_the_network_does(tmp_path: Path) -> None:
    net, spec, contract = tiny.network(asked_for())
    net.get_submodule("transformer.output").bias.copy_(torch.tensor(SIMILARITIES[2]))  # type: ignore[operator]
    model = to_onnx(net, contract, 17)
    assert [node.op_type for node in model.graph.node].count("GridSample") == 1
    save_checkpoint(tmp_path, net, spec, contract)
    x = torch.randn(2, 3, 32, 32)
    assert torch.equal(load_checkpoint(tmp_path).net(x)[0], net(x)[0])
    import onnxruntime
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    np.testing.assert_allclose(session.run(None, {"input": x.numpy()})[0], net(x)[0].numpy(), atol=1e-4)


@torch.no_grad()
def test_on_the_integer_grid_neither_grid_nor_coordinates_are_rounded() -> None:
    net, spec, _ = tiny.network(asked_for())
    net.get_submodule("transformer.output").bias.copy_(torch.tensor(SIMILARITIES[2]))  # type: ignore[operator]
    spec = quantized(spec, ("head.output",))
    assert spec.quantization
    assert spec.quantization.keeps("transformer.look.0.0")
    graph = insert_fake_quantizers(net, spec.quantization)
    set_weight_scales(graph)
    set_enabled(graph, weights=False, activations=False)
    x = torch.randn(2, 3, 32, 32)
    torch.testing.assert_close(graph(x)[0], net(x)[0], rtol=1e-3, atol=1e-4)
    rounded = [node.args[0].name for node in graph.graph.nodes if "quantizer" in str(node.target)]
    assert not [name for name in rounded if "stack" in name or "addcmul" in name or "transformer" in name]
    sources = {str(node.target): node.args[0].name for node in graph.graph.nodes if node.op == "call_module"}
    assert sources["backbone.stem.0.0"].startswith("quantizer")  # what was turned is on the grid of the input


def test_pruning_keeps_the_four_numbers() -> None:
    dependencies = Dependencies(tiny.network(asked_for())[0], (32, 32))
    groups = {name: group.channels for name, group in dependencies.groups().items()}
    pruned = dependencies.narrow({name: torch.rand(count) for name, count in groups.items()},
                                 {name: count // 2 for name, count in groups.items()})
    assert pruned.get_submodule("transformer.output").out_channels == 4
    assert pruned(torch.randn(2, 3, 32, 32))[0].shape == (2, 17, 2)


@pytest.mark.slow
def test_eight_samples_are_learnt_by_heart(rng: np.random.Generator) -> None:
    error, _ = learnt_by_heart(asked_for(), wing, rng)
    assert error < 0.15


@pytest.mark.parametrize(("head", "codec"), [("heatmap", "heatmap"), ("simcc", "simcc")])
def test_heads_that_say_no_coordinates_are_refused(head: str, codec: str) -> None:
    model = Model("hrnet_lite", head, tiny.HRNET.options, transformer=True)
    with pytest.raises(RecipeError, match=f"model.transformer: head '{head}' says .* choose codec 'regression'"):
        spec_of(tiny.recipe(model=model, codec=codec))


def test_an_opset_without_grid_sample_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "recipe.toml"
    text = tiny.toml().replace('backbone = "hrnet_lite"', 'backbone = "mobilefacenet"\ntransformer = true')
    path.write_text("\n".join(line for line in text.splitlines() if not line.startswith("options")).replace(
        'name = "heatmap"', 'name = "regression"'))
    assert load_recipe(path).model.transformer
    with pytest.raises(RecipeError, match=r"export.opset: 15, but model.transformer needs 16"):
        load_recipe(path, ["export.opset=15"])
    assert Export(opset=16).opset == 16


def test_a_network_without_it_is_as_it_was() -> None:
    recipe = tiny.recipe((32, 32), tiny.FACENET, "regression")
    names = build(spec_of(recipe)).state_dict()
    assert {name.partition(".")[0] for name in names} == {"backbone", "head"}
    spec = spec_of(recipe)
    older = {name: value for name, value in spec.to_json().items() if name not in ("transformer", "visibility")}
    assert type(spec).from_json(older) == spec
    assert replace(spec, transformer=True) != spec
