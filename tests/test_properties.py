"""Round trips and refusals that must hold for any annotations, recipe, manifest, picture, box and network output."""

from __future__ import annotations

import json
import math
import tempfile
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deploy.runtime.detectors.layouts import LAYOUTS
from edgekp.coco import read_coco
from edgekp.codecs import CODECS, SCENE_CODECS
from edgekp.contract import Contract, contract_from_json, make_contract
from edgekp.errors import RecipeError
from edgekp.importers.found import Found, Reading, Wanted
from edgekp.importers.labelme import read_labelme
from edgekp.importers.to_coco import coco_document
from edgekp.importers.yolo_pose import read_yolo_pose
from edgekp.preprocess import InputSpec, compose, crop_affine, invert, preprocess, transform
from edgekp.recipe import Eval, Export, Gate, Recipe
from edgekp.recipe_augment import Augment
from edgekp.recipe_search import Search
from edgekp.recipe_steps import Distill, Prune, Qat, Quantize
from edgekp.recipe_train import Train
from edgekp.sample import Float
from edgekp.skeletons import COCO17, SKELETONS
from edgekp.strict import strict, toml_value
from fuzz.drawn import HEIGHT, PICTURE, WIDTH, png_header

EXACT_PX = 1e-6  # importers write six decimals
SIDE = 64
HW = (SIDE, SIDE)
xs, ys = st.floats(0, WIDTH - 1), st.floats(0, HEIGHT - 1)
marks = st.sampled_from([0, 1, 2])
boxes = st.tuples(st.floats(-200, 200), st.floats(-200, 200), st.floats(1, 300), st.floats(1, 300)).map(np.array)


def people(k: int) -> st.SearchStrategy[list[tuple[float, float, int]]]:
    """Keypoints (K, 3) of which the first is labelled."""
    point = st.tuples(xs, ys, marks)
    return st.tuples(st.tuples(xs, ys, st.sampled_from([1, 2])), st.lists(point, min_size=k - 1, max_size=k - 1)).map(
        lambda parts: [parts[0], *parts[1]])


def there_and_back(reading: Reading, skeleton: str, folder: Path) -> list[Float]:
    """(K, 3) of each instance after ``coco_document`` and ``read_coco``, in order."""
    known = SKELETONS[skeleton]
    (folder / "coco.json").write_text(json.dumps(coco_document(reading, known, 1.25)))
    return [np.column_stack([instance.keypoints_xy, instance.visibility])
            for instance in read_coco(folder / "coco.json", known).instances]


def expected(keypoints: Any) -> Float:
    """What is not labelled has no position."""
    array = np.array(keypoints, dtype=np.float64)
    return np.where(array[:, 2:] > 0, array, 0.0)


@settings(deadline=None, max_examples=40)
@given(skeleton=st.sampled_from(["coco17", "lsp14", "wflw98"]), data=st.data())
def test_any_annotations_are_read_as_they_were_written(skeleton: str, data: st.DataObject) -> None:
    everybody = data.draw(st.lists(people(len(SKELETONS[skeleton])), min_size=1, max_size=3))
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / PICTURE).write_bytes(png_header())
        found = [Found("here", PICTURE, np.array(person)) for person in everybody]
        read = there_and_back(Reading(Path(folder), found), skeleton, Path(folder))
    for person, back in zip(everybody, read, strict=True):
        np.testing.assert_allclose(back, expected(person), rtol=0, atol=EXACT_PX)


@settings(deadline=None, max_examples=40)
@given(person=people(17))
def test_labelme_to_coco_keeps_every_keypoint(person: list[tuple[float, float, int]]) -> None:
    shapes = [{"label": name, "points": [[x + 0.5, y + 0.5]], "group_id": 1, "shape_type": "point",
               "flags": {"occluded": v == 1}} for name, (x, y, v) in zip(COCO17.keypoints, person, strict=True) if v]
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / PICTURE).write_bytes(png_header())
        (Path(folder) / "a.json").write_text(json.dumps({"shapes": shapes, "imagePath": PICTURE}))
        reading = read_labelme(Path(folder) / "a.json", Wanted(COCO17, None, 0.5))
        back, = there_and_back(reading, "coco17", Path(folder))
    np.testing.assert_allclose(back, expected(person), rtol=0, atol=EXACT_PX)


@settings(deadline=None, max_examples=40)
@given(person=people(17))
def test_yolo_pose_to_coco_keeps_every_keypoint(person: list[tuple[float, float, int]]) -> None:
    words = ["0 0.5 0.5 0.5 0.5", *(f"{x / WIDTH!r} {y / HEIGHT!r} {v}" for x, y, v in person)]
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / PICTURE).write_bytes(png_header())
        (Path(folder) / "a.txt").write_text(" ".join(words))
        reading = read_yolo_pose(Path(folder) / "a.txt", Wanted(COCO17, Path(folder), 0.0), class_number=None)
        back, = there_and_back(reading, "coco17", Path(folder))
    np.testing.assert_allclose(back, expected(person), rtol=0, atol=EXACT_PX)


def toml(value: Any) -> str:
    """A value as TOML; None has no spelling, so such a key is left out of its table."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(map(toml, value))}]"
    if isinstance(value, dict):
        return f"{{ {', '.join(f'{json.dumps(key)} = {toml(entry)}' for key, entry in value.items())} }}"
    if is_dataclass(value):
        return toml({entry.name: getattr(value, entry.name) for entry in fields(value)
                     if getattr(value, entry.name) is not None})
    return repr(value)


shares = st.floats(0.01, 0.99)
above_zero = st.floats(1e-6, 1e6)
whole = st.integers(1, 10**6)
SECTIONS: dict[type[Any], st.SearchStrategy[Any]] = {
    Train: st.builds(Train, epochs=whole, batch=whole, lr=above_zero, ema_decay=st.floats(0, 0.999), swa_share=shares,
                     milestones=st.lists(shares, min_size=1, max_size=3).map(tuple), loss=st.text(max_size=8),
                     schedule=st.sampled_from(["cosine", "step"]), patience=st.integers(0, 9), compile=st.booleans()),
    Augment: st.builds(Augment, flip_p=shares, shift=shares, rotate_deg=st.floats(0, 180), scale=st.tuples(
        st.floats(0.1, 1), st.floats(1, 2)), multi_scale=st.lists(st.floats(0.5, 2), max_size=3).map(tuple)),
    Export: st.builds(Export, opset=st.none() | st.integers(13, 20), embed=st.lists(st.sampled_from(
        ["preprocess", "decode"]), unique=True).map(tuple)),
    Eval: st.builds(Eval, metric=st.just("pck"), normaliser=st.sampled_from(["auto", "box", "head", "torso"]),
                    threshold=above_zero, pictures=st.integers(0, 50)),
    Gate: st.builds(Gate, budget=st.none() | above_zero, slices=st.booleans(), resamples=whole,
                    latency_ratio=above_zero, ledger=st.text(max_size=8)),
    Search: st.builds(Search, widths=st.lists(above_zero, max_size=3).map(tuple), keep=shares, input_sizes=st.lists(
        st.tuples(whole, whole), max_size=2).map(tuple), precisions=st.just(("int8",))),
    Prune: st.builds(Prune, method=st.just("prune"), macs_reduction=shares, lr=above_zero, epochs=whole,
                     importance=st.sampled_from(["l1", "taylor"]), sensitivity=st.booleans(),
                     target=st.text(max_size=8)),
    Distill: st.builds(Distill, method=st.just("distill"), weight=st.floats(0, 1), temperature=above_zero,
                       features=st.lists(st.text(max_size=5), max_size=3).map(tuple), teacher=st.text(max_size=9)),
    Quantize: st.builds(Quantize, method=st.just("quantize"), images=whole, equalize=st.booleans(),
                        keep_float=st.lists(st.text(max_size=5), max_size=3).map(tuple)),
    Qat: st.builds(Qat, method=st.just("qat"), weight=st.floats(0, 1), epochs=whole, lr=above_zero),
    InputSpec: st.builds(InputSpec, st.tuples(*[st.integers(1, 4096)] * 2), color=st.sampled_from(["RGB", "BGR"]),
                         mean=st.tuples(*[st.floats(0, 255)] * 3), std=st.tuples(*[above_zero] * 3),
                         padding=st.floats(0.1, 9), pad_value=st.integers(0, 255)),
}


@pytest.mark.parametrize("kind", SECTIONS)
@settings(deadline=None, max_examples=30)
@given(data=st.data())
def test_any_section_of_a_recipe_is_read_as_it_was_written(kind: type[Any], data: st.DataObject) -> None:
    section = data.draw(SECTIONS[kind])
    assert strict(kind, toml_value(toml(section)), kind.__name__) == section


@pytest.mark.parametrize("kind", [*SECTIONS, Recipe])
@settings(deadline=None, max_examples=30)
@given(data=st.data())
def test_a_misspelt_key_is_refused_with_the_nearest(kind: type[Any], data: st.DataObject) -> None:
    """One letter of a long name is left out, so no other name is nearer."""
    known = [entry.name for entry in fields(kind)]
    name = data.draw(st.sampled_from([name for name in known if len(name) > 4]))
    at = data.draw(st.integers(0, len(name) - 1))
    wrong = name[:at] + name[at + 1:]
    if wrong not in known:
        with pytest.raises(RecipeError, match=f"no key '{wrong}'; did you mean '{name}'"):
            strict(kind, {wrong: 1}, "")


CODEC_NAMES = sorted([*CODECS, *SCENE_CODECS])


@pytest.mark.parametrize("skeleton", SKELETONS)
@pytest.mark.parametrize("codec", CODEC_NAMES)
def test_every_contract_is_what_its_json_says(codec: str, skeleton: str) -> None:
    """Through real JSON text, for every codec and skeleton that go together."""
    spec = InputSpec((96, 64), "BGR", padding=1.0, pad_value=114)
    try:
        contract = make_contract(spec, codec, {}, SKELETONS[skeleton])
    except RecipeError:
        assert codec in SCENE_CODECS
        return
    again = contract_from_json(json.loads(json.dumps(contract.to_json())))
    assert again == contract
    assert again.differences(contract) == []


@settings(deadline=None, max_examples=60)
@given(spec=SECTIONS[InputSpec])
def test_any_input_is_what_its_json_says(spec: InputSpec) -> None:
    contract = Contract(spec, CODECS["regression"](spec.input_hw), COCO17)
    assert contract_from_json(json.loads(json.dumps(contract.to_json()))) == contract


affines = st.tuples(st.floats(0.1, 10), st.floats(-math.pi, math.pi), st.floats(-100, 100), st.floats(-100, 100)).map(
    lambda of: of[0] * np.array([[math.cos(of[1]), -math.sin(of[1]), of[2]],
                                 [math.sin(of[1]), math.cos(of[1]), of[3]]]))
POINTS = np.random.default_rng(0).uniform(-100, 100, (5, 2))


@given(first=affines, second=affines, third=affines)
def test_composition_is_associative_and_an_inverse_undoes(first: Float, second: Float, third: Float) -> None:
    """Scales of at most 10, offsets of 1000: a million pixels at most, of which float64 knows 1e-9 and more."""
    left, right = compose(compose(first, second), third), compose(first, compose(second, third))
    np.testing.assert_allclose(transform(POINTS, left), transform(POINTS, right), rtol=1e-9, atol=1e-6)
    np.testing.assert_allclose(transform(transform(POINTS, first), invert(first)), POINTS, rtol=0, atol=1e-6)


@settings(deadline=None, max_examples=60)
@given(box=boxes, rotation=st.floats(-180, 180), seed=st.integers(0, 99))
def test_a_crop_of_any_box_is_of_its_size_finite_and_leads_back(box: Float, rotation: float, seed: int) -> None:
    """Boxes partly or wholly outside of the picture, too; there the input is the padding."""
    image = np.random.default_rng(seed).integers(1, 256, (48, 64, 3), dtype=np.uint8)
    spec = InputSpec((24, 32), mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0), pad_value=0)
    tensor, to_image = preprocess(image, box, spec)
    assert tensor.shape == (3, 24, 32)
    assert tensor.dtype == np.float32
    assert tensor.min() >= 0
    assert tensor.max() <= 255
    corners = box[:2] - 0.5 + box[2:] * np.array([[0, 0], [1, 0], [1, 1], [0, 1]])
    back = transform(transform(corners, invert(to_image)), to_image)
    np.testing.assert_allclose(back, corners, rtol=0, atol=1e-6)
    if box[0] > 64 + 400 or box[0] + box[2] < -400:  # the padding of 1.25 and the other aspect reach no farther
        assert not tensor.any()
    turned = crop_affine(box, (24, 32), 1.25, rotation_deg=rotation)
    np.testing.assert_allclose(np.linalg.det(turned[:, :2]),
                               np.linalg.det(crop_affine(box, (24, 32), 1.25)[:, :2]), rtol=1e-9)


@pytest.mark.parametrize("skeleton", SKELETONS.values(), ids=lambda skeleton: skeleton.name)
def test_flipping_twice_is_the_identity(skeleton: Any) -> None:
    order = skeleton.flip_order
    np.testing.assert_array_equal(order[order], np.arange(len(skeleton)))
    assert skeleton.from_json(json.loads(json.dumps(skeleton.to_json()))) == skeleton


@pytest.mark.parametrize("codec", CODECS)
@settings(deadline=None, max_examples=25)
@given(seed=st.integers(0, 10**6), odd=st.lists(st.sampled_from(
    [np.nan, np.inf, -np.inf, 0.0, 1e30, -1e30, 3.4e38, 1e-40]), min_size=1, max_size=4), share=st.floats(0, 1))
def test_whatever_a_network_says_is_decoded_to_the_right_shape(
        codec: str, seed: int, odd: list[float], share: float) -> None:
    """NaN and infinity among the outputs cost keypoints, but neither the process nor the other people of the batch."""
    contract = make_contract(InputSpec(HW), codec, {}, COCO17)
    rng = np.random.default_rng(seed)
    xy = rng.uniform(8, SIDE - 8, (2, 17, 2))
    sound = contract.codec.encode(xy, np.full((2, 17), 2)).arrays  # type: ignore[union-attr]
    outputs = {name: array.astype(np.float32) for name, array in sound.items()}
    before, _ = contract.codec.decode(outputs)  # type: ignore[misc]
    for array in outputs.values():
        first = array[0]  # of the batch
        first[rng.random(first.shape) < share] = rng.choice(np.array(odd, np.float32))
    with np.errstate(all="ignore"):
        keypoints_xy, scores = contract.codec.decode(outputs)  # type: ignore[misc]
    assert keypoints_xy.shape == (2, 17, 2)
    assert scores.shape == (2, 17)
    np.testing.assert_array_equal(keypoints_xy[1], before[1])


@pytest.mark.parametrize("codec", CODECS)
@settings(deadline=None, max_examples=25)
@given(seed=st.integers(0, 10**6))
def test_any_keypoints_inside_come_back(codec: str, seed: int) -> None:
    """Within a cell of 4 pixels, three cells from the edge, where maps are whole; each codec's own test says more."""
    contract = make_contract(InputSpec(HW), codec, {}, COCO17)
    xy = np.random.default_rng(seed).uniform(12, SIDE - 12, (3, 17, 2))
    target = contract.codec.encode(xy, np.full((3, 17), 2))  # type: ignore[union-attr]
    decoded, _ = contract.codec.decode({name: np.asarray(array) for name, array in target.arrays.items()})
    assert np.abs(decoded - xy).max() <= 4


@pytest.mark.parametrize("name", LAYOUTS)
@given(image_hw=st.tuples(st.integers(1, 5000), st.integers(1, 5000)), input_hw=st.tuples(
    st.integers(1, 20).map(lambda n: 32 * n), st.integers(1, 20).map(lambda n: 32 * n)))
def test_a_letterboxed_picture_lies_within_the_input_and_its_corners_lead_back(
        name: str, image_hw: tuple[int, int], input_hw: tuple[int, int]) -> None:
    at = LAYOUTS[name].letterbox.place(image_hw, input_hw)
    h, w = at.resized_hw
    assert at.top >= 0
    assert at.left >= 0
    assert at.top + h <= input_hw[0]
    assert at.left + w <= input_hw[1]
    assert min(h, w) >= 1
    corners = np.array([[at.left, at.top, at.left + w, at.top + h]], dtype=np.float64)
    np.testing.assert_allclose(at.to_image(corners), [[0, 0, image_hw[1], image_hw[0]]], rtol=1e-12, atol=1e-9)
