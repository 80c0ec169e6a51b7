"""Image files at the door: nothing is decoded whose header claims too much, that is cut short, or of another format."""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from time import perf_counter

import cv2
import numpy as np
import pytest

from edgekp.doctor.picture_file import look_at
from edgekp.errors import DataError
from edgekp.image_header import PIXEL_LIMIT, PIXEL_LIMIT_NAME, pixel_limit
from edgekp.preprocess import read_image

SIDE = 30_000
PICTURE = cv2.GaussianBlur(np.random.default_rng(0).integers(0, 256, (48, 64, 3), dtype=np.uint8), (7, 7), 2)


def encoded(suffix: str) -> bytes:
    done, data = cv2.imencode(suffix, PICTURE)
    assert done
    return data.tobytes()


def claiming_jpeg(width: int, height: int) -> bytes:
    data = encoded(".jpg")
    at = data.index(b"\xff\xc0") + 5
    return data[:at] + struct.pack(">HH", height, width) + data[at + 4:]


def claiming_png(width: int, height: int) -> bytes:
    data = encoded(".png")
    header = b"IHDR" + struct.pack(">II", width, height) + data[24:29]
    return data[:12] + header + struct.pack(">I", zlib.crc32(header)) + data[33:]


def claiming_bmp(width: int, height: int) -> bytes:
    data = encoded(".bmp")
    return data[:18] + struct.pack("<ii", width, -height) + data[26:]


def claiming_gif(width: int, height: int) -> bytes:
    return b"GIF89a" + struct.pack("<HH", width, height) + bytes(20)


def claiming_webp(width: int, height: int) -> bytes:
    body = b"WEBPVP8X" + struct.pack("<IB3x", 10, 0) + (width - 1).to_bytes(3, "little")
    body += (height - 1).to_bytes(3, "little") + encoded(".webp")[12:]
    return b"RIFF" + struct.pack("<I", len(body)) + body


CLAIMING = (claiming_jpeg, claiming_png, claiming_bmp, claiming_gif, claiming_webp)


@pytest.mark.parametrize("claiming", CLAIMING)
@pytest.mark.parametrize(("width", "height"), [(SIDE, SIDE), (65_535, 1_600), (10_001, 10_000)])
def test_a_header_that_claims_too_many_pixels_is_refused_in_milliseconds(
        tmp_path: Path, claiming: Callable[[int, int], bytes], width: int, height: int) -> None:
    path = tmp_path / "bomb"
    path.write_bytes(claiming(width, height).ljust(37_000, b"\0"))
    times = []
    for _ in range(5):
        began = perf_counter()
        with pytest.raises(DataError, match=rf"bomb: its header claims {width} x {height} pixels, at most"):
            read_image(path)
        times.append(perf_counter() - began)
    assert min(times) < 0.005


def test_the_environment_moves_the_limit_and_a_wrong_one_is_refused(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(encoded(".png"))
    for limit in (48 * 64, 48 * 64 - 1):
        monkeypatch.setenv(PIXEL_LIMIT_NAME, str(limit))
        assert pixel_limit() == limit
        if limit == 48 * 64:
            assert read_image(path).shape == (48, 64, 3)
        else:
            with pytest.raises(DataError, match=f"at most 3,071 are decoded.*{PIXEL_LIMIT_NAME}"):
                read_image(path)
    for wrong in ("", "-1", "1e6", "0", "٣", "9" * 30):
        monkeypatch.setenv(PIXEL_LIMIT_NAME, wrong)
        with pytest.raises(DataError, match=f"{PIXEL_LIMIT_NAME}=.*expected a number of pixels"):
            read_image(path)


def of_scans(count: int, side: int, before: bytes = b"") -> bytes:
    """A progressive JPEG of that size with one real scan and then empty ones."""
    data = cv2.imencode(".jpg", PICTURE[..., 0], [cv2.IMWRITE_JPEG_PROGRESSIVE, 1])[1].tobytes()
    at, first = data.index(b"\xff\xc2") + 5, data.index(b"\xff\xda")
    head = data[:at] + struct.pack(">HH", side, side) + data[at + 4:data.index(b"\xff\xda", first + 2)]
    return head + before + b"\xff\xda\0\x08\x01\x01\0\x01\x3f\0\0" * (count - 1) + b"\xff\xd9"


@pytest.mark.parametrize("before", [b"", b"\xff\x02\xff\xff", b"\xff\xd0stray", b"\xff\xff\xff", b"\xff\xfe\0\0",
                                    b"\xff\xfe\0\x04\xff\xd9"])
@pytest.mark.parametrize(("side", "scans"), [(9_999, 21), (9_999, 6_400), (1_000, 2_001)])
def test_a_jpeg_of_more_scans_than_encoders_write_is_refused_in_milliseconds(
        tmp_path: Path, side: int, scans: int, before: bytes) -> None:
    """70 KB took OpenCV two minutes; no stray byte, fill, comment or odd marker hides a scan."""
    path = tmp_path / "bomb.jpg"
    path.write_bytes(of_scans(scans, side, before))
    most = 20 * PIXEL_LIMIT // side**2
    began = perf_counter()
    with pytest.raises(DataError, match=rf"bomb\.jpg: a JPEG of {scans} scans, at most {most} are decoded at its size"):
        read_image(path)
    assert perf_counter() - began < 0.1
    assert "scans" in look_at(tmp_path, ["bomb.jpg"], decode=True)["bomb.jpg"].detail


def test_scans_of_thumbnails_and_of_what_cameras_append_are_not_counted(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """At the limit of pixels, where 20 may be: the 10 of a usual one, and 40 that no decoder goes through."""
    monkeypatch.setenv(PIXEL_LIMIT_NAME, str(48 * 64))
    path = tmp_path / "a.jpg"
    usual = cv2.imencode(".jpg", PICTURE, [cv2.IMWRITE_JPEG_PROGRESSIVE, 1])[1].tobytes()
    assert usual.count(b"\xff\xda") == 10
    path.write_bytes(usual)
    expected = read_image(path)
    path.write_bytes(usual[:2] + b"\xff\xe2" + struct.pack(">H", 42) + b"\xff\xda" * 20 + usual[2:]
                     + b"\0\0" + b"\xff\xda\0\x02" * 20 + b"\xff\xd9")
    np.testing.assert_array_equal(read_image(path), expected)


@pytest.mark.parametrize("suffix", [".tiff", ".jp2", ".pgm", ".hdr", ".exr"])
def test_formats_whose_size_cannot_be_seen_are_refused_though_opencv_decodes_them(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / "a.jpg"
    try:
        pixels = PICTURE[..., 0] if suffix == ".pgm" else PICTURE.astype(np.float32) if suffix in (".hdr", ".exr") \
            else PICTURE
        path.write_bytes(cv2.imencode(suffix, pixels)[1].tobytes())
    except cv2.error:
        pytest.skip(f"this OpenCV writes no {suffix}")
    with pytest.raises(DataError, match=r"neither JPEG, PNG, BMP, GIF nor WebP.*convert it"):
        read_image(path)


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".bmp", ".webp"])
def test_a_picture_that_is_cut_short_is_refused_or_decodes_to_the_same_pixels(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / "a"
    whole = encoded(suffix)
    path.write_bytes(whole)
    expected = read_image(path)
    for length in np.random.default_rng(1).integers(0, len(whole), 40):
        path.write_bytes(whole[:length])
        try:
            found = read_image(path)
        except DataError:
            continue
        np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("chunk", [b"tEXt", b"IHDR"])
def test_a_png_of_a_million_empty_chunks_is_given_up_soon(tmp_path: Path, chunk: bytes) -> None:
    empty = struct.pack(">I", 0) + chunk + struct.pack(">I", zlib.crc32(chunk))
    path = tmp_path / "a.png"
    path.write_bytes(encoded(".png")[:33] + empty * 1_000_000)
    began = perf_counter()
    with pytest.raises(DataError, match="chunks hold no pixels"):
        read_image(path)
    assert perf_counter() - began < 0.5


@pytest.mark.parametrize("make", [lambda p: p.mkdir(), os.mkfifo, lambda p: p.symlink_to("/dev/zero")])
def test_a_folder_a_pipe_and_a_device_are_refused_at_once(tmp_path: Path, make: Callable[[Path], None]) -> None:
    make(tmp_path / "a.jpg")
    with pytest.raises(DataError, match=r"a\.jpg: cannot read the image"):
        read_image(tmp_path / "a.jpg")


@pytest.mark.parametrize("name", ["a\0.jpg", "a\ud800.jpg"])
def test_a_name_that_no_file_can_have_is_one_line(tmp_path: Path, name: str) -> None:
    with pytest.raises(DataError, match="no name that a file can have"):
        read_image(str(tmp_path / name))
