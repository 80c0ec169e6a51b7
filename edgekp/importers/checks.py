"""What every reader holds against a foreign file before it believes it: numbers, names, and paths that stay inside."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from edgekp.errors import DataError, unknown_name
from edgekp.plain_file import read_plain
from edgekp.sample import Float, Int
from edgekp.skeletons import Skeleton

IMAGE_SUFFIXES = frozenset({".bmp", ".gif", ".jpeg", ".jpg", ".png", ".webp"})
DRIVE = re.compile("[A-Za-z]:")
LARGEST_TEXT = 256 << 20  # bytes; WFLW's list has 15 million
LONGEST_LINE = 1 << 20
LONGEST_NAME = 255  # bytes of an image's name with its folders; systems fail beyond, each in its own way


def numbers(values: Any, where: str, count: int | None = None) -> Float:
    """(count,) finite numbers from a list of numbers or of words."""
    if not isinstance(values, (list, tuple)) or (count is not None and len(values) != count):
        found = f"{len(values)} values" if isinstance(values, (list, tuple)) else f"{values!r:.40}"
        raise DataError(f"{where}: {found}, expected {count or 'a list of'} numbers")
    try:
        parsed = np.array([float(value) for value in values], dtype=np.float64)
    except (TypeError, ValueError, OverflowError) as error:
        raise DataError(f"{where}: a value is no number ({error}); expected numbers only") from error
    if not np.isfinite(parsed).all():
        raise DataError(f"{where}: a value is NaN or infinite, expected numbers")
    return parsed


def visibilities(values: Float, where: str, allowed: tuple[int, ...] = (0, 1, 2)) -> Int:
    """The values as integers, refused where one is not allowed."""
    if not np.isin(values, allowed).all():
        strange = values[~np.isin(values, allowed)][0]
        raise DataError(f"{where}: visibility {strange:g}, expected {' or '.join(map(str, allowed))}")
    return values.astype(np.int64)


def keypoint_index(skeleton: Skeleton, name: str, where: str) -> int:
    """Position of a keypoint's name, or a DataError with the nearest known one."""
    if name not in skeleton.keypoints:
        raise DataError(f"{where}: {unknown_name('keypoint', name, list(skeleton.keypoints))} "
                        f"(skeleton '{skeleton.name}')")
    return skeleton.keypoints.index(name)


def group_name(value: Any, where: str) -> str | None:
    """What ties shapes to one instance, as a text; None where the tool was not told."""
    if isinstance(value, bool) or not isinstance(value, (int, str, type(None))):
        raise DataError(f"{where}: {value!r:.40}, expected a number or a text that names an instance")
    return None if value in (None, "") else str(value)


def inside(name: Any, where: str) -> str:
    """An image's file name with ``/``, relative and without ``..``: a label file says nothing about other folders."""
    path = PurePosixPath(name.replace("\\", "/")) if isinstance(name, str) else PurePosixPath()
    if not path.name or "\0" in path.name or len(str(path).encode(errors="replace")) > LONGEST_NAME:
        raise DataError(f"{where}: {name!r:.40} is no file name of an image; expected one such as photo.jpg")
    if path.is_absolute() or DRIVE.match(str(path)) or ".." in path.parts:
        raise DataError(f"{where}: image '{name}' leaves the folder of the images; put it there, "
                        "or name its folder with --images")
    return str(path)


def read_lines(path: Path) -> list[str]:
    """Lines of a text file, or a DataError."""
    try:
        lines = read_plain(path, LARGEST_TEXT).decode("utf-8-sig").splitlines()
    except FileNotFoundError:
        raise DataError(f"{path}: no such file") from None
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: not a text file ({error.reason} at byte {error.start}); save it as UTF-8") from error
    longest = max(range(len(lines)), key=lambda number: len(lines[number]), default=0)
    if lines and len(lines[longest]) > LONGEST_LINE:
        raise DataError(f"{path}: line {longest + 1} has {len(lines[longest])} characters, expected at most "
                        f"{LONGEST_LINE}")
    return lines


def files_below(source: Path, pattern: str, what: str) -> list[Path]:
    """``source`` itself if it is a file, else the files below it that fit, in order; none is a DataError."""
    files = [source] if source.is_file() else sorted(source.rglob(pattern))
    if not files:
        raise DataError(f"{source}: no {what} ({pattern}) there; name another folder")
    return files


def images_by_stem(folder: Path) -> dict[str, list[str]]:
    """Image files below a folder: relative path without suffix -> relative paths."""
    found: dict[str, list[str]] = {}
    for path in sorted(folder.rglob("*")):
        if path.suffix.lower() in IMAGE_SUFFIXES:
            relative = path.relative_to(folder)
            found.setdefault(relative.with_suffix("").as_posix(), []).append(relative.as_posix())
    return found


def image_named_like(labels: Path, root: Path, images: dict[str, list[str]], folder: Path) -> str:
    """The one image whose path below ``folder`` is, but for the suffix, that of ``labels`` below ``root``."""
    stem = labels.relative_to(root).with_suffix("").as_posix()
    names = images.get(stem, [])
    if len(names) != 1:
        found = f"{len(names)} images ({', '.join(names)})" if names else "no image"
        raise DataError(f"{labels}: {found} named '{stem}' in {folder}, expected one; --images names another folder")
    return names[0]


def first_existing(name: str, folders: Iterable[Path]) -> Path:
    """Of the folders where a tool may have put its images, the first that holds ``name``; else the last."""
    last = Path()
    for last in folders:
        if (last / name).is_file():
            break
    return last
