"""Manifests that are not of the files beside them: of another model, with files exchanged, or with a field changed.

Some of the changed ones have a seal that fits, as somebody would write who knows the format; what they say is checked.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from itertools import cycle, islice, product
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from benchmarks.faults.judging import verdict_of
from benchmarks.faults.outcome import Outcome, tally
from edgekp.artifact import GOLDEN
from edgekp.manifest import MANIFEST
from edgekp.sealed_json import SEAL, sealed

Fields = dict[str, Any]


@dataclass(frozen=True)
class Change:
    """What is done to a copy of an artifact.

    Attributes:
        fields: changes the manifest, which is sealed again, unless ``is_sealed`` is False.
        files: takes the copy's folder and that of another artifact.
    """

    name: str
    fields: Callable[[Fields], object] | None = None
    files: Callable[[Path, Path], object] | None = None
    is_sealed: bool = True


def taken(name: str) -> Callable[[Path, Path], object]:
    """A file of the other artifact in the place of ours."""
    return lambda folder, other: shutil.copy(other / name, folder / name)


def model_taken(folder: Path, other: Path) -> None:
    name = json.loads((folder / MANIFEST).read_bytes())["model"]["file"]
    taken(name)(folder, other)


def renamed_file(fields: Fields, name: str) -> None:
    old = fields["model"]["file"]
    for listed in (fields["files"], fields["sizes"]):
        listed[name] = listed.pop(old)
    fields["model"]["file"] = name


CHANGES = (
    Change("manifest of another model", files=taken(MANIFEST)),
    Change("weights of another model", files=model_taken),
    Change("no manifest", files=lambda folder, other: (folder / MANIFEST).unlink()),
    Change("no golden vectors", files=lambda folder, other: (folder / GOLDEN).unlink()),
    Change("an empty manifest", files=lambda folder, other: (folder / MANIFEST).write_bytes(b"")),
    Change("a list", files=lambda folder, other: (folder / MANIFEST).write_bytes(b"[]")),
    Change("a field changed by hand", lambda fields: fields["model"].update(precision="int8"), is_sealed=False),
    Change("a number changed by hand", lambda fields: fields["contract"]["input"].update(padding=2.0), is_sealed=False),
    Change("another format", lambda fields: fields.update(format="onnx-zoo")),
    Change("a later version", lambda fields: fields.update(version=3)),
    Change("no contract", lambda fields: fields.pop("contract")),
    Change("files as a list", lambda fields: fields.update(files=list(fields["files"]))),
    Change("no digest of the model", lambda fields: fields["files"].pop(fields["model"]["file"])),
    Change("a file too many", lambda fields: (fields["files"].update(extra="0" * 64), fields["sizes"].update(extra=1))),
    Change("another size", lambda fields: fields["sizes"].update({GOLDEN: 1})),
    Change("a model outside", lambda fields: renamed_file(fields, "../model.onnx")),
    Change("an absolute path", lambda fields: renamed_file(fields, "/etc/hostname")),
    Change("another input", lambda fields: fields["contract"]["input"].update(input_hw=[96, 96])),
    Change("another codec", lambda fields: fields["contract"]["codec"].update(name="simcc")),
    Change("an unknown field", lambda fields: fields["contract"].update(colour="RGB")),
)


def run(tries: int, seed: int) -> Outcome:
    """Every change of a checkpoint and of an ONNX export, opened as evaluation and commands open them."""
    with TemporaryDirectory() as scratch:
        chosen = islice(cycle(product(CHANGES, _pairs(Path(scratch), seed))), tries)
        return tally("mismatched-manifest", [_verdict(change, *pair) for change, pair in chosen])


def _pairs(folder: Path, seed: int) -> tuple[tuple[Path, Path], tuple[Path, Path]]:
    """Two checkpoints of the same network with other weights, and their exports."""
    import torch

    from deploy.export.checkpoint_to_artifact import export_checkpoint
    from deploy.export.target import target_named
    from tests import tiny
    from train.models.checkpoint import load_checkpoint, save_checkpoint

    for number in (0, 1):
        torch.manual_seed(seed + number)
        checkpoint = folder / f"checkpoint-{number}"
        checkpoint.mkdir()
        save_checkpoint(checkpoint, *tiny.network(tiny.recipe()))
        export_checkpoint(load_checkpoint(checkpoint), folder / f"onnx-{number}", target_named("cpu"))
    return ((folder / "checkpoint-0", folder / "checkpoint-1"), (folder / "onnx-0", folder / "onnx-1"))


def _verdict(change: Change, original: Path, other: Path) -> str:
    expected = _used(original)
    with TemporaryDirectory() as scratch:
        folder = Path(shutil.copytree(original, Path(scratch) / "artifact"))
        if change.files:
            change.files(folder, other)
        if change.fields:
            fields = json.loads((folder / MANIFEST).read_bytes())
            seal = fields.pop(SEAL)
            change.fields(fields)
            text = sealed(fields) if change.is_sealed else json.dumps(fields | {SEAL: seal}).encode()
            (folder / MANIFEST).write_bytes(text)
        return verdict_of(f"mismatched-manifest, {original.name}, {change.name}", lambda: _used(folder),
                          lambda found: found == expected)


def _used(folder: Path) -> bytes:
    """What the model says of one input, as bytes."""
    from deploy.runtime.session import open_session
    from edgekp.artifact import verify_artifact

    artifact = verify_artifact(folder)
    session = open_session(artifact)
    try:
        found = session.infer(np.random.default_rng(0).normal(size=(1, 3, 64, 64)).astype(np.float32))
    finally:
        session.close()
    return b"".join(found[name].tobytes() for name in sorted(found))
