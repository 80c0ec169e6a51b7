"""One flipped bit anywhere in an artifact folder: refused, or no difference to any reader."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest

from edgekp.artifact import GOLDEN, open_artifact, write_artifact
from edgekp.codecs import build_codec
from edgekp.contract import Contract
from edgekp.errors import ArtifactError
from edgekp.manifest import MANIFEST, parse_manifest
from edgekp.preprocess import InputSpec
from edgekp.skeletons import SKELETONS

CONTRACT = Contract(InputSpec((32, 24)), build_codec("heatmap", (32, 24), {}), SKELETONS["coco17"])


@pytest.fixture
def folder(tmp_path: Path, rng: np.random.Generator) -> Path:
    (tmp_path / "model.tflite").write_bytes(rng.bytes(4096))
    write_artifact(tmp_path, "tflite", CONTRACT, {"file": "model.tflite", "scale": 1e-05, "author": "Zoë"})
    return tmp_path


def flipped(data: bytes, bit: int) -> bytes:
    return data[:bit // 8] + bytes([data[bit // 8] ^ 1 << bit % 8]) + data[bit // 8 + 1:]


def test_a_thousand_flips_of_a_manifest_are_refused_or_change_nothing(folder: Path, rng: np.random.Generator) -> None:
    """1e-05 and 1E-05 are the same number: of each other flip the manifest's own digest tells."""
    path, accepted = folder / MANIFEST, []
    data = path.read_bytes()
    for bit in rng.choice(8 * len(data), 1000, replace=False):
        with suppress(ArtifactError):
            accepted.append(parse_manifest(path, flipped(data, bit)))
    assert all(manifest == parse_manifest(path, data) for manifest in accepted)
    assert len(accepted) <= 3


@pytest.mark.parametrize("name", ["model.tflite", GOLDEN])
def test_flips_and_cuts_of_a_file_are_refused(folder: Path, rng: np.random.Generator, name: str) -> None:
    data = (folder / name).read_bytes()
    for bit in rng.choice(8 * len(data), 50, replace=False):
        (folder / name).write_bytes(flipped(data, bit))
        with pytest.raises(ArtifactError, match=f"{name}: sha256"):
            open_artifact(folder)
    for length in rng.choice(len(data), 20, replace=False):
        (folder / name).write_bytes(data[:length])
        with pytest.raises(ArtifactError, match=f"{name}: sha256 differs: {length} bytes"):
            open_artifact(folder)
    (folder / name).write_bytes(data)
    open_artifact(folder)
