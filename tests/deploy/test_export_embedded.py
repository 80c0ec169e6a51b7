"""Files with preprocessing and decoding in them say what the contract says, for every codec that can; others refuse."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from torch import nn

from deploy.export import embed
from deploy.export.checkpoint_to_artifact import export_checkpoint
from deploy.export.embed import KEYPOINTS_NAME, Preprocess
from deploy.export.embedded_decode import DECODERS, decoder_of
from deploy.export.target import target_named
from deploy.export.verify import embedded_session
from deploy.runtime.session import open_session
from edgekp.artifact import Artifact, open_artifact
from edgekp.codecs import CODECS, Codec, build_codec
from edgekp.errors import ArtifactError, RecipeError
from edgekp.preprocess import InputSpec, normalise
from edgekp.recipe import CodecChoice, Export
from edgekp.sample import Float
from tests import tiny
from train.models.checkpoint import Checkpoint, load_checkpoint, save_checkpoint

MakeCheckpoint = Callable[[str, bool], Checkpoint]
BOTH = ("preprocess", "decode")
INPUT_HW = (64, 96)  # tell rows and columns apart
SURE = (2, 17)  # instances and keypoints
OPTIONS: dict[str, tuple[str, dict[str, Any]]] = {
    "dark": ("heatmap", {}), "dark, narrow": ("heatmap", {"sigma": 1.2}),
    "quadratic": ("heatmap", {"refine": "quadratic"}), "quarter": ("heatmap", {"refine": "quarter"}),
    "none": ("heatmap", {"refine": "none"}), "stride 8": ("heatmap", {"stride": 8}),
    "too small for dark": ("heatmap", {"stride": 16, "sigma": 0.7}),
    "offset": ("offset", {}), "simcc": ("simcc", {}), "simcc, split 3": ("simcc", {"split": 3.0}),
    "integral": ("integral", {}), "regression": ("regression", {})}
CANNOT = {"msra", "udp", "udp_combined", "megvii"}


def codec_of(name: str) -> Codec:
    codec, options = OPTIONS[name]
    return build_codec(codec, INPUT_HW, options)


def outputs_of(codec: Codec, rng: np.random.Generator) -> dict[str, Float]:
    """What a network might say: targets, some outside or near the border, with noise."""
    xy = rng.uniform((-6, -6), (INPUT_HW[1] + 6, INPUT_HW[0] + 6), (*SURE, 2))
    arrays = codec.encode(xy, np.full(SURE, 2)).arrays
    return {name: (array + rng.normal(0, 0.02, array.shape)).astype(np.float32) for name, array in arrays.items()}


def decoded(codec: Codec, outputs: dict[str, Float]) -> Float:
    with torch.no_grad():
        return np.asarray(decoder_of(codec)(*(torch.from_numpy(outputs[name]) for name in codec.outputs)).numpy())


@pytest.mark.parametrize("name", OPTIONS)
def test_the_module_decodes_what_the_codec_decodes(name: str, rng: np.random.Generator) -> None:
    """A tenth of the promised 0.01 px: float32 holds a pixel to 1e-5, and DARK adds a few such errors."""
    codec = codec_of(name)
    outputs = outputs_of(codec, rng)
    found, (keypoints_xy, scores) = decoded(codec, outputs), codec.decode(outputs)
    np.testing.assert_allclose(found[..., :2], keypoints_xy, atol=1e-3)
    np.testing.assert_allclose(found[..., 2], scores, atol=1e-6)


@pytest.mark.parametrize("name", ["dark", "dark, narrow", "quadratic", "quarter"])
def test_maps_without_a_clear_peak_are_refined_alike(name: str, rng: np.random.Generator) -> None:
    """Where DARK's step is too long, both stay at the cell; others are flat, hence all of the 0.01 px."""
    codec = codec_of(name)
    outputs = {"heatmaps": rng.uniform(0, 1, outputs_of(codec, rng)["heatmaps"].shape).astype(np.float32)}
    np.testing.assert_allclose(decoded(codec, outputs)[..., :2], codec.decode(outputs)[0], atol=0.01)


def test_every_codec_is_either_decoded_or_refused() -> None:
    assert {CODECS[codec] for codec, _ in OPTIONS.values()} == set(DECODERS)
    assert {CODECS[name] for name in CANNOT} | set(DECODERS) == set(CODECS.values())


@pytest.mark.parametrize("name", ["dark", "quadratic", "quarter", "none", "offset", "simcc"])
def test_ties_go_to_the_lowest_index_and_nan_never_wins(name: str, rng: np.random.Generator) -> None:
    codec = codec_of(name)
    outputs = outputs_of(codec, rng)
    for output in codec.outputs if name == "simcc" else codec.outputs[:1]:
        maps = outputs[output].reshape(*SURE, -1)
        maps[0, 0] = np.nan
        maps[0, 1] = 0.25
        maps[0, 2, 7::11] = maps.max() + 1
        maps[0, 3, ::2] = np.nan
        maps[0, 4] = -np.inf
    found, (keypoints_xy, scores) = decoded(codec, outputs), codec.decode(outputs)
    np.testing.assert_allclose(found[..., :2], keypoints_xy, atol=1e-3)
    np.testing.assert_allclose(found[..., 2], scores, atol=1e-6)
    assert found[0, 0, 2] == found[0, 4, 2] == 0


def test_logits_and_offsets_that_are_not_finite_have_no_weight(rng: np.random.Generator) -> None:
    integral, offset = codec_of("integral"), codec_of("offset")
    logits = outputs_of(integral, rng)
    logits["heatmaps"][0, 0], logits["heatmaps"][0, 1, 2:5], logits["heatmaps"][0, 2, 0] = np.nan, np.inf, -np.inf
    both = outputs_of(offset, rng)
    both["offsets"][0, :6] = np.nan
    both["offsets"][1, :6] = np.inf
    for codec, outputs in ((integral, logits), (offset, both)):
        keypoints_xy, scores = codec.decode(outputs)
        np.testing.assert_allclose(decoded(codec, outputs)[..., :2], keypoints_xy, atol=1e-3)
        np.testing.assert_allclose(decoded(codec, outputs)[..., 2], scores, atol=1e-6)


@pytest.mark.parametrize("color", ["RGB", "BGR"])
def test_the_module_prepares_what_the_contract_prepares(color: Any, rng: np.random.Generator) -> None:
    spec = InputSpec(INPUT_HW, color, mean=(10.0, 120.0, 200.0), std=(30.0, 60.0, 90.0))
    crops_rgb = rng.integers(0, 256, (3, *INPUT_HW, 3), dtype=np.uint8)
    found = Preprocess(spec)(torch.from_numpy(crops_rgb[..., ::-1].copy())).numpy()
    np.testing.assert_array_equal(found, np.stack([normalise(one, spec) for one in crops_rgb]))


def exported(folder: Path, recipe: tiny.Recipe, parts: tuple[str, ...]) -> Artifact:
    folder.mkdir()
    save_checkpoint(folder, *tiny.network(recipe))
    export_checkpoint(load_checkpoint(folder), folder / "out", target_named("cpu"), embed=parts)
    return open_artifact(folder / "out")


def shown(artifact: Artifact, rng: np.random.Generator) -> tuple[Float, Float]:
    """Crops as a camera gives them, and as the contract prepares them."""
    spec = artifact.contract.input
    crops_bgr = rng.integers(0, 256, (3, *spec.input_hw, 3), dtype=np.uint8)
    return crops_bgr, np.stack([normalise(np.ascontiguousarray(one[..., ::-1]), spec) for one in crops_bgr])


NETWORKS = {"heatmap": tiny.HRNET, "offset": tiny.HRNET, "simcc": tiny.HRNET, "integral": tiny.HRNET,
            "regression": tiny.FACENET}


@pytest.mark.slow
@pytest.mark.parametrize("codec", NETWORKS)
def test_a_file_takes_crops_and_says_keypoints(codec: str, tmp_path: Path, rng: np.random.Generator) -> None:
    artifact = exported(tmp_path / "c", tiny.recipe((64, 64), NETWORKS[codec], codec), BOTH)
    assert artifact.model["embedded"] == list(BOTH)
    assert artifact.model["embedded_file"] in artifact.files
    crops_bgr, inputs = shown(artifact, rng)
    found = embedded_session(artifact).infer(crops_bgr)
    assert list(found) == [KEYPOINTS_NAME]
    keypoints_xy, scores = artifact.contract.codec.decode(open_session(artifact).infer(inputs))  # type: ignore[misc]
    np.testing.assert_allclose(found[KEYPOINTS_NAME][..., :2], keypoints_xy, atol=1e-3)
    np.testing.assert_allclose(found[KEYPOINTS_NAME][..., 2], scores, atol=1e-5)
    graph = onnx.load(artifact.folder / "model_embedded.onnx").graph
    assert [dim.dim_param or dim.dim_value for dim in graph.input[0].type.tensor_type.shape.dim] == ["batch", 64, 64, 3]
    assert graph.input[0].type.tensor_type.elem_type == onnx.TensorProto.UINT8


@pytest.mark.slow
@pytest.mark.parametrize("target", ["cpu", "jetson"])
def test_a_rounded_network_keeps_its_grid_between_them(target: str, tmp_path: Path, checkpoint_of: MakeCheckpoint,
                                                       rng: np.random.Generator) -> None:
    export_checkpoint(checkpoint_of("hrnet", True), tmp_path / "out", target_named(target), embed=BOTH)
    artifact = open_artifact(tmp_path / "out")
    plain, whole = (onnx.load(artifact.folder / name).graph for name in ("model.onnx", "model_embedded.onnx"))
    pairs = [sum(node.op_type == "QuantizeLinear" for node in graph.node) for graph in (plain, whole)]
    assert pairs[0] == pairs[1] > 10
    crops_bgr, inputs = shown(artifact, rng)
    keypoints_xy, _ = artifact.contract.codec.decode(open_session(artifact).infer(inputs))  # type: ignore[misc]
    found = embedded_session(artifact).infer(crops_bgr)[KEYPOINTS_NAME][..., :2]
    np.testing.assert_allclose(found, keypoints_xy, atol=1e-3)


@pytest.mark.parametrize("parts", [("preprocess",), ("decode",)])
def test_each_part_alone(parts: tuple[str, ...], tmp_path: Path, rng: np.random.Generator) -> None:
    artifact = exported(tmp_path / "c", tiny.recipe(), parts)
    crops_bgr, inputs = shown(artifact, rng)
    found = embedded_session(artifact).infer(crops_bgr if parts == ("preprocess",) else inputs)
    plain = open_session(artifact).infer(inputs)
    if parts == ("preprocess",):
        np.testing.assert_array_equal(found["heatmaps"], plain["heatmaps"])
    else:
        keypoints_xy, _ = artifact.contract.codec.decode(plain)  # type: ignore[misc]
        np.testing.assert_allclose(found[KEYPOINTS_NAME][..., :2], keypoints_xy, atol=1e-3)


def test_visibility_becomes_a_probability_beside_the_keypoints(tmp_path: Path, rng: np.random.Generator) -> None:
    recipe = tiny.recipe(model=replace(tiny.HRNET, visibility=True))
    artifact = exported(tmp_path / "c", recipe, BOTH)
    crops_bgr, inputs = shown(artifact, rng)
    found = embedded_session(artifact).infer(crops_bgr)
    assert list(found) == [KEYPOINTS_NAME, "visibility"]
    visible = artifact.contract.visible(open_session(artifact).infer(inputs))  # type: ignore[union-attr]
    np.testing.assert_allclose(found["visibility"], visible, atol=1e-6)


@pytest.mark.parametrize(("part", "change"), [
    ("preprocess", lambda module: setattr(module.before, "order", [0, 1, 2])),
    ("preprocess", lambda module: module.before.mean.add_(40)),
    ("decode", lambda module: setattr(module.behind.cells, "origin", module.behind.cells.origin + 0.5)),
    ("decode", lambda module: setattr(module.behind, "refine", "none"))])
@torch.no_grad()
def test_a_file_that_says_something_else_is_refused(
        part: str, change: Callable[[Any], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Changed(embed.Embedded):
        def __init__(self, *arguments: Any) -> None:
            super().__init__(*arguments)
            change(self)

    monkeypatch.setattr("deploy.export.checkpoint_to_artifact.Embedded", Changed)
    recipe = replace(tiny.recipe(), codec=CodecChoice("heatmap", {"refine": "quadratic"}))
    with pytest.raises(ArtifactError, match=r"differs from the network|of the keypoints lie more than 0\.01 px"):
        exported(tmp_path / "c", recipe, (part,))


@pytest.mark.parametrize(("codec", "options"), [("heatmap", {"peaks": 2}), *((name, {}) for name in sorted(CANNOT))])
def test_what_cannot_be_decoded_in_a_graph_is_refused_in_one_line(codec: str, options: dict[str, Any]) -> None:
    with pytest.raises(RecipeError, match=r"export\.embed: 'decode', but \w+.* known: Heatmap, .*leave 'decode' out"):
        decoder_of(build_codec(codec, (256, 192), options))


def test_whole_scenes_and_other_formats_are_refused_before_anything_is_written(tmp_path: Path) -> None:
    net, spec, contract = tiny.network(tiny.recipe())
    folder = tmp_path / "c"
    folder.mkdir()
    save_checkpoint(folder, net, spec, contract)
    with pytest.raises(RecipeError, match="target 'tflite' has no ONNX file to embed it in"):
        export_checkpoint(load_checkpoint(folder), tmp_path / "out", target_named("tflite"), embed=("decode",))
    assert not (tmp_path / "out").exists()
    with pytest.raises(RecipeError, match="codec 'openpose' puts people together outside the graph"):
        embed.decoder_in_graph(replace(tiny.recipe(codec="openpose"), input=InputSpec((64, 64), padding=1)).contract())


def test_a_part_named_twice_is_refused() -> None:
    with pytest.raises(RecipeError, match=r"export\.embed: \['decode', 'decode'\] names a part twice"):
        Export(embed=("decode", "decode"))


def test_no_table_of_a_decoder_is_learnt() -> None:
    modules: list[nn.Module] = [decoder_of(codec_of(name)) for name in OPTIONS]
    assert not any(parameter.requires_grad for module in modules for parameter in module.parameters())
