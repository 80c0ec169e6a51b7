"""Claims about time, memory and size, measured on this machine without a training."""

from __future__ import annotations

import time
from collections.abc import Callable
from statistics import median

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.claims.claim_list import CLAIMS
from benchmarks.claims.rows import Row, gain_row, needs_hardware, row
from benchmarks.claims.verdict import gain
from deploy.export.checkpoint_to_onnx import to_onnx
from deploy.runtime.onnx_session import OnnxSession
from edgekp.preprocess import InputSpec
from edgekp.recipe import CodecChoice, Data, Model, Recipe
from edgekp.recipe_train import Train
from train.models import build, spec_of
from train.models.checkpoint import device
from train.models.cost import count_parameters

BODY = Recipe("body", Data("coco17"), InputSpec((128, 128)), CodecChoice("heatmap"), Model("hrnet_lite"),
              Train(epochs=1, batch=32))
FACE = Recipe("face", Data("ibug68"), InputSpec((112, 112)), CodecChoice("regression"),
              Model("mobilefacenet", "gdconv"), Train(epochs=1))
ROUNDS = 7
ADAM_COPIES = 4  # of every weight in float32: itself, its gradient and two moments
CLAIMED_MEMORY_SAVED = 0.30
CLAIMED_PARAMETERS, TOLERANCE = 0.8e6, 0.1
CLAIMED_FPS = 30
CALLS = 60


def speed_of_mixed_precision(rounds: int = ROUNDS) -> list[Row]:
    """C5: steps in float32 and in bf16 in turn; each round gives one ratio."""
    step, clock = _training_step(BODY), _clock()
    for bf16 in (False, True):
        step(bf16)
    ratios = []
    for _ in range(rounds):
        seconds = []
        for bf16 in (False, True):
            started = clock()
            step(bf16)
            seconds.append(clock() - started)
        ratios.append(seconds[0] / seconds[1] - 1)
    about = f"bf16 against float32, HRNet-lite, batches of 32, on the {device().type} of this machine"
    return [gain_row("C5", about, gain(ratios), "more images a second, as a share")]


def memory_of_mixed_precision() -> list[Row]:
    """C14: peak memory of a step on a GPU; elsewhere weights and what a step keeps for its backward pass."""
    if device().type == "cuda":
        float32, bf16 = (_peak_bytes(BODY, bf16) for bf16 in (False, True))
        saved = 1 - bf16 / float32
        return [row("C14", "peak of a step on this GPU, bf16 against float32, HRNet-lite, batches of 32", saved,
                    "share saved", "holds" if saved >= CLAIMED_MEMORY_SAVED else "does not hold",
                    claimed=CLAIMED_MEMORY_SAVED)]
    float32, bf16 = (_kept_bytes(BODY, bf16) for bf16 in (False, True))
    return [needs_hardware("C14", "weights, Adam's moments and what is kept for the backward pass, counted on the CPU; "
                           "bf16 against float32, HRNet-lite, batches of 32", 1 - bf16 / float32, "share saved",
                           claimed=CLAIMED_MEMORY_SAVED)]


def mobilefacenet() -> list[Row]:
    """C9: counted parameters against the claimed number, and the time of one picture on this processor."""
    net = build(spec_of(FACE)).eval()
    parameters = count_parameters(net)
    near = abs(parameters / CLAIMED_PARAMETERS - 1) <= TOLERANCE
    milliseconds = _latency_ms(net)
    return [row("C9", f"parameters of MobileFaceNet with its own head for 68 keypoints, {TOLERANCE:.0%} allowed",
                float(parameters), "parameters", "holds" if near else "does not hold", claimed=CLAIMED_PARAMETERS),
            needs_hardware("C9", "112 x 112 pixels on one core of this machine in float32, ONNX Runtime; no phone",
                           1000 / milliseconds, "frames per second", claimed=CLAIMED_FPS, p50_ms=milliseconds)]


def elsewhere(claim: str) -> list[Row]:
    """C10, C12, C17: nothing here can stand in for the device."""
    return [needs_hardware(claim, f"nothing here can stand in for {CLAIMS[claim].hardware}")]


def _training_step(recipe: Recipe) -> Callable[[bool], Tensor]:
    """A function of whether the forward pass is bf16: one step of AdamW on a batch of noise; its loss."""
    net = build(spec_of(recipe)).to(device(), memory_format=torch.channels_last).train()  # type: ignore[call-overload]
    optimizer = torch.optim.AdamW(net.parameters(), recipe.train.lr)
    inputs = _noise(recipe)

    def step(bf16: bool) -> Tensor:
        loss = _loss(net, inputs, bf16)
        optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(loss)
        optimizer.step()
        return loss.detach()

    return step


def _loss(net: nn.Module, inputs: Tensor, bf16: bool) -> Tensor:
    with torch.autocast(inputs.device.type, dtype=torch.bfloat16, enabled=bf16):
        output: Tensor = net(inputs)[0]
    return (output.float() - 1).square().mean()


def _noise(recipe: Recipe) -> Tensor:
    inputs = torch.randn(recipe.train.batch, 3, *recipe.input.input_hw, generator=torch.Generator().manual_seed(0))
    return inputs.to(device(), memory_format=torch.channels_last)


def _clock() -> Callable[[], float]:
    """Seconds of this process's own time on a CPU, which others may use, too; of the wall where a GPU works."""
    if device().type != "cuda":
        return time.process_time

    def waited() -> float:
        torch.cuda.synchronize()
        return time.perf_counter()

    return waited


def _kept_bytes(recipe: Recipe, bf16: bool) -> int:
    """Weights with gradients and moments, and every storage that a forward pass saves for its backward pass."""
    net = build(spec_of(recipe)).to(memory_format=torch.channels_last).train()  # type: ignore[call-overload]
    weights = {parameter.untyped_storage().data_ptr() for parameter in net.parameters()}
    kept: dict[int, Tensor] = {}

    def keep(tensor: Tensor) -> Tensor:
        kept[tensor.untyped_storage().data_ptr()] = tensor  # held, so that no address is used twice
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        _loss(net, _noise(recipe), bf16)
    activations = sum(tensor.untyped_storage().nbytes() for address, tensor in kept.items() if address not in weights)
    return activations + ADAM_COPIES * 4 * count_parameters(net)


def _peak_bytes(recipe: Recipe, bf16: bool) -> int:
    step = _training_step(recipe)
    step(bf16)  # the optimizer makes its moments
    torch.cuda.reset_peak_memory_stats()
    step(bf16)
    return torch.cuda.max_memory_allocated()


def _latency_ms(net: nn.Module) -> float:
    """p50 of one picture on one thread."""
    contract = FACE.contract()
    session = OnnxSession(to_onnx(net, contract, 17).SerializeToString(), contract.codec.outputs, "MobileFaceNet")
    picture = np.zeros((1, 3, *FACE.input.input_hw), np.float32)
    seconds = []
    for _ in range(CALLS):
        started = time.perf_counter()
        session.infer(picture)
        seconds.append(time.perf_counter() - started)
    return 1000 * median(seconds)
