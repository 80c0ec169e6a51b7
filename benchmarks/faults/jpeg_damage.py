"""JPEG files of a data set that were damaged after it was first used, as the stages meet them.

What decides is the key of a training: its stage must say which image is no longer what it was, before it uses it.
OpenCV alone decodes most damaged files without a word.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import cv2
import numpy as np

from benchmarks.faults.judging import verdict_of
from benchmarks.faults.outcome import Outcome, tally
from edgekp.preprocess import read_image

QUALITY = 90
Damage = Callable[[bytes, np.random.Generator], bytes]


def truncated(data: bytes, rng: np.random.Generator) -> bytes:
    return data[:int(rng.integers(len(data)))]


def bit_flipped(data: bytes, rng: np.random.Generator) -> bytes:
    byte, bit = int(rng.integers(len(data))), int(rng.integers(8))
    return data[:byte] + bytes([data[byte] ^ 1 << bit]) + data[byte + 1:]


def jpeg_truncations(tries: int, seed: int) -> Outcome:
    return _noticed("jpeg-truncation", truncated, tries, seed)


def jpeg_bit_flips(tries: int, seed: int) -> Outcome:
    return _noticed("jpeg-bit-flip", bit_flipped, tries, seed)


def usual_truncations(tries: int, seed: int) -> Outcome:
    return _decoded("cv2", truncated, tries, seed)


def usual_bit_flips(tries: int, seed: int) -> Outcome:
    return _decoded("cv2", bit_flipped, tries, seed)


@dataclass(frozen=True)
class Used:
    """A data set, and the folder of a stage that has used it."""

    images: list[Path]
    why_again: Callable[[], list[str]]


def _noticed(fault: str, damage: Damage, tries: int, seed: int) -> Outcome:
    """Damaged, asked, put back; the undamaged set must be as good as before."""
    rng, verdicts = np.random.default_rng(seed), []
    with _used_set() as used:
        for number in range(tries):
            path = used.images[int(rng.integers(len(used.images)))]
            data = path.read_bytes()
            path.write_bytes(damage(data, rng))
            verdicts.append(verdict_of(f"{fault}, try {number}", used.why_again, partial(_is_named, path.name)))
            path.write_bytes(data)
        assert used.why_again() == []
    return tally(fault, verdicts)


def _is_named(name: str, reasons: list[str]) -> bool:
    return any(name in reason for reason in reasons)


def _decoded(fault: str, damage: Damage, tries: int, seed: int) -> Outcome:
    """cv2.imread: survived where it gives no picture or the right one."""
    rng, verdicts = np.random.default_rng(seed), []
    with _used_set() as used:
        pictures = [path.read_bytes() for path in used.images]
        for _ in range(tries):
            data = pictures[int(rng.integers(len(pictures)))]
            found = cv2.imdecode(np.frombuffer(damage(data, rng) or b"\0", np.uint8), cv2.IMREAD_COLOR)
            right = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
            assert right is not None
            is_noticed = found is None or np.array_equal(found, right)
            verdicts.append("survived" if is_noticed else "silent")
    return tally(fault, verdicts)


@contextmanager
def _used_set() -> Iterator[Used]:
    """Two JPEG files with labels, and the key of a training on them in the folder where its result would be."""
    from edgekp.recipe_file import load_recipe
    from edgekp.stage import run_stage
    from tests import tiny
    from train.__main__ import train_key

    before = Path.cwd()
    with TemporaryDirectory() as scratch:
        os.environ |= {"EDGEKP_CACHE": f"{scratch}/cache", "EDGEKP_DATA": scratch}
        os.chdir(scratch)
        for name in ("train", "val"):
            _as_jpeg(tiny.write_coco(Path(), name, 16))
        Path("tiny.toml").write_text(tiny.toml(), encoding="utf-8")
        recipe = load_recipe(Path("tiny.toml"), [])
        run_stage(Path("result"), train_key(recipe), lambda folder: None)
        yield Used(sorted(Path().glob("train*.jpg")), lambda: train_key(recipe).reasons_to_run(Path("result")))
        os.chdir(before)


def _as_jpeg(labels: Path) -> None:
    document = json.loads(labels.read_bytes())
    for image in document["images"]:
        path = Path(image["file_name"])
        image["file_name"] = path.with_suffix(".jpg").name
        cv2.imwrite(image["file_name"], read_image(path)[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, QUALITY])
        path.unlink()
    labels.write_text(json.dumps(document), encoding="utf-8")
