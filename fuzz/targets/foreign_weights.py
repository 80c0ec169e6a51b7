"""Weights of other projects: pickles and archives of PyTorch's, and safetensors."""

from __future__ import annotations

import io
from pathlib import Path

import torch
from safetensors.torch import save

from fuzz.target import Read, Target
from train.foreign_weights import weights_in

WEIGHTS = {"conv.weight": torch.ones(2, 3), "conv.bias": torch.zeros(2, dtype=torch.float16)}
PICKLE_MARKS = (b"PK", b"\x80")


def reader(_folder: Path) -> Read:
    def read(data: bytes) -> object:
        return weights_in(data, "a.pt" if data.startswith(PICKLE_MARKS) else "a.safetensors")
    return read


def pickled(content: object, *, archive: bool = True) -> bytes:
    buffer = io.BytesIO()
    torch.save(content, buffer, _use_new_zipfile_serialization=archive)
    return buffer.getvalue()


TARGET = Target((pickled(WEIGHTS), pickled({"state_dict": WEIGHTS, "epoch": 3}), pickled(WEIGHTS, archive=False),
                 save(WEIGHTS)), reader,
                (b"cposix\nsystem\n", b"ctorch._utils\n_rebuild_tensor_v2\n", b"FloatStorage", b"data.pkl", b"storage",
                 b'"dtype":"F32"', b'"data_offsets":[0,24]', b"\x80\x02", b"R", b"b", b"q\x00", b"."))
