"""Weights of other projects as a beginning: what fits a network by name and shape is taken, the rest is said.

A .pt file is a program for Python's unpickler. It is read with ``weights_only=True``, which runs none of it, after its
sizes were checked, and first in a process that may end; there is no other way in. Knows no architecture but that of the
network it is given.
"""

from __future__ import annotations

import re
from io import BytesIO
from pathlib import Path
from typing import Any
from zipfile import ZIP_STORED, BadZipFile, ZipFile

import torch
from safetensors import SafetensorError
from safetensors.torch import load
from torch import Tensor, nn

from edgekp.atomic import sha256
from edgekp.errors import ArtifactError
from edgekp.plain_file import read_plain
from edgekp.stage import say
from edgekp.trial import survive

LARGEST_BYTES = 4 << 30
DEEPEST = 8  # dictionaries around the weights; a dictionary may hold itself
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
        ArtifactError: Missing, too large, damaged, harmful, or holding something else than weights.
    """
    try:
        data = read_plain(path, LARGEST_BYTES)
    except OSError as error:
        raise ArtifactError(f"{path}: cannot be read ({error.strerror or error}); check train.init") from error
    survive("train.foreign_trial", data, str(path))
    return weights_in(data, str(path))


def weights_in(data: bytes, where: str) -> dict[str, Tensor]:
    """The tensors in the bytes of a file that ``where`` names.

    Raises:
        ArtifactError: Damaged, or holding something else than weights.
    """
    content = _safetensors(data, where) if where.endswith(".safetensors") else _pickled(data, where)
    for _ in range(DEEPEST):
        if isinstance(content, dict) and not _has_tensors(content):
            content = next((content[name] for name in WRAPPERS if name in content), None)
    if not isinstance(content, dict) or not _has_tensors(content):
        raise ArtifactError(f"{where}: holds no weights by name; save them so: torch.save(net.state_dict(), PATH)")
    return {_plain_name(name): tensor for name, tensor in content.items()
            if isinstance(name, str) and isinstance(tensor, Tensor)}


def _has_tensors(content: dict[Any, Any]) -> bool:
    return any(isinstance(value, Tensor) for value in content.values())


def _safetensors(data: bytes, where: str) -> dict[str, Tensor]:
    try:
        return load(data)
    except (SafetensorError, ValueError, KeyError) as error:
        raise ArtifactError(f"{where}: no safetensors file, or a damaged one ({error}); fetch it again") from error


def _pickled(data: bytes, where: str) -> Any:
    """What ``weights_only=True`` lets through; every refusal of torch's becomes one line."""
    _check_sizes(data, where)
    try:
        return torch.load(BytesIO(data), map_location="cpu", weights_only=True)
    except Exception as error:  # the unpickler fails with whatever it meets, struct.error included
        asked = ASKED_FOR.search(str(error))  # the rest of torch's sentence says how to run what the file asks for
        reason = f"it asks for {asked[1]}" if asked else type(error).__name__
        raise ArtifactError(f"{where}: refused, for it is damaged or more than weights, and more may be harmful "
                            f"({reason}); in the project it is from, save torch.save(net.state_dict(), PATH) or "
                            "a .safetensors file") from error


def _check_sizes(data: bytes, where: str) -> None:
    """Refuse an archive whose parts unpack to more than it holds; torch stores without packing."""
    if not data.startswith(ZIP_MARK):
        return
    try:
        parts = ZipFile(BytesIO(data)).infolist()
    except (BadZipFile, ValueError, NotImplementedError) as error:
        raise ArtifactError(f"{where}: a damaged archive ({error}); fetch it again") from error
    if any(part.compress_type != ZIP_STORED for part in parts) or sum(part.file_size for part in parts) > len(data):
        raise ArtifactError(f"{where}: an archive whose parts unpack to more than it holds; torch writes none")


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
