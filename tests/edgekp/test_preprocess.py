"""Geometry: boxes, affines, warps and normalisation, in the one pixel-centre convention."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Literal

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgekp.codecs import build_codec
from edgekp.contract import Contract, contract_from_json
from edgekp.errors import DataError, RecipeError
from edgekp.preprocess import (
    ALIGNMENTS,
    DECODES_TO_RGB,
    INTERPOLATIONS,
    InputSpec,
    compose,
    crop,
    crop_affine,
    invert,
    mirror_affine,
    normalise,
    preprocess,
    read_image,
    transform,
)
from edgekp.sample import Float, Image
from edgekp.skeletons import SKELETONS

INPUT_HW = (256, 192)
SPEC = InputSpec(INPUT_HW)
BOX = np.array([40.0, 30.0, 60.0, 120.0])

boxes = st.tuples(*(st.floats(-500, 500),) * 2, *(st.floats(1, 2000),) * 2).map(np.array)
sizes = st.tuples(st.integers(8, 512), st.integers(8, 512))


def image_with_dots(points_xy: Float, height: int = 240, width: int = 320) -> Image:
    """Black, with a Gaussian dot at each point."""
    y, x = np.mgrid[0:height, 0:width]
    dots = [np.exp(-((x - px) ** 2 + (y - py) ** 2) / (2 * 3.0**2)) for px, py in points_xy]
    return np.repeat(np.rint(255 * np.max(dots, axis=0))[..., None], 3, axis=2).astype(np.uint8)


def centroid(image: Image) -> Float:
    """(2,) x, y of the brightness."""
    weight = image[..., 0].astype(np.float64)
    y, x = np.mgrid[0:image.shape[0], 0:image.shape[1]]
    return np.array([(weight * x).sum(), (weight * y).sum()]) / weight.sum()


@given(bbox_xywh=boxes, input_hw=sizes, padding=st.floats(1, 2), rotation=st.floats(-180, 180))
def test_the_centre_of_the_box_is_the_centre_of_the_input(
        bbox_xywh: Float, input_hw: tuple[int, int], padding: float, rotation: float) -> None:
    affine = crop_affine(bbox_xywh, input_hw, padding, rotation_deg=rotation)
    center = (bbox_xywh[:2] + (bbox_xywh[2:] - 1) / 2)[None]
    np.testing.assert_allclose(transform(center, affine)[0], [(input_hw[1] - 1) / 2, (input_hw[0] - 1) / 2], atol=1e-6)


@given(bbox_xywh=boxes, input_hw=sizes, rotation=st.floats(-180, 180), scale=st.floats(0.5, 2))
def test_image_to_input_and_back_is_the_identity(
        bbox_xywh: Float, input_hw: tuple[int, int], rotation: float, scale: float) -> None:
    affine = crop_affine(bbox_xywh, input_hw, 1.25, rotation_deg=rotation, scale=scale)
    points = np.random.default_rng(0).uniform(-1000, 1000, (5, 2))
    np.testing.assert_allclose(transform(transform(points, affine), invert(affine)), points, atol=1e-6)


@given(bbox_xywh=boxes, input_hw=sizes, padding=st.floats(1, 2))
def test_the_padded_box_fits_and_touches_two_sides_of_the_input(
        bbox_xywh: Float, input_hw: tuple[int, int], padding: float) -> None:
    x, y, w, h = bbox_xywh
    edges = np.array([[x - 0.5, y - 0.5], [x + w - 0.5, y + h - 0.5]])  # pixels cover half a unit to each side
    low, high = transform(edges, crop_affine(bbox_xywh, input_hw, padding))
    share = (high - low) * padding / np.array(input_hw[::-1])
    assert share.max() == pytest.approx(1)
    assert share.min() > 0


def test_composition_applies_the_first_then_the_second(rng: np.random.Generator) -> None:
    first, second, points = rng.normal(size=(2, 3)), rng.normal(size=(2, 3)), rng.normal(size=(7, 2))
    np.testing.assert_allclose(transform(points, compose(second, first)), transform(transform(points, first), second))


def test_transform_takes_one_affine_per_instance(rng: np.random.Generator) -> None:
    points, affines = rng.normal(size=(4, 7, 2)), rng.normal(size=(4, 2, 3))
    one_by_one = [transform(xy, affine) for xy, affine in zip(points, affines, strict=True)]
    np.testing.assert_allclose(transform(points, affines), one_by_one)


def test_cv2_puts_a_dot_where_the_affine_says() -> None:
    spec = replace(SPEC, padding=1.0)
    for rotation in (0.0, 30.0, -75.0):
        dot = np.array([[70.3, 91.6]])
        affine = crop_affine(BOX, INPUT_HW, 1.0, rotation_deg=rotation)
        seen = centroid(crop(image_with_dots(dot), affine, spec))
        # cv2's bilinear warp rounds positions to 1/32 of a source pixel; here one is 2.1 input pixels
        np.testing.assert_allclose(seen, transform(dot, affine)[0], atol=2.2 / 32 + 0.02)


def test_a_crop_of_the_whole_image_at_its_own_size_is_the_image(rng: np.random.Generator) -> None:
    image = rng.integers(0, 256, (64, 48, 3), dtype=np.uint8)
    spec = InputSpec((64, 48), padding=1.0)
    affine = crop_affine(np.array([0.0, 0.0, 48.0, 64.0]), (64, 48), 1.0)
    np.testing.assert_array_equal(crop(image, affine, spec), image)


def test_mirroring_is_exact_to_the_pixel(rng: np.random.Generator) -> None:
    image = rng.integers(0, 256, (240, 320, 3), dtype=np.uint8)
    spec = InputSpec((64, 48))
    affine = crop_affine(np.array([100.0, 80.0, 48.0, 64.0]), (64, 48), 1.0)  # one to one: no interpolation to differ
    mirrored = crop(image, mirror_affine(affine, 48), spec)
    np.testing.assert_array_equal(mirrored, crop(image, affine, spec)[:, ::-1])
    points = rng.uniform(0, 200, (9, 2))
    expected = transform(points, affine) * [-1, 1] + [47, 0]
    np.testing.assert_allclose(transform(points, mirror_affine(affine, 48)), expected)


def test_trap_flip_moves_image_and_keypoints_and_swaps_left_with_right() -> None:
    skeleton = SKELETONS["lsp14"]
    left, right = skeleton.keypoints.index("left_wrist"), skeleton.keypoints.index("right_wrist")
    keypoints_xy = np.full((14, 2), 80.0)
    keypoints_xy[left], keypoints_xy[right] = (90, 60), (52, 110)
    mirror = mirror_affine(crop_affine(BOX, INPUT_HW, 1.25), INPUT_HW[1])
    labels = transform(keypoints_xy, mirror)[skeleton.flip_order]
    # the person in the mirror has its left wrist where the right one was before
    seen = centroid(crop(image_with_dots(keypoints_xy[[right]]), mirror, SPEC))
    np.testing.assert_allclose(seen, labels[left], atol=0.1)


def test_trap_affine_without_its_keypoint_transform() -> None:
    """One matrix moves pixels and keypoints: whatever the augmentation, the dot stays under its label."""
    dot = np.array([[75.0, 85.0]])
    for scale, rotation, shift in ((0.8, 20, (0.05, -0.02)), (1.3, -40, (0, 0.1)), (1, 90, (-0.1, 0))):
        affine = crop_affine(BOX, INPUT_HW, 1.25, scale=scale, rotation_deg=rotation, shift=shift)
        np.testing.assert_allclose(centroid(crop(image_with_dots(dot), affine, SPEC)), transform(dot, affine)[0],
                                   atol=0.1)


def measured_rectangle(scale: float, rotation: float) -> tuple[Float, float]:
    """Sides and angle (degrees) of what a drawn 60 x 20 rectangle becomes in the input."""
    image = np.zeros((400, 400, 3), np.uint8)
    image[190:210, 170:230] = 255
    spec = InputSpec((200, 200))
    affine = crop_affine(np.array([150.0, 150.0, 100.0, 100.0]), (200, 200), 1.0, scale=scale, rotation_deg=rotation)
    y, x = np.nonzero(crop(image, affine, spec)[..., 0] > 127)
    _, sides, _ = cv2.minAreaRect(np.stack([x, y], -1).astype(np.float32))
    _, vectors = np.linalg.eigh(np.cov(x, y))
    long_x, long_y = vectors[:, 1]
    return np.sort(sides) + 1, float(np.rad2deg(np.arctan2(-long_y, long_x)) % 180)  # y points down


@pytest.mark.parametrize("scale", [0.8, 1.0, 1.2])
def test_trap_scale_is_the_scale_itself(scale: float) -> None:
    sides, _ = measured_rectangle(scale, 0)
    # 100 image pixels on 200 input pixels show everything twice as large; a larger crop shows it smaller
    np.testing.assert_allclose(sides, np.array([20, 60]) * 2 / scale, atol=1)


@pytest.mark.parametrize("rotation", [30.0, -20.0])
def test_a_positive_rotation_turns_what_is_seen_counter_clockwise(rotation: float) -> None:
    sides, angle = measured_rectangle(1.0, rotation)
    assert angle == pytest.approx(rotation % 180, abs=1)
    np.testing.assert_allclose(sides, [40, 120], atol=2)  # and leaves its size alone


def test_a_shift_moves_the_crop_by_a_fraction_of_it() -> None:
    point = np.array([[70.0, 90.0]])
    still, moved = (transform(point, crop_affine(BOX, INPUT_HW, 1.25, shift=shift)) for shift in ((0, 0), (0.25, -0.5)))
    np.testing.assert_allclose(moved - still, [[-0.25 * 192, 0.5 * 256]])


def test_outside_the_image_is_the_pad_value() -> None:
    image = np.full((50, 50, 3), 200, np.uint8)
    tensor, _ = preprocess(image, np.array([500.0, 500.0, 20, 20]), replace(SPEC, pad_value=114))
    expected = (114 - np.array(SPEC.mean)) / np.array(SPEC.std)
    np.testing.assert_allclose(tensor, np.broadcast_to(expected[:, None, None], tensor.shape), atol=1e-5)


@pytest.mark.parametrize("color", ["RGB", "BGR"])
def test_normalisation_is_the_formula_in_float32_in_the_order_of_the_spec(
        rng: np.random.Generator, color: Literal["RGB", "BGR"]) -> None:
    image = rng.integers(0, 256, (*INPUT_HW, 3), dtype=np.uint8)
    spec = replace(SPEC, color=color, mean=(123.675, 2.0, 3.3), std=(58.395, 5.0, 6.1))
    ordered = (image if color == "RGB" else image[..., ::-1]).astype(np.float32)
    expected = (ordered - np.float32(spec.mean)) / np.float32(spec.std)
    assert expected.dtype == np.float32
    np.testing.assert_array_equal(normalise(image, spec), expected.transpose(2, 0, 1))
    assert normalise(image, spec).dtype == np.float32


def test_inputs_are_written_into_the_rows_of_a_batch(rng: np.random.Generator) -> None:
    images = rng.integers(0, 256, (2, 300, 200, 3), dtype=np.uint8)
    batch = np.full((3, 3, *INPUT_HW), -9, np.float32)
    for image, row in zip(images, batch[:2], strict=True):
        tensor, crop_to_image = preprocess(image, BOX, SPEC, row)
        assert tensor is row
        alone, alone_to_image = preprocess(image, BOX, SPEC)
        np.testing.assert_array_equal(row, alone)
        np.testing.assert_array_equal(crop_to_image, alone_to_image)
    assert (batch[2] == -9).all()


def waves(height: int = 480, width: int = 640) -> Image:
    """Colours that change by up to 6 levels a pixel, so that a sample 1/32 px aside is within one."""
    y, x = np.mgrid[0:height, 0:width]
    return np.stack([127 + 100 * np.sin(x / a) * np.cos(y / b) for a, b in ((17, 29), (37, 19), (23, 31))],
                    -1).astype(np.uint8)


VIEWS = [  # box, rotation: inside the picture, across each of its edges, all of it, and beside it
    ((200, 100, 150, 200), 0.0), ((200, 100, 150, 200), 33.0), ((300, 200, 12, 9), 10.0), ((-60, -80, 150, 200), 0.0),
    ((560, 400, 150, 200), -50.0), ((-40, 100, 720, 200), 0.0), ((0, 0, 640, 480), 90.0), ((-900, 50, 100, 100), 0.0),
    ((200, 5000, 100, 100), 45.0)]


@pytest.mark.parametrize("resize", ["bilinear", "nearest"])
@pytest.mark.parametrize("input_hw", [(256, 192), (40, 56)])
@pytest.mark.parametrize(("box", "rotation"), VIEWS)
def test_a_crop_is_what_a_warp_of_the_whole_picture_shows(
        box: tuple[float, ...], rotation: float, input_hw: tuple[int, int],
        resize: Literal["bilinear", "nearest"]) -> None:
    image, spec = waves(), InputSpec(input_hw, resize=resize, pad_value=77)
    affine = crop_affine(np.array(box), input_hw, 1.25, rotation_deg=rotation)
    whole = cv2.warpAffine(image, affine, input_hw[::-1], flags=INTERPOLATIONS[resize], borderValue=(77, 77, 77))
    found = crop(image, affine, spec)
    assert (found.shape, found.dtype) == (whole.shape, np.uint8)
    if resize == "bilinear":
        np.testing.assert_allclose(found.astype(int), whole, atol=2)  # one for 1/32 px, one for rounding
    else:
        assert (found == whole).mean() > 0.999  # where two pixels are equally near, either is right


@pytest.mark.parametrize(("box", "rotation"), VIEWS)
def test_a_fourth_channel_changes_no_pixel(monkeypatch: pytest.MonkeyPatch, box: tuple[float, ...],
                                           rotation: float) -> None:
    image, spec = waves(), InputSpec((256, 192), pad_value=30)
    affine = crop_affine(np.array(box), spec.input_hw, 1.25, rotation_deg=rotation)
    found = []
    for four in (True, False):
        monkeypatch.setattr("edgekp.preprocess.FOUR_CHANNELS_ARE_FASTER", four)
        found.append(crop(image, affine, spec))
    np.testing.assert_array_equal(*found)


def test_the_affine_that_preprocess_returns_leads_back_to_the_image() -> None:
    dot = np.array([[75.0, 85.0]])
    tensor, crop_to_image = preprocess(image_with_dots(dot), BOX, SPEC)
    seen = centroid((tensor.transpose(1, 2, 0) - tensor.min()).astype(np.float64))
    np.testing.assert_allclose(transform(seen[None], crop_to_image), dot, atol=0.1)


def test_preprocess_leaves_the_image_and_the_box_alone(rng: np.random.Generator) -> None:
    image, bbox = rng.integers(0, 256, (90, 70, 3), dtype=np.uint8), BOX.copy()
    before = image.copy()
    preprocess(image, bbox, replace(SPEC, color="BGR"))
    np.testing.assert_array_equal(image, before)
    np.testing.assert_array_equal(bbox, BOX)


@pytest.mark.parametrize("decodes_to_rgb", [True, False])
def test_images_are_read_as_rgb(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, decodes_to_rgb: bool) -> None:
    """An OpenCV before 4.11 cannot decode to RGB itself."""
    if decodes_to_rgb and not DECODES_TO_RGB:
        pytest.skip("this OpenCV is one of them")
    monkeypatch.setattr("edgekp.preprocess.DECODES_TO_RGB", decodes_to_rgb)
    cv2.imwrite(str(tmp_path / "red.png"), np.full((4, 5, 3), (0, 0, 255), np.uint8))
    image = read_image(tmp_path / "red.png")
    np.testing.assert_array_equal(image, np.full((4, 5, 3), (255, 0, 0)))


def test_grey_and_transparent_images_become_three_channels(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "grey.png"), np.full((4, 5), 77, np.uint8))
    cv2.imwrite(str(tmp_path / "clear.png"), np.full((4, 5, 4), (10, 20, 30, 0), np.uint8))
    np.testing.assert_array_equal(read_image(tmp_path / "grey.png"), np.full((4, 5, 3), 77))
    np.testing.assert_array_equal(read_image(tmp_path / "clear.png"), np.full((4, 5, 3), (30, 20, 10)))


def test_exif_rotation_is_ignored_as_coco_annotations_ignore_it(tmp_path: Path) -> None:
    _, encoded = cv2.imencode(".jpg", np.zeros((20, 40, 3), np.uint8))
    jpeg = encoded.tobytes()
    tiff = b"MM\x00*\x00\x00\x00\x08\x00\x01\x01\x12\x00\x03\x00\x00\x00\x01\x00\x06\x00\x00\x00\x00\x00\x00"
    body = b"Exif\x00\x00" + tiff  # orientation 6: shown turned by 90 degrees
    marker = b"\xff\xe1" + (len(body) + 2).to_bytes(2, "big") + body
    (tmp_path / "turned.jpg").write_bytes(jpeg[:2] + marker + jpeg[2:])
    assert cv2.imread(str(tmp_path / "turned.jpg")).shape == (40, 20, 3)  # the tag works
    assert read_image(tmp_path / "turned.jpg").shape == (20, 40, 3)


@pytest.mark.parametrize(("content", "reason"), [
    (b"", "an empty file"), (b"no picture", "neither JPEG, PNG"), (b"\xff\xd8\xff\xe0", "cut short"),
    (cv2.imencode(".png", np.zeros((4, 4, 3), np.uint8))[1].tobytes().replace(b"IDAT", b"IDAX"), "")])
def test_what_does_not_decode_is_refused_by_name(tmp_path: Path, content: bytes, reason: str) -> None:
    (tmp_path / "a.jpg").write_bytes(content)
    with pytest.raises(DataError, match=rf"a\.jpg: .*{reason}"):
        read_image(tmp_path / "a.jpg")


def test_a_missing_image_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"b\.jpg: cannot read the image \(No such file"):
        read_image(tmp_path / "b.jpg")


@given(bbox_xywh=boxes, input_hw=sizes, padding=st.floats(1, 2))
def test_corners_of_the_padded_box_meet_the_corner_pixels_when_corners_are_aligned(
        bbox_xywh: Float, input_hw: tuple[int, int], padding: float) -> None:
    h, w = input_hw
    size = np.array([w, h]) * max(bbox_xywh[2] / w, bbox_xywh[3] / h) * padding
    center = bbox_xywh[:2] + bbox_xywh[2:] / 2
    corners = np.array([center - size / 2, center + size / 2])
    affine = crop_affine(bbox_xywh, input_hw, padding, align="corners")
    np.testing.assert_allclose(transform(corners, affine), [[0, 0], [w - 1, h - 1]], atol=1e-6)


def test_preprocess_aligns_as_the_spec_says() -> None:
    for align in ALIGNMENTS:
        spec = replace(SPEC, align=align)
        affine = crop_affine(BOX, INPUT_HW, SPEC.padding, align=align)
        tensor, crop_to_image = preprocess(waves(), BOX, spec)
        np.testing.assert_allclose(crop_to_image, invert(affine))
        np.testing.assert_array_equal(tensor, normalise(crop(waves(), affine, spec), spec))


def test_a_manifest_from_before_alignments_means_pixel_centres() -> None:
    contract = Contract(SPEC, build_codec("heatmap", INPUT_HW, {}), SKELETONS["coco17"])
    fields = contract.to_json()
    del fields["input"]["align"]
    assert contract_from_json(fields) == contract
    udp = replace(contract, input=replace(SPEC, align="corners"))
    assert contract_from_json(udp.to_json()) == udp
    assert contract.differences(udp) == ["input.align: pixel_centers here, corners there"]


def test_an_unknown_alignment_is_refused() -> None:
    with pytest.raises(RecipeError, match=r"input\.align: 'edges', expected pixel_centers or corners"):
        InputSpec(INPUT_HW, align="edges")  # type: ignore[arg-type]


def oracle_boxes(oracle: Mapping[str, Float]) -> Iterator[tuple[int, Float, float]]:
    """Row, box and rotation of each warp of the oracle, which tells centre and size, padding included."""
    for row, (cx, cy, w, h, rotation_deg) in enumerate(oracle["warp/center_scale_rot"]):
        yield row, np.array([cx - w / 2, cy - h / 2, w, h]), rotation_deg


def test_pixel_centres_are_the_warp_of_the_field_up_to_its_half_pixel(real_data: Path) -> None:
    """mmpose's ``get_warp_matrix`` puts edges on whole numbers: their p is our p - 0.5, in image and input alike."""
    oracle = np.load(real_data / "fixtures/oracle/mmpose_oracle.npz")
    to_edges = np.array([[1, 0, 0.5], [0, 1, 0.5]])
    for row, box, rotation_deg in oracle_boxes(oracle):
        ours = compose(to_edges, compose(crop_affine(box, INPUT_HW, 1.0, rotation_deg=rotation_deg), invert(to_edges)))
        # theirs comes from float32 triangles: 1e-4 px at coordinates of 1000
        np.testing.assert_allclose(ours, oracle["warp/get_warp_matrix"][row], rtol=1e-5, atol=1e-3)
        np.testing.assert_allclose(invert(ours), oracle["warp/get_warp_matrix_inv"][row], rtol=1e-5, atol=1e-3)


def test_corners_are_the_warp_of_udp(real_data: Path) -> None:
    """mmpose's ``get_udp_warp_matrix``, where positive angles turn the other way."""
    oracle = np.load(real_data / "fixtures/oracle/mmpose_oracle.npz")
    for row, box, rotation_deg in oracle_boxes(oracle):
        ours = crop_affine(box, INPUT_HW, 1.0, align="corners", rotation_deg=-rotation_deg)
        # theirs is float32: 1e-7 of each number, and for the offset of the summands, up to 2000 px before they cancel
        np.testing.assert_allclose(ours[:, :2], oracle["warp/get_udp_warp_matrix"][row, :, :2], rtol=0, atol=2e-7)
        np.testing.assert_allclose(ours[:, 2], oracle["warp/get_udp_warp_matrix"][row, :, 2], rtol=0, atol=2e-4)


def test_boxes_become_the_centres_and_sizes_of_the_field_shifted_by_its_half_pixel(real_data: Path) -> None:
    """mmpose's centre is x + w / 2 in its edge convention: ours is the same point under pixel centres, 0.5 less."""
    oracle = np.load(real_data / "fixtures/oracle/mmpose_oracle.npz")
    for bbox, (cx, cy, width, height) in zip(oracle["bbox/xywh"], oracle["bbox/xywh2cs_pad1.25"], strict=True):
        inverse = invert(crop_affine(bbox, (64, 64), 1.25))
        np.testing.assert_allclose(transform(np.array([[31.5, 31.5]]), inverse)[0], [cx - 0.5, cy - 0.5], atol=1e-3)
        assert inverse[0, 0] * 64 == pytest.approx(max(width, height), rel=1e-5)


@pytest.mark.parametrize("color", ["RGB", "BGR"])
def test_a_bgr_image_gives_the_same_input_as_its_rgb_copy(color: str) -> None:
    image = np.random.default_rng(0).integers(0, 256, (60, 80, 3), dtype=np.uint8)
    spec = InputSpec((32, 24), color=color, pad_value=7)  # type: ignore[arg-type]
    box = np.array([-10.0, 5.0, 50.0, 70.0])
    expected, affine = preprocess(image, box, spec)
    found, same_affine = preprocess(np.ascontiguousarray(image[..., ::-1]), box, spec.for_bgr_images())
    np.testing.assert_array_equal(found, expected)
    np.testing.assert_array_equal(same_affine, affine)
