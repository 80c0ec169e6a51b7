"""The contract and its golden vectors: whatever field is changed, somebody notices before a model runs on it."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgekp.artifact import open_artifact, require_same_contract, verify_artifact, write_artifact
from edgekp.codecs import build_codec
from edgekp.contract import Contract, contract_from_json
from edgekp.errors import ArtifactError, EdgekpError
from edgekp.golden import check_golden, make_golden
from edgekp.preprocess import InputSpec, preprocess, transform
from edgekp.skeletons import SKELETONS
from tests.manifests import rewrite_manifest

POSE = Contract(InputSpec((128, 96)), build_codec("heatmap", (128, 96), {}), SKELETONS["lsp14"])
FACE = Contract(InputSpec((112, 112), mean=(127.5,) * 3, std=(127.5,) * 3, padding=1.1, pad_value=114),
                build_codec("regression", (112, 112), {}), SKELETONS["ibug68"])

Fields = dict[str, Any]
INPUT_CHANGES: dict[str, Callable[[Fields], Any]] = {
    "input_hw": lambda f: f["input"].update(input_hw=[64, 64]),
    "color": lambda f: f["input"].update(color="BGR"),
    "mean": lambda f: f["input"]["mean"].__setitem__(2, f["input"]["mean"][2] + 1),
    "mean in the other order": lambda f: f["input"].update(mean=[120.0, 110.0, 100.0]),
    "std": lambda f: f["input"]["std"].__setitem__(0, f["input"]["std"][0] + 1),
    "resize": lambda f: f["input"].update(resize="nearest"),
    "align": lambda f: f["input"].update(align="corners"),
    "padding": lambda f: f["input"].update(padding=f["input"]["padding"] + 0.01),
    "pad_value": lambda f: f["input"].update(pad_value=f["input"]["pad_value"] + 1),
    "skeleton.name": lambda f: f["skeleton"].update(name="other"),
    "skeleton.keypoints": lambda f: f["skeleton"]["keypoints"].__setitem__(
        slice(0, 2), f["skeleton"]["keypoints"][1::-1]),
    "skeleton.flip_pairs": lambda f: f["skeleton"]["flip_pairs"].pop(),
    "skeleton.limbs": lambda f: f["skeleton"]["limbs"].pop(),
    "skeleton.sigmas": lambda f: f["skeleton"]["sigmas"].__setitem__(3, f["skeleton"]["sigmas"][3] + 0.001),
}
POSE_CHANGES = INPUT_CHANGES | {
    "codec.name": lambda f: f.update(codec={"name": "regression"}),
    "codec.stride": lambda f: f["codec"].update(stride=8),
    "codec.sigma": lambda f: f["codec"].update(sigma=2.1),
    "codec.refine": lambda f: f["codec"].update(refine="none"),
    "codec.peaks": lambda f: f["codec"].update(peaks=3),
    "skeleton.normaliser": lambda f: f["skeleton"].update(normaliser=[2, 3]),
}
FACE_CHANGES = INPUT_CHANGES | {
    "codec.name": lambda f: f.update(codec={"name": "heatmap"}),
    "skeleton.normaliser": lambda f: f["skeleton"].update(normaliser=[39, 42]),
}
CASES = [(POSE, name, change) for name, change in POSE_CHANGES.items()] + [
    (FACE, name, change) for name, change in FACE_CHANGES.items()]
each_change = pytest.mark.parametrize(("contract", "name", "change"), CASES,
                                      ids=lambda value: value if isinstance(value, str) else "")


def leaves(fields: Fields) -> set[str]:
    return {f"{section}.{name}" for section, entries in fields.items() for name in entries}


def write_model(folder: Path, contract: Contract) -> Path:
    folder.mkdir()
    (folder / "model.bin").write_bytes(b"weights")
    write_artifact(folder, "checkpoint", contract, {"file": "model.bin"})
    return folder


def test_every_field_of_the_contract_is_changed_below() -> None:
    changed = {name if "." in name else f"input.{name}" for name in POSE_CHANGES if " " not in name}
    assert changed == leaves(POSE.to_json())


@pytest.mark.parametrize("contract", [POSE, FACE])
def test_an_unchanged_contract_reproduces_its_golden_vectors(contract: Contract) -> None:
    assert check_golden(contract_from_json(json.loads(json.dumps(contract.to_json()))), make_golden(contract)) == []


@each_change
def test_golden_vectors_catch_a_change_of(contract: Contract, name: str, change: Callable[[Fields], Any]) -> None:
    fields = json.loads(json.dumps(contract.to_json()))
    change(fields)
    assert check_golden(contract_from_json(fields), make_golden(contract)), f"nobody noticed {name}"


@each_change
def test_an_edited_manifest_is_refused(tmp_path: Path, contract: Contract, name: str,
                                       change: Callable[[Fields], Any]) -> None:
    folder = write_model(tmp_path / "model", contract)
    verify_artifact(folder)
    rewrite_manifest(folder, lambda manifest: change(manifest["contract"]))
    with pytest.raises(ArtifactError):
        verify_artifact(folder)


@each_change
def test_two_models_whose_contracts_differ_are_told_apart_by_field(
        tmp_path: Path, contract: Contract, name: str, change: Callable[[Fields], Any]) -> None:
    fields = json.loads(json.dumps(contract.to_json()))
    change(fields)
    mine = open_artifact(write_model(tmp_path / "mine", contract))
    theirs = open_artifact(write_model(tmp_path / "theirs", contract_from_json(fields)))
    field = name.partition(" ")[0]
    with pytest.raises(ArtifactError, match=field if "." in field else f"input.{field}"):
        require_same_contract(mine, theirs)


def test_the_same_contract_fits_itself(tmp_path: Path) -> None:
    require_same_contract(open_artifact(write_model(tmp_path / "a", POSE)),
                          open_artifact(write_model(tmp_path / "b", POSE)))


@pytest.mark.parametrize("damage", [
    lambda contract: contract.pop("input"),
    lambda contract: contract["input"].pop("input_hw"),
    lambda contract: contract["input"].update(gamma=2.2),
    lambda contract: contract["input"].update(color="GRB"),
    lambda contract: contract["input"].update(resize="cubic"),
    lambda contract: contract["codec"].update(name="heat"),
    lambda contract: contract["codec"].update(sigma=-1),
    lambda contract: contract.update(skeleton=None),
])
def test_a_contract_with_a_field_missing_or_unknown_is_refused(
        tmp_path: Path, damage: Callable[[Fields], Any]) -> None:
    folder = write_model(tmp_path / "model", POSE)
    rewrite_manifest(folder, lambda manifest: damage(manifest["contract"]))
    with pytest.raises(EdgekpError, match=r"manifest\.json: unusable field"):
        open_artifact(folder)


def test_golden_vectors_of_another_codec_are_named() -> None:
    face_codec = replace(POSE, codec=build_codec("regression", (128, 96), {}))
    assert "output_coordinates" in check_golden(face_codec, make_golden(POSE))[0]


def test_golden_vectors_are_small_and_the_same_each_time() -> None:
    first, second = make_golden(POSE), make_golden(POSE)
    for name, vector in first.items():
        np.testing.assert_array_equal(vector, second[name])
    assert sum(vector.nbytes for vector in first.values()) < 500_000


def test_interpret_leads_keypoints_back_to_image_pixels(rng: np.random.Generator) -> None:
    image = rng.integers(0, 256, (200, 200, 3), dtype=np.uint8)
    bbox = np.array([50.0, 40.0, 60.0, 90.0])
    keypoints_xy = rng.uniform((60, 50), (100, 120), (14, 2))
    tensor, crop_to_image = POSE.prepare(image, bbox)
    np.testing.assert_array_equal(tensor, preprocess(image, bbox, POSE.input)[0])
    in_crop_xy = np.linalg.solve(crop_to_image[:, :2], (keypoints_xy - crop_to_image[:, 2]).T).T
    np.testing.assert_allclose(transform(in_crop_xy, crop_to_image), keypoints_xy)
    outputs = POSE.codec.encode(in_crop_xy[None], np.full((1, 14), 2)).arrays
    prediction, = POSE.interpret(outputs, crop_to_image[None])
    # 0.002 cells of 4 input pixels (see test_codecs), at 0.88 image pixels each; near the border up to 0.1 cells
    np.testing.assert_allclose(prediction.keypoints_xy, keypoints_xy, atol=0.4)
    assert prediction.score == pytest.approx(prediction.scores.mean())
