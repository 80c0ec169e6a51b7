"""A network in PyTorch in the place of an engine, for machines without TensorRT. Knows no artifact."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import nn

from deploy.runtime.trt.engine import Binding
from edgekp.errors import EngineError
from edgekp.sample import Float


class TorchEngine:
    """A network on the GPU that reads its input and writes its outputs at given addresses, as an engine does."""

    least = 1

    def __init__(self, net: nn.Module, input_hw: tuple[int, int], outputs: tuple[str, ...], most: int) -> None:
        self.most = most
        self._net = net.cuda().eval()
        torch.backends.cudnn.allow_tf32 = False  # as exact as the network on the host, which it is compared with
        with torch.inference_mode():
            shapes = [tuple(tensor.shape[1:]) for tensor in self._net(torch.zeros(1, 3, *input_hw, device="cuda"))]
        torch.cuda.synchronize()
        self.inputs = {"input": Binding((3, *input_hw), np.float32)}
        self.outputs = {name: Binding(shape, np.float32) for name, shape in zip(outputs, shapes, strict=True)}
        self._tensors: dict[str, torch.Tensor] = {}
        self._batch = 1

    def set_batch(self, batch: int) -> None:
        self._batch = batch

    def bind(self, name: str, address: int) -> None:
        shape = (self.inputs | self.outputs)[name].shape
        self._tensors[name] = torch.as_tensor(_Memory(address, (self.most, *shape)), device="cuda")

    @torch.inference_mode()
    def enqueue(self, stream: int) -> None:
        try:
            with torch.cuda.stream(torch.cuda.ExternalStream(stream)):  # type: ignore[no-untyped-call]
                said = self._net(self._tensors["input"][:self._batch])
                for name, tensor in zip(self.outputs, said, strict=True):
                    self._tensors[name][:self._batch].copy_(tensor)
        except RuntimeError as error:  # such as memory that is asked for while a graph is captured
            raise EngineError(f"torch cannot run the network: {str(error).splitlines()[0]}") from error

    def close(self) -> None:
        self._tensors.clear()


class TorchOnHost:
    """The same network on the processor; a ``Session``."""

    def __init__(self, net: nn.Module, outputs: tuple[str, ...]) -> None:
        self._net, self._outputs = net, outputs

    @torch.inference_mode()
    def infer(self, inputs: Float) -> dict[str, Float]:
        said = self._net(torch.from_numpy(np.ascontiguousarray(inputs)))
        return {name: tensor.numpy() for name, tensor in zip(self._outputs, said, strict=True)}

    def close(self) -> None:
        """Nothing is held."""


class _Memory:
    """Memory that another library holds, as PyTorch asks for it."""

    def __init__(self, address: int, shape: tuple[int, ...]) -> None:
        self.__cuda_array_interface__: dict[str, Any] = {"shape": shape, "typestr": "<f4", "data": (address, False),
                                                         "version": 3}
