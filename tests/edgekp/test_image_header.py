"""Image headers: the size that OpenCV decodes, the orientation by which it turns, and one line for what is broken."""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from edgekp.errors import DataError
from edgekp.image_header import ImageSize, image_size

WIDTH, HEIGHT = 45, 26
PIXELS = np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)


def encoded(suffix: str, *options: int, pixels: np.ndarray = PIXELS) -> bytes:
    done, data = cv2.imencode(suffix, pixels, options)
    assert done
    return data.tobytes()


def tiff(orientation: int, order: str = "<", kind: int = 3) -> bytes:
    """An EXIF block with two tags, the second of which is the orientation."""
    mark = {"<": b"II*\0", ">": b"MM\0*"}[order]
    width = struct.pack(order + "HHIHH", 0x0100, 3, 1, WIDTH, 0)
    turn = struct.pack(order + "HHIHH", 0x0112, kind, 1, orientation, 0)
    return mark + struct.pack(order + "IH", 8, 2) + width + turn + bytes(4)


def jpeg_segment(marker: int, content: bytes) -> bytes:
    return bytes([0xFF, marker]) + struct.pack(">H", len(content) + 2) + content


def jpeg_with(*segments: bytes) -> bytes:
    plain = encoded(".jpg")
    return plain[:2] + b"".join(segments) + plain[2:]


def exif_jpeg(orientation: int, order: str = "<") -> bytes:
    return jpeg_with(jpeg_segment(0xE1, b"Exif\0\0" + tiff(orientation, order)))


def png_chunk(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


def exif_png(orientation: int) -> bytes:
    plain = encoded(".png")
    return plain[:33] + png_chunk(b"eXIf", tiff(orientation)) + plain[33:]


def webp_extended(*chunks: tuple[bytes, bytes], flags: int = 0x08) -> bytes:
    """The chunks of a WebP file with a canvas header in front."""
    canvas = struct.pack("<B3x", flags) + (WIDTH - 1).to_bytes(3, "little") + (HEIGHT - 1).to_bytes(3, "little")
    body = b"".join(name + struct.pack("<I", len(content)) + content + bytes(len(content) % 2)
                    for name, content in ((b"VP8X", canvas), *chunks))
    return b"RIFF" + struct.pack("<I", len(body) + 4) + b"WEBP" + body


def lossy_chunk() -> tuple[bytes, bytes]:
    plain = encoded(".webp", cv2.IMWRITE_WEBP_QUALITY, 80)
    assert plain[12:16] == b"VP8 "
    return b"VP8 ", plain[20:20 + int.from_bytes(plain[16:20], "little")]


def exif_webp(orientation: int) -> bytes:
    return webp_extended(lossy_chunk(), (b"EXIF", tiff(orientation)))


FILES = {
    "JPEG": encoded(".jpg"),
    "progressive JPEG": encoded(".jpg", cv2.IMWRITE_JPEG_PROGRESSIVE, 1),
    "grey JPEG": encoded(".jpg", pixels=PIXELS[..., 0]),
    "JPEG with stray and fill bytes": jpeg_with(jpeg_segment(0xE2, bytes(7)), b"\0\0\xff\0\xff\xff"),
    "JPEG with a thumbnail of another size": jpeg_with(
        jpeg_segment(0xE1, b"Exif\0\0" + tiff(1) + encoded(".jpg", pixels=PIXELS[:8, :8]))),
    "PNG": encoded(".png"),
    "BMP": encoded(".bmp"),
    "GIF": encoded(".gif"),
    "lossy WebP": encoded(".webp", cv2.IMWRITE_WEBP_QUALITY, 80),
    "lossless WebP": encoded(".webp", cv2.IMWRITE_WEBP_QUALITY, 101),
    "extended WebP": webp_extended(lossy_chunk(), flags=0),
}


@pytest.mark.parametrize("data", FILES.values(), ids=FILES.keys())
def test_the_size_is_that_of_the_decoded_pixels(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "image").write_bytes(data)
    decoded = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    assert decoded.shape == PIXELS.shape
    assert image_size(tmp_path / "image") == ImageSize(WIDTH, HEIGHT, 1)


def test_headers_that_opencv_does_not_write(tmp_path: Path) -> None:
    from_the_top = b"BM" + bytes(12) + struct.pack("<Iii", 40, WIDTH, -HEIGHT)
    os2 = b"BM" + bytes(12) + struct.pack("<IHH", 12, WIDTH, HEIGHT)
    tables_first = jpeg_with(jpeg_segment(0xC4, bytes(20)))  # in some files the Huffman tables come before the size
    scaled = bytearray(encoded(".webp", cv2.IMWRITE_WEBP_QUALITY, 80))
    scaled[27] |= 0x40  # the upper two bits of a width are a scale
    for data in (from_the_top, os2, tables_first, bytes(scaled)):
        assert image_size(_written(tmp_path / "image", data)) == (WIDTH, HEIGHT, 1)


@pytest.mark.parametrize("with_exif", [exif_jpeg, exif_png, exif_webp])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_orientation_is_the_one_by_which_opencv_turns(
        tmp_path: Path, with_exif: Callable[[int], bytes], orientation: int) -> None:
    data = with_exif(orientation)
    (tmp_path / "image").write_bytes(data)
    size = image_size(tmp_path / "image")
    assert size == ImageSize(WIDTH, HEIGHT, orientation)
    stored = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION)
    shown = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    assert stored.shape == PIXELS.shape
    turned = {1: stored, 2: stored[:, ::-1], 3: stored[::-1, ::-1], 4: stored[::-1], 5: stored.transpose(1, 0, 2),
              6: cv2.rotate(stored, cv2.ROTATE_90_CLOCKWISE), 7: stored[::-1, ::-1].transpose(1, 0, 2),
              8: cv2.rotate(stored, cv2.ROTATE_90_COUNTERCLOCKWISE)}[size.exif_orientation]
    np.testing.assert_array_equal(shown, turned)


@pytest.mark.parametrize(("data", "orientation"), [
    (exif_jpeg(6, ">"), 6),
    (exif_jpeg(0), 1),
    (exif_jpeg(9), 1),
    (jpeg_with(jpeg_segment(0xE1, b"Exif\0\0" + tiff(6, kind=4))), 1),
    (jpeg_with(jpeg_segment(0xE1, b"http://ns.adobe.com/xap/1.0/\0"), jpeg_segment(0xE1, b"Exif\0\0" + tiff(8))), 8),
    (jpeg_with(jpeg_segment(0xE1, b"Exif\0\0" + tiff(6)[:20])), 1),
    (jpeg_with(jpeg_segment(0xE1, b"Exif\0\0II*\0\xff\xff\xff\xff")), 1),
    (jpeg_with(jpeg_segment(0xE1, b"Exif\0\0nonsense")), 1),
    (webp_extended(lossy_chunk(), (b"EXIF", b"Exif\0\0" + tiff(3))), 3),
    (webp_extended(lossy_chunk(), (b"ODD ", b"123"), (b"EXIF", tiff(5))), 5),
], ids=["big endian", "0", "9", "not a short", "after XMP", "cut short", "directory nowhere", "no TIFF", "WebP prefix",
        "WebP after an odd chunk"])
def test_an_orientation_that_makes_no_sense_is_upright(tmp_path: Path, data: bytes, orientation: int) -> None:
    (tmp_path / "image").write_bytes(data)
    assert image_size(tmp_path / "image") == ImageSize(WIDTH, HEIGHT, orientation)


def test_the_name_of_a_file_says_nothing_about_its_format(tmp_path: Path) -> None:
    (tmp_path / "photo.jpg").write_bytes(encoded(".png"))
    assert image_size(str(tmp_path / "photo.jpg")) == (WIDTH, HEIGHT, 1)


PNG, JPEG = encoded(".png"), encoded(".jpg")
BROKEN = {
    "empty": (b"", "an empty file"),
    "text": (b"<!DOCTYPE html><html>", "neither JPEG, PNG, BMP, GIF nor WebP"),
    "JPEG of two bytes": (b"\xff\xd8", "neither JPEG"),
    "JPEG without a size": (b"\xff\xd8" + jpeg_segment(0xDA, b""), "never says its size"),
    "JPEG that ends at once": (b"\xff\xd8\xff\xd9", "never says its size"),
    "JPEG with a short segment": (b"\xff\xd8\xff\xe0\0\x01", "a segment of 1 bytes"),
    "JPEG with a segment beyond its end": (b"\xff\xd8\xff\xe0\xff\xff1234", "ends before it says its size"),
    "JPEG cut in a length": (b"\xff\xd8\xff\xe0\0", "cut short"),
    "JPEG of height 0": (b"\xff\xd8" + jpeg_segment(0xC0, struct.pack(">BHHB", 8, 0, 9, 3)), "DNL"),
    "JPEG of width 0": (b"\xff\xd8" + jpeg_segment(0xC0, struct.pack(">BHHB", 8, 9, 0, 3)), "0 x 9 pixels"),
    "JPEG of nothing but stray bytes": (b"\xff\xd8\xff" + bytes(1 << 21), "never says its size"),
    "PNG without IHDR": (PNG[:12] + b"JUNK" + PNG[16:], "does not begin with its size"),
    "PNG of width 0": (PNG[:16] + bytes(4) + PNG[20:], r"0 x 26 pixels"),
    "PNG cut before the pixels": (PNG[:36], "cut short"),
    "PNG with a chunk beyond its end": (PNG[:33] + b"\xff\xff\xff\xfftEXt" + PNG[41:], "cut short"),
    "BMP cut short": (encoded(".bmp")[:20], "cut short"),
    "BMP of negative width": (b"BM" + bytes(12) + struct.pack("<Iii", 40, -3, 5), "-3 x 5 pixels"),
    "GIF cut short": (b"GIF89a\x05", "cut short"),
    "WebP cut short": (encoded(".webp")[:22], "cut short"),
    "WebP without a key frame": (webp_extended()[:12] + b"VP8 " + bytes(16), "without a key frame"),
    "WebP without a signature": (webp_extended()[:12] + b"VP8L" + bytes(16), "without its signature"),
    "WebP of another kind": (webp_extended()[:12] + b"VP9 " + bytes(16), "begins with b'VP9 '"),
    "WebP whose EXIF is missing": (webp_extended(lossy_chunk()), "cut short"),
    "RIFF of sound": (b"RIFF\0\0\0\0WAVEfmt ", "neither JPEG"),
}


@pytest.mark.parametrize(("data", "message"), BROKEN.values(), ids=BROKEN.keys())
def test_a_broken_file_is_refused_in_one_line(tmp_path: Path, data: bytes, message: str) -> None:
    path = tmp_path / "photo.jpg"
    path.write_bytes(data)
    with pytest.raises(DataError, match=message) as caught:
        image_size(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("data", [JPEG, PNG, exif_png(6), exif_webp(6), encoded(".gif"), encoded(".bmp")],
                         ids=["JPEG", "PNG", "PNG with EXIF", "WebP with EXIF", "GIF", "BMP"])
def test_a_file_cut_anywhere_gives_its_size_or_a_data_error(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "image"
    whole = image_size(_written(path, data))
    for end in range(min(len(data), 400)):
        try:
            assert image_size(_written(path, data[:end]))[:2] == whole[:2]
        except DataError:
            continue


def _written(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


def test_random_bytes_behind_a_signature_never_escape_as_another_error(
        tmp_path: Path, rng: np.random.Generator) -> None:
    for signature in (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"BM", b"GIF87a", b"RIFF\0\0\0\0WEBPVP8X"):
        for _ in range(60):
            try:
                image_size(_written(tmp_path / "image", signature + rng.bytes(120)))
            except DataError:
                continue


def test_a_missing_file_and_a_folder_are_refused(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "nothing.jpg"):
        with pytest.raises(DataError, match="cannot read the image"):
            image_size(path)


def test_real_photos_have_the_size_that_their_labels_say(real_data: Path) -> None:
    for name in ("pose_coco17/val.json", "fixtures/mmpose_tests_data/300w/test_300w.json"):
        images = json.loads((real_data / name).read_bytes())["images"][:60]
        assert images
        for image in images:
            found = image_size((real_data / name).parent / image["file_name"])
            assert found[:2] == (image["width"], image["height"])
