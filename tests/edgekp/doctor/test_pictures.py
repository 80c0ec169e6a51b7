"""Image files: cut-off ones, absurd ones, and those that look alike."""

from __future__ import annotations

import os
from pathlib import Path

import cv2
import numpy as np
import pytest

from edgekp.doctor.near_pictures import ALIKE, NEAR_BITS, Looks, first_alike
from edgekp.doctor.picture_file import look_at
from edgekp.doctor.pictures import is_portable
from edgekp.image_header import PIXEL_LIMIT, is_cut_off
from edgekp.sample import Image
from tests.edgekp.doctor.healthy import Case
from tests.edgekp.doctor.planted import replace_file, swap_stated_size, turned


def noise(rng: np.random.Generator, hw: tuple[int, int] = (150, 200)) -> Image:
    """A coarse pattern, as different from the next one as two photographs are."""
    return cv2.resize(rng.integers(0, 256, (6, 8, 3), dtype=np.uint8), hw[::-1], interpolation=cv2.INTER_CUBIC)


def encoded(pixels: Image, ending: str = ".jpg", *options: int) -> bytes:
    return cv2.imencode(ending, pixels, options)[1].tobytes()


@pytest.mark.parametrize("ending", [".jpg", ".png", ".bmp", ".webp", ".gif"])
@pytest.mark.parametrize("share", [0.3, 0.9, 0.999])
def test_a_file_that_is_cut_off_is_broken(tmp_path: Path, rng: np.random.Generator, ending: str, share: float) -> None:
    data = encoded(noise(rng), ending)
    (tmp_path / "whole").write_bytes(data)
    (tmp_path / "cut").write_bytes(data[:int(len(data) * share)])
    pictures = look_at(tmp_path, ["whole", "cut"], decode=True)
    assert (pictures["whole"].state, pictures["cut"].state) == ("fine", "broken")


def test_the_end_of_an_embedded_thumbnail_is_not_the_end_of_the_file(rng: np.random.Generator) -> None:
    data, thumbnail = encoded(noise(rng)), encoded(noise(rng, (30, 40)))
    with_thumbnail = data[:2] + b"\xff\xe1" + (len(thumbnail) + 2).to_bytes(2, "big") + thumbnail + data[2:]
    assert not is_cut_off(with_thumbnail)
    assert not is_cut_off(with_thumbnail + b"what cameras append")
    assert is_cut_off(with_thumbnail[:-200])


@pytest.mark.parametrize("options", [(cv2.IMWRITE_JPEG_PROGRESSIVE, 1), (cv2.IMWRITE_JPEG_RST_INTERVAL, 4),
                                     (cv2.IMWRITE_JPEG_QUALITY, 100), (cv2.IMWRITE_JPEG_OPTIMIZE, 1)])
def test_every_kind_of_jpeg_has_its_end(rng: np.random.Generator, options: tuple[int, int]) -> None:
    data = encoded(noise(rng), ".jpg", *options)
    assert not is_cut_off(data)
    assert is_cut_off(data[:-2])


def test_an_absurd_header_is_not_decoded(tmp_path: Path) -> None:
    """Decoding 37 KB that claim 30000 x 30000 would take 5 GB; this takes the header's bytes."""
    side = int(PIXEL_LIMIT**0.5) + 1
    header = b"BM" + bytes(12) + (40).to_bytes(4, "little") + side.to_bytes(4, "little") * 2 + bytes(60)
    (tmp_path / "a.bmp").write_bytes(header)
    picture = look_at(tmp_path, ["a.bmp"], decode=True)["a.bmp"]
    assert (picture.state, picture.wh, picture.sha256) == ("oversized", (side, side), "")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.jpg")
    assert look_at(tmp_path, ["pipe.jpg"], decode=True)["pipe.jpg"].state == "missing"


def test_the_size_is_that_of_the_stored_pixels(tmp_path: Path, rng: np.random.Generator) -> None:
    (tmp_path / "a.png").write_bytes(encoded(noise(rng, (123, 77)), ".png"))
    assert look_at(tmp_path, ["a.png"], decode=False)["a.png"].wh == (77, 123)


@pytest.mark.parametrize("orientation", [3, 6, 8])
def test_a_picture_is_seen_as_it_is_stored(tmp_path: Path, rng: np.random.Generator, orientation: int) -> None:
    """As COCO's labels and read_image take it, whatever EXIF says."""
    data = encoded(noise(rng))
    (tmp_path / "upright.jpg").write_bytes(data)
    (tmp_path / "turned.jpg").write_bytes(turned(orientation)(data))
    pictures = look_at(tmp_path, ["upright.jpg", "turned.jpg"], decode=True)
    assert pictures["turned.jpg"].orientation == orientation
    assert pictures["turned.jpg"].dhash == pictures["upright.jpg"].dhash
    assert pictures["turned.jpg"].wh == pictures["upright.jpg"].wh


def test_only_a_turn_by_90_degrees_exchanges_the_sides(case: Case) -> None:
    """Upside down, 240 x 320 is another size than 320 x 240."""
    swap_stated_size(case)
    replace_file(case, "train-1.jpg", turned(3))
    assert case.codes() == {"image-rotated", "image-size"}


@pytest.mark.parametrize(("name", "expected"), [
    ("a.jpg", True), ("train/a.jpg", True), ("a..b/c.jpg", True), ("", True), ("/data/a.jpg", False),
    ("../a.jpg", False), ("train/../../a.jpg", False), ("C:\\data\\a.jpg", False), ("..\\a.jpg", False),
    ("\\\\server\\a.jpg", False)])
def test_names_that_stay_in_their_folder(name: str, expected: bool) -> None:
    assert is_portable(name) is expected


def looks(folder: Path, images: dict[str, bytes]) -> Looks:
    for name, data in images.items():
        (folder / name).write_bytes(data)
    pictures = list(look_at(folder, images, decode=True).values())
    return Looks.of(pictures, np.ones(len(pictures), dtype=bool))


def test_scaled_darkened_and_recompressed_copies_look_alike(tmp_path: Path, rng: np.random.Generator) -> None:
    pixels = noise(rng, (600, 800))
    copies = {"small": cv2.resize(pixels, (200, 150), interpolation=cv2.INTER_AREA),
              "dark": (0.7 * pixels).astype(np.uint8), "cropped": pixels[6:-6, 8:-8]}
    others = {f"other-{number}": noise(rng) for number in range(20)}
    seen = looks(tmp_path, {"a": encoded(pixels)} | {
        name: encoded(copy, ".jpg", cv2.IMWRITE_JPEG_QUALITY, 60) for name, copy in (copies | others).items()})
    partner = first_alike(seen, seen, np.arange(len(seen.rows)))
    np.testing.assert_array_equal(partner, [-1, 0, 0, 0] + [-1] * len(others))


def test_pictures_of_one_colour_are_not_alike(tmp_path: Path) -> None:
    """They have no pattern to compare; that they are blank is another matter."""
    seen = looks(tmp_path, {f"{grey}.png": encoded(np.full((90, 90, 3), grey, np.uint8), ".png")
                            for grey in (0, 9, 99)})
    np.testing.assert_array_equal(first_alike(seen, seen, np.arange(3)), [-1, -1, -1])


def drawn_looks(rng: np.random.Generator, count: int) -> Looks:
    """Hashes that come in families, with patterns of which some agree."""
    fixed = np.random.default_rng(7)
    families, kinds = fixed.integers(0, 2**63, 40, dtype=np.uint64), fixed.normal(size=(3, 8))
    flipped = np.uint64(1) << rng.integers(0, 63, (count, 4), dtype=np.uint64)
    hashes = np.bitwise_xor.reduce(flipped, axis=1) ^ families[rng.integers(40, size=count)]
    patterns = kinds[rng.integers(3, size=count)].astype(np.float32)
    return Looks(np.arange(count), hashes, patterns / np.linalg.norm(patterns, axis=1, keepdims=True))


def test_blocks_find_what_a_plain_loop_finds(rng: np.random.Generator) -> None:
    """600 pictures are more than two blocks of the search."""
    seen, others = drawn_looks(rng, 600), drawn_looks(rng, 50)
    for theirs, before in ((seen, np.arange(600)), (others, np.full(600, 50))):
        expected = [next((m for m in range(before[n]) if (int(seen.hashes[n]) ^ int(theirs.hashes[m])).bit_count()
                          <= NEAR_BITS and seen.patterns[n] @ theirs.patterns[m] >= ALIKE), -1) for n in range(600)]
        np.testing.assert_array_equal(first_alike(seen, theirs, before), expected)
        assert max(expected) >= 0


def test_no_pictures_have_no_partner(rng: np.random.Generator) -> None:
    none, some = Looks.of([], np.zeros(0, dtype=bool)), drawn_looks(rng, 5)
    assert len(first_alike(none, some, np.zeros(0, dtype=int))) == 0
    np.testing.assert_array_equal(first_alike(some, none, np.zeros(5, dtype=int)), [-1] * 5)
