"""Manifests that do not fit their folder, changed by accident or by hand, and files from elsewhere: all are refused."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from edgekp.artifact import GOLDEN, verify_artifact, write_artifact
from edgekp.codecs import build_codec
from edgekp.contract import Contract
from edgekp.errors import ArtifactError
from edgekp.manifest import MANIFEST
from edgekp.preprocess import InputSpec
from edgekp.skeletons import SKELETONS
from tests.manifests import Change, accept_files, rewrite_manifest

MODEL = "model.onnx"
Fields = dict[str, Any]
Damage = Callable[[Path, Path], Any]  # of an artifact's folder, with that of another artifact at hand


def written(folder: Path, input_hw: tuple[int, int], skeleton: str, model: bytes) -> Path:
    folder.mkdir()
    (folder / MODEL).write_bytes(model)
    contract = Contract(InputSpec(input_hw), build_codec("heatmap", input_hw, {}), SKELETONS[skeleton])
    write_artifact(folder, "onnx", contract, {"file": MODEL, "parameters": 7})
    return folder


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Two artifacts of different models. Not to be changed."""
    folder = tmp_path_factory.mktemp("artifacts")
    return (written(folder / "sound", (64, 48), "coco17", b"one model"),
            written(folder / "other", (96, 64), "lsp14", b"another"))


def by_accident(old: str, new: str) -> Damage:
    """A text in the manifest, and nothing else."""
    def damage(folder: Path, other: Path) -> None:
        text = (folder / MANIFEST).read_text()
        assert old in text
        (folder / MANIFEST).write_text(text.replace(old, new, 1))
    return damage


def by_hand(change: Change) -> Damage:
    """Fields of the manifest, and the digest that it states of itself."""
    return lambda folder, other: rewrite_manifest(folder, change)


def named(name: str) -> Damage:
    """A model's file of that name, with the digest of the file that is there."""
    def change(manifest: Fields) -> None:
        manifest["model"]["file"] = name
        for part in ("files", "sizes"):
            manifest[part][name] = manifest[part].pop(MODEL)
    return by_hand(change)


def taken(name: str, *, accepted: bool) -> Damage:
    """A file of the other artifact; the manifest says its digest where it was ``accepted``."""
    def damage(folder: Path, other: Path) -> None:
        shutil.copy(other / name, folder / name)
        if accepted:
            accept_files(folder)
    return damage


def linked(target: str) -> Damage:
    def damage(folder: Path, other: Path) -> None:
        (folder / MODEL).unlink()
        (folder / MODEL).symlink_to(target)
    return damage


def contract_taken(folder: Path, other: Path) -> None:
    contract = json.loads((other / MANIFEST).read_bytes())["contract"]
    rewrite_manifest(folder, lambda manifest: manifest.update(contract=contract))


def of_a_terabyte(name: str) -> Damage:
    """It takes no room on the disk."""
    return lambda folder, other: os.truncate(folder / name, 1 << 40)


DAMAGES: dict[str, Damage] = {
    "a standard deviation was changed": by_accident("58.395", "58.396"),
    "the colour order was changed": by_accident('"RGB"', '"BGR"'),
    "an option of the codec was changed": by_accident('"name": "heatmap"', '"name": "udp"'),
    "a fact of the model was changed": by_accident('"parameters": 7', '"parameters": 8'),
    "a field was renamed": by_accident('"parameters"', '"parameterz"'),
    "a key stands there twice": by_accident('"kind": "onnx"', '"kind": "tflite",\n "kind": "onnx"'),
    "NaN": by_accident('"parameters": 7', '"parameters": NaN'),
    "a number beyond float64": by_accident('"parameters": 7', '"parameters": 1e999'),
    "its digest is gone": by_accident('"sha256"', '"sha255"'),
    "another kind": by_hand(lambda m: m.update(kind=["onnx"])),
    "no kind": by_hand(lambda m: m.pop("kind")),
    "another format": by_hand(lambda m: m.update(format="edgekp-latency-ledger")),
    "a future version": by_hand(lambda m: m.update(version=99)),
    "a version that is a text": by_hand(lambda m: m.update(version="2")),
    "a version that is true": by_hand(lambda m: m.update(version=True)),
    "an unknown field": by_hand(lambda m: m.update(author="me")),
    "an unknown field of the contract": by_hand(lambda m: m["contract"]["input"].update(gamma=2.2)),
    "a contract that is a list": by_hand(lambda m: m.update(contract=[])),
    "a model that is a list of pairs": by_hand(lambda m: m.update(model=[["file", MODEL]])),
    "no contract": by_hand(lambda m: m.pop("contract")),
    "a skeleton that is none": by_hand(lambda m: m["contract"].update(skeleton=None)),
    "half a pixel of input": by_hand(lambda m: m["contract"]["input"].update(input_hw=[64.5, 48])),
    "an input of 10 million pixels a side": by_hand(lambda m: m["contract"]["input"].update(input_hw=[10**7] * 2)),
    "a limb to a keypoint that is not there": by_hand(lambda m: m["contract"]["skeleton"]["limbs"].append([0, 99])),
    "the contract of another artifact": contract_taken,
    "the manifest of another artifact": taken(MANIFEST, accepted=False),
    "the model of another artifact": taken(MODEL, accepted=False),
    "golden vectors of another artifact": taken(GOLDEN, accepted=False),
    "golden vectors of another artifact, accepted": taken(GOLDEN, accepted=True),
    "a digest that is no digest": by_hand(lambda m: m["files"].update({MODEL: "0" * 63})),
    "a size that does not fit": by_hand(lambda m: m["sizes"].update({MODEL: 10})),
    "no sizes": by_hand(lambda m: m.pop("sizes")),
    "no model among the files": by_hand(lambda m: [m[part].pop(MODEL) for part in ("files", "sizes")]),
    "a file above the folder": named(f"../other/{MODEL}"),
    "a file by its full path": named("/etc/hostname"),
    "a link to another file": linked(GOLDEN),
    "a link to a device": linked("/dev/zero"),
    "a model of a terabyte": of_a_terabyte(MODEL),
    "a manifest of a terabyte": of_a_terabyte(MANIFEST),
    "a manifest nested 10,000 deep": lambda folder, other: (folder / MANIFEST).write_text("[" * 10**4 + "]" * 10**4),
}


@pytest.mark.parametrize("name", DAMAGES)
def test_it_is_refused_in_one_line(tmp_path: Path, pair: tuple[Path, Path], name: str) -> None:
    sound, other = pair
    folder = Path(shutil.copytree(sound, tmp_path / "model"))
    verify_artifact(folder)
    DAMAGES[name](folder, other)
    with pytest.raises(ArtifactError) as refusal:
        verify_artifact(folder)
    assert str(refusal.value).startswith(str(folder))
    assert "\n" not in str(refusal.value)
