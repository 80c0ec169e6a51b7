"""A checkpoint in PyTorch behind the Session protocol: the network as it was trained, before any export."""

from __future__ import annotations

import numpy as np
import torch

from edgekp.artifact import Artifact
from edgekp.sample import Float
from train.models.checkpoint import load_checkpoint


class TorchSession:
    """A network in evaluation mode, in float32 on the CPU: what exported models are held against."""

    def __init__(self, artifact: Artifact, threads: int = 1) -> None:
        torch.set_num_threads(threads)
        self._net = load_checkpoint(artifact.folder).net
        self._outputs = artifact.contract.outputs

    @torch.inference_mode()
    def infer(self, inputs: Float) -> dict[str, Float]:
        tensors = self._net(torch.from_numpy(np.ascontiguousarray(inputs, np.float32)))
        return {name: tensor.float().numpy() for name, tensor in zip(self._outputs, tensors, strict=True)}

    def close(self) -> None:
        del self._net
