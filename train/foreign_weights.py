"""Weights of other projects as a beginning: what fits a network by name and shape is taken, the rest is said.

A .pt file is a program for Python's unpickler. It is read with ``weights_only=True``, which runs none of it, after its
sizes were checked; there is no other way in. Knows no architecture but that of the network it is given.
"""

from __future__ import annotations

import pickle
import re
from pathlib import Path
from typing import Any
from zipfile import ZIP_STORED, BadZipFile, ZipFile

import torch
from safetensors import SafetensorError
from safetensors.torch import load
from torch import Tensor, nn

from edgekp.atomic import sha256
from edgekp.errors import ArtifactError
from edgekp.plain_file import open_plain, read_plain
from edgekp.stage import say

LARGEST_BYTES = 4 << 30
WRAPPERS = ("state_dict", "model", "model_state_dict", "net", "ema", "weights")  # what training scripts save them under
PREFIXES = ("module.", "model.", "_orig_mod.")  # of nn.DataParallel, of wrapping classes, of torch.compile
ZIP_MARK = b"PK\3\4"
ASKED_FOR = re.compile(r"(?:GLOBAL|function) <?(?:built-in function )?([A-Za-z_][\w.]*\w)")


def begin_with(net: nn.Module, path: Path) -> None:
    """Copy into ``net`` what a file has for it; what stays as it was is said.

    Raises:
        ArtifactError: The file cannot be read safely, or nothing in it fits.
    """
    found = read_weights(path)
    wanted = net.state_dict()
    fitting = {name: tensor for name, tensor in found.items() if name in wanted and _fits(tensor, wanted[name])}
    if not any(name in dict(net.named_parameters()) for name in fitting):
        raise ArtifactError(f"{path}: none of its {len(found)} weights fits the model by name and shape; it has "
                            f"{_first(list(found))}, the model {_first(list(wanted))}; choose a model to fit")
    strange = next((name for name, tensor in fitting.items() if not torch.isfinite(tensor).all()), None)
    if strange is not None:
        raise ArtifactError(f"{path}: '{strange}' holds NaN or infinity; its training has failed, take another file")
    net.load_state_dict(fitting, strict=False)
    say(f"train: begins with {len(fitting)} of the model's {len(wanted)} weights from {path}")
    _say_rest("not in the file, left as drawn", [name for name in wanted if name not in fitting])
    _say_rest("in the file, but not of the model's names and shapes", [name for name in found if name not in fitting])


def digest_of(path: Path) -> str:
    """Of the file, for the key of a stage.

    Raises:
        ArtifactError: It is not there.
    """
    if not path.is_file():
        raise ArtifactError(f"{path}: no such file; train.init names a .safetensors, .pt or .pth file, from the "
                            "current folder")
    return sha256(path)


def read_weights(path: Path) -> dict[str, Tensor]:
    """The tensors of a .safetensors, .pt or .pth file by name, without the prefixes of wrappers.

    Raises:
        ArtifactError: Missing, too large, damaged, or holding something else than weights.
    """
    try:
        content = _safetensors(path) if path.suffix == ".safetensors" else _pickled(path)
    except OSError as error:
        raise ArtifactError(f"{path}: cannot be read ({error.strerror or error}); check train.init") from error
    while isinstance(content, dict) and not any(isinstance(value, Tensor) for value in content.values()):
        content = next((content[name] for name in WRAPPERS if name in content), None)
    if not isinstance(content, dict):
        raise ArtifactError(f"{path}: holds no weights by name; save them so: torch.save(net.state_dict(), PATH)")
    return {_plain_name(name): tensor for name, tensor in content.items()
            if isinstance(name, str) and isinstance(tensor, Tensor)}


def _safetensors(path: Path) -> dict[str, Tensor]:
    try:
        return load(read_plain(path, LARGEST_BYTES))
    except (SafetensorError, ValueError, KeyError) as error:
        raise ArtifactError(f"{path}: no safetensors file, or a damaged one ({error}); fetch it again") from error


def _pickled(path: Path) -> Any:
    """What ``weights_only=True`` lets through; every refusal of torch's becomes one line."""
    with open_plain(path) as file:
        _check_sizes(path, file.seek(0, 2))
        file.seek(0)
        try:
            return torch.load(file, map_location="cpu", weights_only=True)
        except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError, LookupError, TypeError, AttributeError,
                AssertionError, MemoryError, RecursionError, OverflowError) as error:
            asked = ASKED_FOR.search(str(error))  # the rest of torch's sentence says how to run what the file asks for
            reason = f"it asks for {asked[1]}" if asked else type(error).__name__
            raise ArtifactError(f"{path}: refused, for it is damaged or more than weights, and more may be harmful "
                                f"({reason}); in the project it is from, save torch.save(net.state_dict(), PATH) or "
                                "a .safetensors file") from error


def _check_sizes(path: Path, size_bytes: int) -> None:
    """Refuse a file, or an archive's parts, larger than they may be; torch stores without packing."""
    if size_bytes > LARGEST_BYTES:
        raise ArtifactError(f"{path}: {size_bytes >> 20} MB, at most {LARGEST_BYTES >> 20} MB are read")
    with open_plain(path) as file:
        if file.read(len(ZIP_MARK)) != ZIP_MARK:
            return
        try:
            parts = ZipFile(file).infolist()
        except (BadZipFile, ValueError, NotImplementedError) as error:
            raise ArtifactError(f"{path}: a damaged archive ({error}); fetch it again") from error
    if any(part.compress_type != ZIP_STORED for part in parts) or sum(part.file_size for part in parts) > size_bytes:
        raise ArtifactError(f"{path}: an archive whose parts unpack to more than it holds; torch writes none")


def _plain_name(name: str) -> str:
    for prefix in PREFIXES:
        name = name.removeprefix(prefix)
    return name


def _fits(tensor: Tensor, wanted: Tensor) -> bool:
    return tensor.shape == wanted.shape and tensor.is_floating_point() == wanted.is_floating_point() \
        and tensor.layout == torch.strided and not tensor.is_quantized and not tensor.is_meta


def _say_rest(what: str, names: list[str]) -> None:
    if names:
        say(f"train: {len(names)} {what}: {_first(names)}")


def _first(names: list[str]) -> str:
    return ", ".join(names[:3]) + (" and others" if len(names) > 3 else "") if names else "none"
