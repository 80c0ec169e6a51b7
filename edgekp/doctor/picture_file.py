"""What an image file says of itself: size, EXIF orientation, digest, a small hash of what is seen. Knows no labels."""

from __future__ import annotations

import hashlib
import stat
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import cv2
import numpy as np

from edgekp.errors import DataError
from edgekp.image_header import FILE_LIMIT, image_size, pixel_limit, why_not_decoded
from edgekp.plain_file import read_plain
from edgekp.sample import Image

HASH_HW = (8, 9)
THUMBNAIL_HW = (16, 16)
SHORT_SIDE = 72  # pixels that a reduced decoding must leave: 8 for each cell of the hash


@dataclass(frozen=True)
class Picture:
    """An image file, as far as it was looked at.

    Attributes:
        state: ``oversized`` files are not decoded.
        detail: what is the matter, in a few words; empty if the file is fine.
        wh: the header's width and height before any EXIF rotation; zeros if there is no header.
        orientation: EXIF's, 1 to 8; 1 is upright.
        sha256: of the file's bytes; empty if they were not read.
        dhash: 64 signs of horizontal differences; None if the picture was not decoded.
        thumbnail: (16, 16) grey; None if the picture was not decoded.
    """

    state: Literal["fine", "missing", "broken", "oversized"]
    detail: str = ""
    wh: tuple[int, int] = (0, 0)
    orientation: int = 1
    sha256: str = ""
    dhash: int | None = None
    thumbnail: Image | None = None


def look_at(root: Path, names: Iterable[str], decode: bool) -> dict[str, Picture]:
    """Each named file once, by its name; without ``decode`` only headers are read."""
    return {name: _look(root / name, decode) for name in dict.fromkeys(names) if name}


def _look(path: Path, decode: bool) -> Picture:
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            return Picture("missing", "not a file")
        width, height, orientation = image_size(path)
        header = Picture("fine", wh=(width, height), orientation=orientation)
        if width * height > pixel_limit():
            return replace(header, state="oversized", detail=f"{width} x {height} pixels")
        return _decoded(header, read_plain(path, FILE_LIMIT)) if decode else header
    except FileNotFoundError:
        return Picture("missing", "no such file")
    except OSError as error:
        return Picture("missing", f"cannot be read ({error.strerror})")
    except ValueError:
        return Picture("missing", "no name that a file can have")
    except DataError as error:
        return Picture("broken", str(error).removeprefix(f"{path}: "))


def _decoded(header: Picture, data: bytes) -> Picture:
    """The header's facts and those of the pixels; a damaged file is ``broken``."""
    if reason := why_not_decoded(data, header.wh[0] * header.wh[1]):
        return replace(header, state="broken", detail=reason)
    grey = _grey(data, min(header.wh))
    if grey is None:
        return replace(header, state="broken", detail="does not decode")
    return replace(header, sha256=hashlib.sha256(data).hexdigest(), dhash=_dhash(grey),
                   thumbnail=_resized(grey, THUMBNAIL_HW))


def _grey(data: bytes, short_side: int) -> Image | None:
    """(h, w) decoded at the smallest scale that still serves the hash, as stored (no EXIF rotation)."""
    scales = ((8, cv2.IMREAD_REDUCED_GRAYSCALE_8), (4, cv2.IMREAD_REDUCED_GRAYSCALE_4),
              (2, cv2.IMREAD_REDUCED_GRAYSCALE_2))
    flags = next((flags for scale, flags in scales if short_side >= scale * SHORT_SIDE), cv2.IMREAD_GRAYSCALE)
    try:
        grey = cv2.imdecode(np.frombuffer(data, dtype=np.uint8), flags | cv2.IMREAD_IGNORE_ORIENTATION)
    except cv2.error:
        return None
    return None if grey is None else np.asarray(grey, dtype=np.uint8)


def _dhash(grey: Image) -> int:
    """64 bits, one for each cell of 8 x 8 that is darker than its right neighbour."""
    cells = _resized(grey, HASH_HW)
    return int.from_bytes(np.packbits(cells[:, 1:] > cells[:, :-1]).tobytes(), "big")


def _resized(grey: Image, hw: tuple[int, int]) -> Image:
    return np.asarray(cv2.resize(grey, hw[::-1], interpolation=cv2.INTER_AREA), dtype=np.uint8)
