"""Networks on the int8 grid: folding changes nothing, every integer value is rounded once, and off means float."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import fx, nn
from torch.fx.experimental.optimization import fuse

from edgekp.errors import RecipeError
from edgekp.recipe import Recipe
from tests import tiny
from train.models.quantized import (
    FakeQuantizer,
    QuantConv,
    QuantConvTranspose,
    QuantizationSpec,
    QuantLayer,
    fake_quantizers,
    insert_fake_quantizers,
    quant_convs,
    set_enabled,
)

HEAD = QuantizationSpec(("head.output",))
POSE = tiny.recipe(model=tiny.Model("hrnet_lite", options={"width": 8}))
FACE = tiny.recipe((32, 32), tiny.FACENET, "regression")
GDCONV = tiny.recipe((32, 32), tiny.Model("mobilefacenet", "gdconv", {"activation": "prelu"}), "regression")
each_recipe = pytest.mark.parametrize("recipe", [POSE, FACE, GDCONV], ids=["hrnet", "mobilefacenet", "gdconv-prelu"])


def on_grid(recipe: Recipe, spec: QuantizationSpec = HEAD) -> tuple[nn.Module, fx.GraphModule, torch.Tensor]:
    """The float network, the same on the grid with made-up scales, and an input."""
    net, _, _ = tiny.network(recipe)
    graph = insert_fake_quantizers(net, spec)
    for number, quantizer in enumerate(fake_quantizers(graph).values()):
        quantizer.scale.fill_(0.02 + 0.001 * number)
    for conv in quant_convs(graph).values():
        conv.weight_scale.copy_(conv.weight.detach().abs().amax((1, 2, 3)) / 127)
    return net, graph, torch.randn(2, 3, *recipe.input.input_hw)


@each_recipe
@torch.no_grad()
def test_folding_batch_norm_changes_nothing(recipe: Recipe) -> None:
    net, _, x = on_grid(recipe)
    folded = fuse(net)
    assert not any(isinstance(module, nn.BatchNorm2d) for module in folded.modules())
    assert (folded(x)[0] - net(x)[0]).abs().max() < 1e-5 * net(x)[0].abs().max()


@each_recipe
@torch.no_grad()
def test_with_everything_off_the_network_computes_in_float(recipe: Recipe) -> None:
    net, graph, x = on_grid(recipe)
    expected = net(x)[0]
    rounded = graph(x)[0]
    set_enabled(graph, weights=False, activations=False)
    assert (graph(x)[0] - expected).abs().max() < 1e-5 * expected.abs().max()
    assert (rounded - expected).abs().max() > 1e-3 * expected.abs().max()  # on, it does round


@each_recipe
def test_every_integer_value_is_rounded_exactly_once(recipe: Recipe) -> None:
    """What a quantized convolution, an addition or an upsampling reads comes from one FakeQuantizer, never from two."""
    _, graph, _ = on_grid(recipe)
    rounds = {node for node in graph.graph.nodes if kind(graph, node) is FakeQuantizer}
    for node in graph.graph.nodes:
        if kind(graph, node) in (QuantConv, nn.Upsample) or (node.op == "call_function" and "add" in node.name):
            assert all(source(graph, argument) in rounds for argument in node.all_input_nodes), node
        if node in rounds:
            assert source(graph, node.all_input_nodes[0]) not in rounds, f"{node} rounds what was rounded"
        assert sum(user in rounds for user in node.users) <= 1
        if any(user in rounds for user in node.users):
            assert len(node.users) == 1, f"{node} is also read without being rounded"


def source(graph: fx.GraphModule, node: fx.Node) -> fx.Node:
    """The node that computed a value, past those that only hand it on."""
    while kind(graph, node) is nn.Identity:
        node = node.all_input_nodes[0]
    return node


def kind(graph: fx.GraphModule, node: fx.Node) -> type[nn.Module] | None:
    return type(graph.get_submodule(str(node.target))) if node.op == "call_module" else None


@each_recipe
def test_upsampling_keeps_the_scale_of_what_it_enlarges(recipe: Recipe) -> None:
    _, graph, _ = on_grid(recipe)
    seen = 0
    for node in graph.graph.nodes:
        if kind(graph, node) is nn.Upsample:
            before = source(graph, node.all_input_nodes[0])
            after, = node.users
            assert before.target == after.target
            seen += 1
    assert seen == sum(isinstance(module, nn.Upsample) for module in graph.modules())
    assert (seen > 0) == (recipe is not GDCONV)


@each_recipe
@torch.no_grad()
def test_activations_lie_on_their_grid(recipe: Recipe) -> None:
    _, graph, x = on_grid(recipe)
    levels: dict[str, list[np.ndarray]] = {name: [] for name in fake_quantizers(graph)}
    for name, quantizer in fake_quantizers(graph).items():
        quantizer.register_forward_hook(
            lambda module, _, out, name=name: levels[name].append((out / module.scale).numpy()))
    graph(x)
    for name, calls in levels.items():
        assert calls, f"{name} is never used"
        for found in calls:
            np.testing.assert_allclose(found, np.rint(found), atol=1e-3)  # float32: 128 levels of 1e-7 relative
            assert -128 <= np.rint(found).min() <= np.rint(found).max() <= 127


FAMILIES = {
    "se": tiny.Model("hrnet_lite", options={**tiny.HRNET.options, "attention": "se"}),
    "cbam": tiny.Model("hrnet_lite", options={**tiny.HRNET.options, "attention": "cbam"}),
    "unet": tiny.Model("unet", options={"width": 8, "depth": 3, "upsample": "transposed"}),
    "mobilenet": tiny.Model("mobilenet_v3", "", {}, neck="deconv"),
    "shufflenet": tiny.Model("shufflenet_v2", "", {"width": 0.5}, neck="deconv"),
    "lite-hrnet": tiny.Model("lite_hrnet", "", {"depth": 10, "width": 16, "branches": 2}),
}


@pytest.mark.parametrize("name", FAMILIES)
@torch.no_grad()
def test_integer_layers_read_integer_values_and_all_off_means_float(name: str) -> None:
    """Deconvolution, gates, curves and shuffles included: one value in float makes a whole layer float."""
    net, _, _ = tiny.network(tiny.recipe((32, 32), FAMILIES[name]))
    graph = insert_fake_quantizers(net, HEAD)
    assert not any(isinstance(module, (nn.BatchNorm2d, nn.Identity)) for module in graph.modules())
    for node in graph.graph.nodes:
        if issubclass(kind(graph, node) or nn.Module, QuantLayer):
            assert kind(graph, node.all_input_nodes[0]) is FakeQuantizer, node
    set_enabled(graph, weights=False, activations=False)
    x = torch.randn(2, 3, 32, 32)
    torch.testing.assert_close(graph(x)[0], net(x)[0], rtol=1e-4, atol=1e-5 * float(net(x)[0].abs().max()))


@pytest.mark.parametrize("name", ["cbam", "unet", "shufflenet", "lite-hrnet"])
def test_a_concatenation_and_all_that_it_joins_have_one_scale(name: str) -> None:
    graph = insert_fake_quantizers(tiny.network(tiny.recipe((32, 32), FAMILIES[name]))[0], HEAD)
    joined = [node for node in graph.graph.nodes if getattr(node.target, "__name__", "") == "cat"]
    assert joined
    for node in joined:
        after, = node.users
        assert {before.target for before in node.all_input_nodes} == {after.target}


def test_inputs_and_result_of_an_addition_have_scales_of_their_own() -> None:
    """Which all three runtimes allow; a scale for all would waste levels of the smaller input."""
    graph = insert_fake_quantizers(tiny.network(POSE)[0], HEAD)
    added = [node for node in graph.graph.nodes if getattr(node.target, "__name__", "") == "add"]
    assert added
    assert all(len({before.target for before in node.all_input_nodes}) == 2 for node in added)


def test_a_layer_in_float_gives_no_integer_value() -> None:
    graph = insert_fake_quantizers(tiny.network(POSE)[0], QuantizationSpec(("head.output", "backbone.stem.0")))
    layers = {quantizer.layer for quantizer in fake_quantizers(graph).values()}
    assert "backbone.stem.0.0" not in layers
    assert "backbone.stem.1.0" in layers


@torch.no_grad()
def test_sixteen_bits_go_to_the_layer_that_is_named_and_to_what_shares_its_scale() -> None:
    net, _, _ = tiny.network(tiny.recipe((32, 32), FAMILIES["unet"]))
    first = "backbone.encoder.1.1.0"  # a skip: the concatenation that it goes to shares its scale
    graph = insert_fake_quantizers(net, QuantizationSpec(("head.output",), (first,)))
    wide = [name for name, quantizer in fake_quantizers(graph).items() if quantizer.bits == 16]
    assert len(wide) <= 1  # one quantizer, however often it is called
    both = insert_fake_quantizers(net, QuantizationSpec(("head.output",), ("backbone",)))
    assert sum(quantizer.bits == 16 for quantizer in fake_quantizers(both).values()) == len(quant_convs(both)) - 1


@torch.no_grad()
def test_a_transposed_convolution_rounds_each_output_channel_by_itself() -> None:
    conv = QuantConvTranspose(nn.ConvTranspose2d(2, 3, 1, bias=False))
    conv.weight.copy_(torch.tensor([[1.27, 0.014], [-127.0, 3.4], [0.0, 12.7]]).T.reshape(2, 3, 1, 1))
    conv.weight_scale.copy_(torch.tensor([0.01, 1.0, 0.1]))
    seen = conv(torch.eye(2).reshape(2, 2, 1, 1)).reshape(2, 3).T
    torch.testing.assert_close(seen, torch.tensor([[1.27, 0.01], [-127.0, 3.0], [0.0, 12.7]]))
    assert conv.largest_weights().tolist() == pytest.approx([1.27, 127.0, 12.7])


@torch.no_grad()
def test_weights_lie_on_a_grid_per_channel() -> None:
    conv = QuantConv(nn.Conv2d(2, 3, 1, bias=False))
    conv.weight.copy_(torch.tensor([[1.27, 0.014], [-127.0, 3.4], [0.0, 12.7]]).reshape(3, 2, 1, 1))
    conv.weight_scale.copy_(torch.tensor([0.01, 1.0, 0.1]))
    seen = conv(torch.eye(2).reshape(2, 2, 1, 1)).reshape(2, 3).T
    torch.testing.assert_close(seen, torch.tensor([[1.27, 0.01], [-127.0, 3.0], [0.0, 12.7]]))


@each_recipe
def test_the_head_stays_in_float_unless_it_is_asked_for(recipe: Recipe) -> None:
    _, graph, _ = on_grid(recipe)
    convolutions = {name for name, module in graph.named_modules() if isinstance(module, nn.Conv2d)}
    assert convolutions - set(quant_convs(graph)) == {"head.output"}
    _, graph, _ = on_grid(recipe, QuantizationSpec(()))
    assert set(quant_convs(graph)) == convolutions


def test_a_kept_name_covers_what_is_below_it_and_no_namesake() -> None:
    spec = QuantizationSpec(("head.output", "backbone.stage"))
    assert spec.keeps("head.output")
    assert spec.keeps("backbone.stage.0")
    assert not spec.keeps("backbone.stages.0")
    assert not spec.keeps("head")


def test_an_unknown_layer_to_keep_is_refused() -> None:
    net, _, _ = tiny.network(tiny.recipe())
    with pytest.raises(RecipeError, match=r"keep_float: no layer 'head\.out'; known: .*head\.output"):
        insert_fake_quantizers(net, QuantizationSpec(("head.out",)))


def test_the_float_network_is_left_alone() -> None:
    net, graph, _ = on_grid(tiny.recipe())
    assert any(isinstance(module, nn.BatchNorm2d) for module in net.modules())
    assert not fake_quantizers(net)
    assert quant_convs(graph)
