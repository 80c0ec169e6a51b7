"""From a network to a TFLite file: NHWC, batch norm folded, activations fused, and the int8 grid as it stands.

The graph that torch.fx traced is written operator by operator. A fake-quantized network keeps its scales: an operator
whose inputs and result are on the grid is an integer one, what is not (the head, by default) is computed in float
between a DEQUANTIZE and, where the grid goes on, a QUANTIZE.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import fx, nn

from deploy.export.tflite_functions import constant_of, write_node
from deploy.export.tflite_graph import NHWC, Graph, Value
from edgekp.errors import ArtifactError
from train.models.quantized import fold

INPUT_NAME = "input"
MAP_RANK = 4


@dataclass(frozen=True)
class TFLiteModel:
    """The bytes of a file; its convolutions that are computed in float, by name."""

    data: bytes
    float_layers: tuple[str, ...]


@torch.no_grad()
def to_tflite(net: nn.Module, input_hw: tuple[int, int], outputs: tuple[str, ...],
              weights: str = "float32") -> TFLiteModel:
    """The network as a file that takes (1, h, w, 3) float32; maps come out as (1, H, W, C), other outputs as in torch.

    Args:
        outputs: their names, in the order of the network.
        weights: how float layers store them: ``float32``, ``float16``, or ``int8`` (dynamic range).

    Raises:
        ArtifactError: A layer that has no counterpart, by its name.
    """
    module = net.eval().cpu() if isinstance(net, fx.GraphModule) else fold(net.cpu())
    graph = Graph(module, weights)
    source = graph.file.activation((1, *input_hw, 3), INPUT_NAME)
    said: list[Value] = []
    for node in module.graph.nodes:
        if node.op == "placeholder":
            graph.values[node] = Value(source, NHWC)
        elif node.op == "get_attr":
            graph.values[node] = constant_of(_attribute(module, str(node.target)))
        elif node.op == "output":
            said = list(_known(graph, node.args[0]))
        elif node not in graph.values:
            graph.values[node] = write_node(graph, node, _known(graph, node.args), _known(graph, node.kwargs))
    tensors = []
    for name, value in zip(outputs, said, strict=True):
        rank = len(value.order)
        tensors.append(graph.stored(graph.in_float(value), NHWC if rank == MAP_RANK else range(rank)))
        graph.file.rename(tensors[-1], name)
    if len({tensor.index for tensor in tensors}) < len(tensors):
        raise ArtifactError("tflite: two outputs of the network are one value; export this model for another target")
    return TFLiteModel(graph.file.to_bytes([source], tensors), tuple(graph.float_layers))


def _known(graph: Graph, arguments: Any) -> Any:
    """Arguments of a node with the values of other nodes in their places."""
    return fx.node.map_arg(arguments, graph.values.__getitem__)


def _attribute(module: fx.GraphModule, name: str) -> torch.Tensor:
    parent, _, child = name.rpartition(".")
    found = getattr(module.get_submodule(parent), child)
    assert isinstance(found, torch.Tensor)
    return found
