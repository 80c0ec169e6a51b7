"""Cross-layer equalisation (Nagel et al., ICCV 2019): even ranges of channels between two layers, the same function.

What a layer says in channel i is divided by s_i, and the next layer's weights for it are multiplied by s_i. That needs
a layer between them that lets a factor pass, f(s x) = s f(x) for s > 0, and no other reader. Knows no data.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, fx, nn

from train.models.quantized import FakeQuantizer, QuantLayer, module_of

ROUNDS = 20  # factors travel along a chain of layers, one layer a round
SETTLED = 1e-3  # largest relative change of a round that ends it
LARGEST_FACTOR = 8.0  # of one round; a channel that is all but dead would make its bias the largest value of all
PASS_FACTORS = (nn.ReLU, nn.PReLU, nn.LeakyReLU, nn.MaxPool2d, nn.AvgPool2d, nn.Upsample, FakeQuantizer)


@dataclass(frozen=True)
class Pair:
    """Two layers, one behind the other, by name."""

    first: str
    second: str


def equalizable_pairs(graph: fx.GraphModule) -> list[Pair]:
    """Layers on the grid that can be evened out, in the order of computation.

    Not across a value that something else reads, a sum, a concatenation, nor a curve such as hard-swish or sigmoid, and
    not for layers that are called more than once.
    """
    calls = [str(node.target) for node in graph.graph.nodes if node.op == "call_module"]
    pairs = []
    for node in graph.graph.nodes:
        reader = _reader(graph, node) if isinstance(module_of(graph, node), QuantLayer) else None
        if reader is not None and calls.count(str(node.target)) == calls.count(str(reader.target)) == 1:
            pairs.append(Pair(str(node.target), str(reader.target)))
    return pairs


@torch.no_grad()
def equalize(graph: fx.GraphModule) -> list[Pair]:
    """Even out all pairs until nothing changes any more; the pairs. Scales are to be set afterwards."""
    pairs = equalizable_pairs(graph)
    for _ in range(ROUNDS):
        if max((_even_out(graph, pair) for pair in pairs), default=0.0) < SETTLED:
            break
    return pairs


def largest_of_inputs(layer: QuantLayer) -> Tensor:
    """The largest weight that reads each input channel."""
    if layer.groups == 1:
        return layer.weight.abs().amax(dim=[axis for axis in range(4) if axis != 1 - layer.channel_axis])
    per_group = layer.weight.abs().amax(dim=(2, 3)).reshape(layer.groups, -1, layer.weight.shape[1])
    return per_group.amax(1).flatten()


def _even_out(graph: fx.GraphModule, pair: Pair) -> float:
    """Give both layers the geometric mean of their ranges; the largest relative change of a channel."""
    first, second = graph.get_submodule(pair.first), graph.get_submodule(pair.second)
    assert isinstance(first, QuantLayer)
    assert isinstance(second, QuantLayer)
    said, read = first.largest_weights(), largest_of_inputs(second)
    factors = (said / read).sqrt().clamp(1 / LARGEST_FACTOR, LARGEST_FACTOR)
    factors = torch.where((said > 0) & (read > 0), factors, torch.ones_like(factors))
    first.weight.div_(first.per_channel(factors))
    if first.bias is not None:
        first.bias.div_(factors)
    _scale_inputs(second, factors)
    return float((factors - 1).abs().max())


def _scale_inputs(layer: QuantLayer, factors: Tensor) -> None:
    if layer.channel_axis == 1:  # (in, out, h, w)
        layer.weight.mul_(factors[:, None, None, None])
        return
    group_of_output = torch.arange(layer.weight.shape[0]) * layer.groups // layer.weight.shape[0]
    layer.weight.mul_(factors.reshape(layer.groups, -1)[group_of_output.to(factors.device)][:, :, None, None])


def _reader(graph: fx.GraphModule, node: fx.Node) -> fx.Node | None:
    """The only layer on the grid that reads a layer's result, past what lets factors pass."""
    while len(node.users) == 1:
        node = next(iter(node.users))
        module = module_of(graph, node)
        if isinstance(module, QuantLayer):
            return node
        if not isinstance(module, PASS_FACTORS):
            return None
    return None
