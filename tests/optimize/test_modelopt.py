"""ModelOpt beside ours: the same numbers on the same scales, and nothing of it left in a checkpoint."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from edgekp.errors import DataError, RecipeError
from edgekp.recipe_steps import Qat, Quantize
from optimize import modelopt_backend
from optimize.calibration import DEAD_THRESHOLD, SMALLEST, calibrate
from optimize.modelopt_backend import calibrate_with_modelopt, install, read_back
from optimize.ptq import quantize_network, set_weight_scales
from optimize.qat import qat
from optimize.quantize import quantize
from optimize.step import Context
from tests import tiny
from train.models import quantized
from train.models.checkpoint import Checkpoint
from train.models.quantized import (
    FakeQuantizer,
    QuantConv,
    QuantConvTranspose,
    fake_quantizers,
    insert_fake_quantizers,
    quant_convs,
)

Parent = Callable[[tiny.Recipe], Checkpoint]
MakeContext = Callable[..., Context]
RECIPE = tiny.recipe()
needs_modelopt = pytest.mark.usefixtures("modelopt")


@pytest.fixture(scope="session")
def modelopt() -> None:
    """Its import takes seconds."""
    pytest.importorskip("modelopt.torch.quantization", reason="the extra [modelopt] is not installed")


@pytest.fixture
def grid() -> nn.Module:
    """A small network on the grid."""
    net, spec, _ = tiny.network(RECIPE)
    on_grid = quantized(spec, ("head.output",)).quantization
    assert on_grid
    graph = insert_fake_quantizers(net, on_grid)
    set_weight_scales(graph)
    return graph


def noise(count: int = 4) -> Tensor:
    return torch.randn(count, 3, 64, 64, generator=torch.Generator().manual_seed(3))


def in_steps(module: nn.Module, x: Tensor, step: Tensor) -> tuple[Tensor, Tensor]:
    """What a quantizer makes of values, in steps of the grid, and the gradient that it lets through."""
    x = x.clone().requires_grad_(True)
    rounded = module(x)
    rounded.sum().backward()
    assert x.grad is not None
    return rounded.detach() / step, x.grad


def assert_same_rounding(ours: tuple[Tensor, Tensor], theirs: tuple[Tensor, Tensor], levels: Tensor,
                         largest: int) -> None:
    """Equal but for ties, which differ in the last bit of x / s, and gradients of what is clipped by under half a step.

    We let through what still rounds to the last level, ModelOpt what is no larger than the threshold.
    """
    last_bit = 4 * largest * 2**-23  # of x / s
    near_a_tie = ((levels - levels.floor()) - 0.5).abs() < last_bit
    apart = (ours[0] - theirs[0]).abs()
    assert apart[~near_a_tie].max() < last_bit
    assert apart.max() < 1.001
    edge = ((levels.abs() > largest - 0.01) & (levels < largest + 0.51) & (levels > -largest - 1.51))
    assert torch.equal(ours[1][~edge], theirs[1][~edge])
    assert ours[1].min() == 0
    assert ours[1].max() == 1


@needs_modelopt
@pytest.mark.parametrize("bits", [8, 16])
def test_both_round_activations_alike_forward_and_backward(bits: int) -> None:
    ours = FakeQuantizer(bits=bits)
    ours.scale.fill_(0.0173)
    net = nn.Sequential(copy.deepcopy(ours))
    install(net)
    ends = ours.largest_level * torch.tensor([[-1.0], [1.0]]) + torch.linspace(-12, 12, 2401)
    levels = torch.cat([torch.linspace(-140, 140, 5001), torch.arange(-140, 140) + 0.5, ends.flatten()])
    x = levels * ours.scale
    assert_same_rounding(in_steps(ours, x, ours.scale), in_steps(net, x, ours.scale), levels, ours.largest_level)


@needs_modelopt
@pytest.mark.parametrize("conv", [QuantConv(nn.Conv2d(8, 16, 3)), QuantConvTranspose(nn.ConvTranspose2d(8, 16, 4))])
def test_both_round_weights_alike_by_channel(conv: QuantConv | QuantConvTranspose) -> None:
    with torch.no_grad():
        conv.weight.copy_(torch.randn(conv.weight.shape, generator=torch.Generator().manual_seed(0)))
        conv.weight *= conv.per_channel(torch.logspace(-3, 1, 16))
    set_weight_scales(conv)
    expected, step = conv.rounded_weight().detach(), conv.per_channel(conv.weight_scale)
    levels = conv.weight.detach() / step
    x = torch.randn(2, 8, 5, 5, generator=torch.Generator().manual_seed(1))
    said = conv(x).detach()
    install(conv)
    torch.testing.assert_close(conv.weight.detach() / step, expected / step, rtol=0, atol=1e-4)
    torch.testing.assert_close(conv(x).detach(), said)
    conv.weight.sum().backward()
    (weight,) = (tensor for name, tensor in conv.named_parameters() if name.endswith("original"))
    assert weight.grad is not None
    assert (weight.grad[levels.abs() < 126.999] == 1).all()


@needs_modelopt
@torch.no_grad()
def test_a_network_says_the_same_with_either_and_is_itself_again_afterwards(grid: nn.Module) -> None:
    next(iter(fake_quantizers(grid).values())).bits = 16
    calibrate(grid, noise(), "minmax")
    learner, again = copy.deepcopy(grid), copy.deepcopy(grid)
    install(learner)
    expected, found = grid(noise())[0], learner(noise())[0]
    assert (found - expected).abs().mean() < 1e-3 * expected.abs().mean()  # ties alone: 2 values in 1000
    for tensor in again.state_dict().values():
        tensor.zero_()
    read_back(learner, again)
    set_weight_scales(again)
    for name, tensor in grid.state_dict().items():
        torch.testing.assert_close(again.state_dict()[name], tensor, rtol=1e-6, atol=0)  # scale * 127 / 127
    assert [(one.layer, one.bits) for one in fake_quantizers(again).values()] == [
        (one.layer, one.bits) for one in fake_quantizers(grid).values()]


@needs_modelopt
@pytest.mark.parametrize("observer", ["minmax", "percentile", "mse", "entropy"])
@torch.no_grad()
def test_with_16_bits_scales_have_the_finer_steps_with_either(observer: str) -> None:
    net = nn.Sequential(nn.ReLU(), FakeQuantizer(bits=16))
    ours, theirs = (find(net, noise(), observer)["1"] for find in (calibrate, calibrate_with_modelopt))
    assert float(fake_quantizers(net)["1"].scale) == pytest.approx(theirs / 32767, rel=1e-6)
    assert theirs == pytest.approx(ours, rel=0.01)  # as with 8 bits; with so many levels mse and entropy clip nothing


@needs_modelopt
@torch.no_grad()
def test_with_minmax_both_find_the_same_thresholds(grid: nn.Module) -> None:
    ours = calibrate(grid, noise(), "minmax")
    assert calibrate_with_modelopt(grid, noise(), "minmax") == pytest.approx(ours, rel=1e-6)


@needs_modelopt
@pytest.mark.parametrize(("observer", "tolerance"), [
    ("percentile", 0.01),  # histograms of 2048 bins with edges of their own
    ("mse", 0.15),  # ours tries 100 thresholds, ModelOpt's every tenth of the maximum
    ("entropy", 0.25),  # its minimum is flat, and the first bins are treated differently
])
@torch.no_grad()
def test_both_observers_of_a_name_find_much_the_same(observer: str, tolerance: float) -> None:
    net = nn.Sequential(nn.ReLU(), FakeQuantizer())
    for spread in (0.1, 5.0):
        x = spread * noise()
        ours = calibrate(net, x, observer)["1"]
        theirs = calibrate_with_modelopt(net, x, observer)["1"]
        assert 0.3 * x.max() < theirs < 0.999 * x.max()
        assert theirs == pytest.approx(ours, rel=tolerance)
        assert float(fake_quantizers(net)["1"].scale) == pytest.approx(theirs / 127, rel=1e-6)


@needs_modelopt
@pytest.mark.parametrize("largest", [0.0, 0.9 * SMALLEST])
@torch.no_grad()
def test_what_counts_as_zero_gets_the_same_scale_from_either(largest: float) -> None:
    net, x = nn.Sequential(nn.ReLU(), FakeQuantizer()), torch.linspace(0, largest, 64).view(1, 1, 8, 8)
    assert calibrate(net, x, "mse") == calibrate_with_modelopt(net, x, "mse") == {"1": DEAD_THRESHOLD}


@needs_modelopt
@torch.no_grad()
def test_what_never_fires_gets_a_scale_and_what_is_not_finite_is_refused(grid: nn.Module) -> None:
    first = next(iter(quant_convs(grid).values()))
    first.weight.zero_()
    first.bias.zero_()  # type: ignore[union-attr]
    assert DEAD_THRESHOLD in calibrate_with_modelopt(grid, noise(), "percentile").values()
    first.bias.fill_(float("nan"))  # type: ignore[union-attr]
    with pytest.raises(DataError, match="NaN or infinity"):
        calibrate_with_modelopt(grid, noise(), "mse")


@needs_modelopt
@pytest.mark.slow
def test_the_quantize_step_takes_its_scales_and_reports_both(parent: Parent, context: MakeContext) -> None:
    settings = Quantize("quantize", observer="percentile", images=128, backend="modelopt")
    checkpoint, here = parent(RECIPE), context(RECIPE, 160)
    result = quantize(checkpoint, settings, here)
    shift_px = result.report["shift_px"]
    assert list(shift_px) == ["edgekp", "modelopt"]
    assert 0 < min(shift_px.values()) <= max(shift_px.values()) < 10  # two points at random are 33 px apart
    ours = quantize(checkpoint, replace(settings, backend="edgekp"), here)
    assert ours.report["thresholds"] != result.report["thresholds"]
    assert ours.report["shift_px"] == shift_px


@needs_modelopt
@pytest.mark.slow
def test_trained_with_modelopt_a_checkpoint_is_one_of_ours(parent: Parent, context: MakeContext) -> None:
    checkpoint = parent(RECIPE)
    found = quantize_network(checkpoint, Quantize("quantize", observer="minmax"), noise())
    on_grid = replace(checkpoint, net=found.net, spec=found.spec)
    before = {name: tensor.clone() for name, tensor in found.net.state_dict().items()}
    result = qat(on_grid, Qat("qat", teacher="", epochs=6, lr=1e-2, backend="modelopt"), context(RECIPE))
    assert result.report["improved"]
    after = result.net.state_dict()
    assert list(after) == list(before)
    for name, conv in quant_convs(result.net).items():
        assert not torch.equal(conv.weight, before[f"{name}.weight"])
    for name in fake_quantizers(result.net):
        torch.testing.assert_close(after[f"{name}.scale"], before[f"{name}.scale"], rtol=1e-6, atol=0)


@needs_modelopt
@pytest.mark.slow
def test_both_backends_learn_the_same_from_the_same_images(parent: Parent, context: MakeContext) -> None:
    checkpoint = parent(RECIPE)
    found = quantize_network(checkpoint, Quantize("quantize", observer="minmax"), noise())
    on_grid = replace(checkpoint, net=found.net, spec=found.spec)
    ours, theirs = (qat(on_grid, Qat("qat", teacher="", epochs=2, lr=3e-3, backend=backend), context(RECIPE)).report
                    for backend in ("edgekp", "modelopt"))
    gain = ours["loss_before"] - ours["loss_after"]
    assert gain > 0
    assert theirs["loss_after"] == pytest.approx(ours["loss_after"], abs=0.1 * gain)


@pytest.mark.parametrize("step", ["qat", "quantize"])
def test_without_modelopt_a_step_that_wants_it_names_the_extra_before_it_does_anything(
        step: str, parent: Parent, context: MakeContext, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(modelopt_backend, "find_spec", lambda _: None)
    checkpoint, here = parent(RECIPE), context(RECIPE, 160)

    def compute(*_: Any) -> None:
        raise AssertionError("the refusal comes too late")

    monkeypatch.setattr(type(checkpoint.net), "__call__", compute)
    wanted = r"optimize\.STEP\.backend: \"modelopt\" is not installed; run: pip install -e '\.\[modelopt\]'"
    with pytest.raises(RecipeError, match=wanted.replace("STEP", step)):
        if step == "quantize":
            quantize(checkpoint, Quantize("quantize", backend="modelopt"), here)
        else:
            qat(replace(checkpoint, spec=quantized(checkpoint.spec, ("head.output",))),
                Qat("qat", backend="modelopt"), here)


@pytest.mark.slow
def test_without_modelopt_the_report_has_ours_alone(parent: Parent, context: MakeContext,
                                                    monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(modelopt_backend, "find_spec", lambda _: None)
    report = quantize(parent(RECIPE), Quantize("quantize", images=128), context(RECIPE, 160)).report
    assert list(report["shift_px"]) == ["edgekp"]
