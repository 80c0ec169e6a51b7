"""TorchScript on the CPU behind the Session protocol: needs torch, but no code of the network."""

from __future__ import annotations

import io
import warnings

import numpy as np
import torch

from edgekp.artifact import Artifact
from edgekp.errors import ArtifactError
from edgekp.sample import Float


class TorchScriptSession:
    """A traced network in float32, which must have the contract's outputs."""

    def __init__(self, artifact: Artifact, threads: int = 1) -> None:
        torch.set_num_threads(threads)
        self._outputs, self._where = artifact.contract.outputs, artifact.model_path
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # torch warns of TorchScript's age
                file = io.BytesIO(artifact.read_model())
                self._net = torch.jit.load(file, map_location="cpu")  # type: ignore[no-untyped-call]
        except (RuntimeError, ValueError) as error:
            reason = str(error).strip().partition("\n")[0]
            raise ArtifactError(f"{self._where}: torch refuses it ({reason}); export the model again") from error

    @torch.inference_mode()
    def infer(self, inputs: Float) -> dict[str, Float]:
        tensors = self._net(torch.from_numpy(np.ascontiguousarray(inputs, np.float32)))
        if len(tensors) != len(self._outputs):
            raise ArtifactError(f"{self._where}: {len(tensors)} outputs, expected {list(self._outputs)}; export the "
                                "model again")
        return {name: tensor.numpy() for name, tensor in zip(self._outputs, tensors, strict=True)}

    def close(self) -> None:
        del self._net
