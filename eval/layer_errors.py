"""What each layer's integers cost: weights and activations put on their grid one at a time, worst first.

Two numbers a part: the signal to noise ratio of what it rounds, and how far the decoded keypoints move when nothing
else is rounded. The first is what tools usually print; only the second knows what the network makes of the noise.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import inf

import numpy as np
import onnx
from scipy.optimize import linear_sum_assignment

from deploy.runtime.onnx_session import OnnxSession
from edgekp.artifact import Artifact, boxed_contract
from edgekp.errors import ArtifactError
from edgekp.sample import Float
from eval.quantized_graph import LAYERS, QuantizedGraph, node_name


@dataclass(frozen=True)
class LayerError:
    """One part of one layer on the integer grid, all others in float.

    Attributes:
        layer: its name in the float model, where that is known.
        part: its weights, or the activations that its result becomes; the operation is named where it is a later one.
        sqnr_db: 10 log10 of signal over noise energy; infinite where nothing changes. Of an activation, between the
            float network and the integer one, so that it holds what earlier layers did.
        error_px: mean distance that the decoded keypoints move, input pixels.
    """

    layer: str
    part: str
    sqnr_db: float
    error_px: float


def is_quantized(artifact: Artifact) -> bool:
    """Whether any part of an exported model is rounded."""
    return artifact.kind == "onnx" and QuantizedGraph(onnx.load_from_string(artifact.read_model())).is_quantized


def layer_errors(quantized: Artifact, inputs: Float, reference: Artifact | None = None) -> list[LayerError]:
    """Every quantized part of a model, the one that moves the keypoints most first.

    Args:
        inputs: (N, 3, h, w) crops as the contract prepares them; some dozens are enough.
        reference: the float model that was quantized. Without it the rounding of weights cannot be told.

    Raises:
        ArtifactError: ``quantized`` rounds nothing, or ``reference`` is another network.
    """
    graph = QuantizedGraph(onnx.load_from_string(quantized.read_model()))
    if not graph.is_quantized:
        raise ArtifactError(f"{quantized.folder}: rounds nothing; expected a model with QuantizeLinear nodes")
    twins = _float_twins(graph, quantized, reference) if reference else {}
    probe = _Probe(quantized, inputs, graph, twins)
    return sorted((*probe.weights(), *probe.activations()), key=lambda error: -error.error_px)


@dataclass(frozen=True)
class _Twin:
    """The float layer that an integer one was made from."""

    layer: str
    values: Float


def _float_twins(graph: QuantizedGraph, quantized: Artifact, reference: Artifact) -> dict[str, _Twin]:
    """The reference's layer for each layer of the integer graph: of those of its shape, the one with its weights.

    Exporters order and name the nodes of the two graphs differently, so neither can tell.
    """
    original = QuantizedGraph(onnx.load_from_string(reference.read_model()))
    ours = list(zip(graph.layers(), graph.float_weights(), strict=True))
    theirs = list(zip(original.layers(), original.float_weights(), strict=True))
    if sorted(values.shape for _, values in ours) != sorted(values.shape for _, values in theirs):
        raise ArtifactError(f"{reference.folder}: other layers than {quantized.folder}; name the float model that was "
                            "quantized, the step before it")
    twins = {}
    for shape in {values.shape for _, values in ours}:
        mine, candidates = ([pair for pair in pairs if pair[1].shape == shape] for pairs in (ours, theirs))
        distance = [[float(np.abs(a - b).sum()) for _, b in candidates] for _, a in mine]
        for row, column in zip(*linear_sum_assignment(distance), strict=True):
            twins[node_name(mine[row][0])] = _Twin(module_name(node_name(candidates[column][0])), candidates[column][1])
    return twins


def module_name(node: str) -> str:
    """The network's own name of a layer, from the exporter's path: ``/stem/stem.0/stem.0.1/Conv`` is ``stem.0.1``."""
    parts: list[str] = []
    for part in node.strip("/").split("/")[:-1]:
        if parts and part.startswith(f"{parts[-1]}."):
            parts.pop()
        parts.append(part)
    return ".".join(parts) or node


class _Probe:
    """Runs views of one graph on the same inputs, and compares what is decoded."""

    def __init__(self, artifact: Artifact, inputs: Float, graph: QuantizedGraph, twins: dict[str, _Twin]) -> None:
        self.artifact, self.inputs, self.graph, self.twins = artifact, inputs, graph, twins
        self.exact = {weight.tensor: twins[weight.layer].values for weight in graph.integer_weights() if twins}
        self.grids = graph.grids()
        self.codec = boxed_contract(artifact, "the comparison layer by layer").codec
        self.outputs = artifact.contract.outputs
        taps = list(dict.fromkeys(grid.source for grid in self.grids))
        values = self._run(graph.view(weights=self.exact, outputs=taps), (*self.outputs, *taps))
        self.in_float = {name: values[name] for name in taps}
        self.decoded_xy = self._decoded(values)

    def weights(self) -> Iterator[LayerError]:
        """Each integer weight alone, where the float one is known."""
        for weight in self.graph.integer_weights():
            if weight.tensor in self.exact:
                others = {name: values for name, values in self.exact.items() if name != weight.tensor}
                noise = sqnr_db(self.exact[weight.tensor], weight.values)
                yield LayerError(self._named(weight.layer), "weights", noise,
                                 self._moved(self.graph.view(weights=others)))

    def activations(self) -> Iterator[LayerError]:
        """Each rounded activation alone; the noise is that of the whole integer network."""
        everything = [grid.name for grid in self.grids]
        taps = [grid.rounded for grid in self.grids]
        in_integers = self._run(self.graph.view(everything, outputs=taps), (*self.outputs, *taps))
        for grid in self.grids:
            noise = sqnr_db(_rectified_like(self.in_float[grid.source], in_integers[grid.rounded]),
                            in_integers[grid.rounded])
            part = "activations" if grid.operation in (*LAYERS, "input") else f"activations, {grid.operation}"
            yield LayerError(self._named(grid.layer), part, noise,
                             self._moved(self.graph.view([grid.name], weights=self.exact)))

    def _named(self, layer: str) -> str:
        return self.twins[layer].layer if layer in self.twins else layer

    def _moved(self, model: onnx.ModelProto) -> float:
        return float(np.linalg.norm(self._decoded(self._run(model, self.outputs)) - self.decoded_xy, axis=-1).mean())

    def _decoded(self, values: dict[str, Float]) -> Float:
        keypoints_xy, _ = self.codec.decode({name: values[name] for name in self.outputs})
        return keypoints_xy

    def _run(self, model: onnx.ModelProto, outputs: tuple[str, ...]) -> dict[str, Float]:
        session = OnnxSession(model.SerializeToString(), outputs, str(self.artifact.model_path))
        found = session.infer(self.inputs)
        session.close()
        return found


def _rectified_like(values: Float, rounded: Float) -> Float:
    """The float values behind the ReLU that the uint8 spelling computes in integers, after rounding."""
    return np.maximum(values, 0) if rounded.min() >= 0 else values


def sqnr_db(exact: Float, rounded: Float) -> float:
    """Signal to quantization noise ratio of two arrays of one shape, decibels."""
    noise = float(np.square(exact - rounded, dtype=np.float64).sum())
    signal = float(np.square(exact, dtype=np.float64).sum())
    return 10 * float(np.log10(signal / noise)) if noise > 0 and signal > 0 else inf
