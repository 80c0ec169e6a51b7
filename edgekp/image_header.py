"""Width, height and EXIF orientation from the first bytes of an image file; decodes no pixel.

Reads JPEG, PNG, BMP, GIF and WebP by their signature, whatever the file is called. The layouts follow the formats'
specifications: ITU T.81, the PNG and WebP specifications, GIF89a, the BITMAPINFOHEADER, and Exif 2.3 in TIFF 6.0.
A header is a promise: a JPEG of 37 KB that claims 30000 x 30000 takes 5.2 GB and 47 s to decode, so it is held against
a limit first. So is how often its scans go through all pixels: 70 KB can hold 6400, minutes at 100 million pixels.
What OpenCV decodes beyond these formats (TIFF, JPEG 2000, EXR and others) is refused with them.
"""

from __future__ import annotations

import os
import re
import struct
from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path
from typing import BinaryIO, NamedTuple

from edgekp.errors import DataError
from edgekp.plain_file import open_plain, read_plain

PIXEL_LIMIT = 100_000_000  # 0.3 GB decoded; the largest sensors have 61 million
PIXEL_LIMIT_NAME = "EDGEKP_MAX_PIXELS"  # the environment's name for another limit
SCANS_AT_LIMIT = 20  # of a picture at the limit of pixels, and more of a smaller one: encoders write 10, or some more
FILE_LIMIT = 512 << 20  # bytes: 100 million pixels of three bytes, and as much again for what is beside them
UPRIGHT = 1
ORIENTATION_TAG = 0x0112
EXIF_PREFIX = b"Exif\0\0"
EXIF_LIMIT = 1 << 16  # bytes: a JPEG segment holds no more, and the tag stands near the beginning
JPEG_SIZE_MARKERS = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}  # start of frame, less DHT, JPG and DAC
JPEG_BARE_MARKERS = frozenset({0x00, 0x01, *range(0xD0, 0xD9)})  # a stuffed 0xFF, TEM, RSTn, SOI: no length follows
JPEG_SCAN, JPEG_END, JPEG_APP1 = 0xDA, 0xD9, 0xE1
JPEG_MARKER = re.compile(rb"\xff[\xc0-\xcf\xd9-\xfe]")  # those with a length; decoders pass over all others
JPEG, JPEG_END_MARK = b"\xff\xd8", b"\xff\xd9"
JPEG_SEARCH_LIMIT = 1 << 16  # bytes looked at between segments: a hostile file ends the search instead of a day
CHUNK_LIMIT = 1 << 12  # the same for chunks of PNG and WebP; cameras write less than 20
SIGNATURE_BYTES = 12  # of any format
PNG, PNG_END = b"\x89PNG\r\n\x1a\n", b"IEND"


class ImageSize(NamedTuple):
    """Size of the stored pixels.

    Attributes:
        exif_orientation: 1 (upright) to 8; viewers and labelling tools turn the picture by it, COCO does not.
    """

    width: int
    height: int
    exif_orientation: int = UPRIGHT


class _Damage(Exception):
    """What is wrong with a header; becomes a DataError with the file's name."""


def image_size(path: str | Path) -> ImageSize:
    """Size and orientation of an image file, from its header alone.

    Raises:
        DataError: The file is missing, of another format, cut short, or its header contradicts itself.
    """
    try:
        with open_plain(path) as file:
            return _usable_size(file, path)
    except OSError as error:
        raise DataError(f"{path}: cannot read the image ({error.strerror})") from error


def read_image_file(path: str | Path) -> bytes:
    """The bytes of an image file that may be decoded: whole as far as can be seen, and within the limit of pixels.

    Raises:
        DataError: The file is missing, no plain file, of another format, cut short, or claims too many pixels.
    """
    try:
        data = read_plain(path, FILE_LIMIT)
    except OSError as error:
        raise DataError(f"{path}: cannot read the image ({error.strerror}); "
                        "check the file names and --images") from error
    size = _usable_size(BytesIO(data), path)
    if size.width * size.height > pixel_limit():
        raise DataError(f"{path}: its header claims {size.width} x {size.height} pixels, at most "
                        f"{pixel_limit():,} are decoded; replace the file, or set {PIXEL_LIMIT_NAME} to allow more")
    if reason := why_not_decoded(data, size.width * size.height):
        raise DataError(f"{path}: {reason}; replace the file")
    return data


def begins_as_image(path: str | Path) -> bool:
    """Whether a file has the signature of a format that is read here.

    Raises:
        OSError: It cannot be read.
    """
    with open_plain(path) as file:
        return _reader(file.read(SIGNATURE_BYTES)) is not None


def why_not_decoded(data: bytes, pixels: int) -> str:
    """What forbids to decode a file whose header claims so many pixels, in a few words; empty if nothing does."""
    if is_cut_off(data):
        return f"cut off after {len(data)} bytes: the end marker is missing"
    scans, most = _scans(data), SCANS_AT_LIMIT * pixel_limit() // pixels
    return f"a JPEG of {scans} scans, at most {most} are decoded at its size" if scans > most else ""


def pixel_limit() -> int:
    """The most pixels that an image may have to be decoded.

    Raises:
        DataError: The environment names a limit that is none.
    """
    text = os.environ.get(PIXEL_LIMIT_NAME)
    if text is None:
        return PIXEL_LIMIT
    if not (text.isascii() and text.isdigit() and len(text) < 16 and int(text) > 0):
        raise DataError(f"{PIXEL_LIMIT_NAME}={text[:20]!r}: expected a number of pixels, such as {PIXEL_LIMIT}")
    return int(text)


def is_cut_off(data: bytes) -> bool:
    """True for a JPEG or PNG without its end; decoders may fill the rest with grey and say nothing."""
    if data.startswith(JPEG):
        return data.rfind(JPEG_END_MARK) < _start_of_scan(data)
    return data.startswith(PNG) and PNG_END not in data


def _start_of_scan(data: bytes) -> int:
    """Where a JPEG's pixels begin, behind the segments that may hold a thumbnail with an end marker of its own."""
    position = len(JPEG)
    while position + 4 <= len(data) and data[position] == 0xFF and data[position + 1] != JPEG_SCAN:
        position += 2 + int.from_bytes(data[position + 2:position + 4], "big")
    return position


def _scans(data: bytes) -> int:
    """How often a decoder goes through the pixels of a JPEG; 0 for another format."""
    scans, position = 0, len(JPEG)
    while data.startswith(JPEG) and (found := JPEG_MARKER.search(data, position)):
        marker, position = data[found.end() - 1], found.end()
        if marker == JPEG_END:
            break
        scans += marker == JPEG_SCAN
        position += max(2, int.from_bytes(data[position:position + 2], "big"))
    return scans


def _usable_size(file: BinaryIO, path: str | Path) -> ImageSize:
    """The header's size, or a DataError with the file's name."""
    try:
        size = _size(file)
    except (_Damage, struct.error) as error:
        reason = error if isinstance(error, _Damage) else "its header is cut short"
        raise DataError(f"{path}: {reason}; replace the file") from error
    if size.width < 1 or size.height < 1:
        raise DataError(f"{path}: its header says {size.width} x {size.height} pixels; replace the file")
    return size


def _size(file: BinaryIO) -> ImageSize:
    start = file.read(SIGNATURE_BYTES)
    if reader := _reader(start):
        file.seek(0)
        return reader(file)
    if not start:
        raise _Damage("an empty file")
    raise _Damage("neither JPEG, PNG, BMP, GIF nor WebP, the formats whose size is checked before they are decoded; "
                  "convert it, such as to PNG")


def _reader(start: bytes) -> Callable[[BinaryIO], ImageSize] | None:
    """What reads the header of a file that begins like this; None for another format."""
    if start[:4] == b"RIFF":
        return _webp if start[8:] == b"WEBP" else None
    readers = ((b"\xff\xd8\xff", _jpeg), (PNG, _png), (b"BM", _bmp), (b"GIF87a", _gif), (b"GIF89a", _gif))
    return next((reader for signature, reader in readers if start.startswith(signature)), None)


def _jpeg(file: BinaryIO) -> ImageSize:
    orientation = UPRIGHT
    for marker, length in _jpeg_segments(file):
        if marker in JPEG_SIZE_MARKERS:
            height, width = struct.unpack(">xHH", file.read(5))
            if height == 0:
                raise _Damage("a JPEG whose header leaves the height to a later DNL segment")
            return ImageSize(width, height, orientation)
        if marker == JPEG_APP1 and orientation == UPRIGHT:
            orientation = _exif_orientation(file.read(length))
    raise AssertionError("the segments end with an error")


def _jpeg_segments(file: BinaryIO) -> Iterator[tuple[int, int]]:
    """Each segment before the pixels as (marker, bytes of content), the file standing at its content."""
    after_ff = False
    for _ in range(JPEG_SEARCH_LIMIT):
        byte = file.read(1)
        if not byte:
            raise _Damage("a JPEG that ends before it says its size")
        if not after_ff or byte == b"\xff":  # stray bytes and fill bytes, which decoders skip
            after_ff = byte == b"\xff"
            continue
        after_ff, marker = False, byte[0]
        if marker in JPEG_BARE_MARKERS:
            continue
        if marker in (JPEG_SCAN, JPEG_END):
            break
        length, = struct.unpack(">H", file.read(2))
        if length < 2:
            raise _Damage(f"a JPEG with a segment of {length} bytes")
        content = file.tell()
        yield marker, length - 2
        file.seek(content + length - 2)
    raise _Damage("a JPEG that never says its size")


def _png(file: BinaryIO) -> ImageSize:
    length, name, width, height = struct.unpack(">8xI4sII", file.read(24))
    if (length, name) != (13, b"IHDR"):
        raise _Damage("a PNG that does not begin with its size")
    file.seek(8 + 12 + length)
    for _ in range(CHUNK_LIMIT):
        length, name = struct.unpack(">I4s", file.read(8))
        if name in (b"IDAT", b"IEND"):
            return ImageSize(width, height)
        content = file.tell()
        if name == b"eXIf":
            return ImageSize(width, height, _tiff_orientation(file.read(min(length, EXIF_LIMIT))))
        file.seek(content + length + 4)  # a checksum follows
    raise _Damage(f"a PNG whose first {CHUNK_LIMIT} chunks hold no pixels")


def _bmp(file: BinaryIO) -> ImageSize:
    header_size, = struct.unpack("<14xI", file.read(18))
    if header_size == 12:  # OS/2
        return ImageSize(*struct.unpack("<HH", file.read(4)))
    width, height = struct.unpack("<ii", file.read(8))
    return ImageSize(width, abs(height))  # a negative height is stored from the top


def _gif(file: BinaryIO) -> ImageSize:
    return ImageSize(*struct.unpack("<6xHH", file.read(10)))


def _webp(file: BinaryIO) -> ImageSize:
    name, length = struct.unpack("<12x4sI", file.read(20))
    content = file.tell()
    if name == b"VP8 ":
        start_code, width, height = struct.unpack("<3x3sHH", file.read(10))
        if start_code != b"\x9d\x01\x2a":
            raise _Damage("a WebP without a key frame")
        return ImageSize(width & 0x3FFF, height & 0x3FFF)
    if name == b"VP8L":
        signature, bits = struct.unpack("<BI", file.read(5))
        if signature != 0x2F:
            raise _Damage("a lossless WebP without its signature")
        return ImageSize((bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1)
    if name != b"VP8X":
        raise _Damage(f"a WebP that begins with {name!r}")
    flags, width, height = struct.unpack("<B3x3s3s", file.read(10))
    size = ImageSize(int.from_bytes(width, "little") + 1, int.from_bytes(height, "little") + 1)
    return size._replace(exif_orientation=_webp_orientation(file, content + length)) if flags & 0x08 else size


def _webp_orientation(file: BinaryIO, position: int) -> int:
    """Of the EXIF chunk, which stands behind the pixels; ``position`` is where the chunks go on."""
    for _ in range(CHUNK_LIMIT):
        file.seek(position + position % 2)  # chunks begin at even places
        name, length = struct.unpack("<4sI", file.read(8))
        if name == b"EXIF":
            content = file.read(min(length, EXIF_LIMIT))
            return _exif_orientation(content) if content.startswith(EXIF_PREFIX) else _tiff_orientation(content)
        position = file.tell() + length
    raise _Damage(f"a WebP whose first {CHUNK_LIMIT} chunks lack the EXIF data that it announces")


def _exif_orientation(content: bytes) -> int:
    """Of an APP1 segment, which may hold something else than EXIF, such as XMP."""
    return _tiff_orientation(content[len(EXIF_PREFIX):]) if content.startswith(EXIF_PREFIX) else UPRIGHT


def _tiff_orientation(tiff: bytes) -> int:
    """Tag 0x0112 of the first directory; a broken or silent one means upright, as viewers take it."""
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(tiff[:4])
    if order is None:
        return UPRIGHT
    try:
        start, = struct.unpack_from(order + "I", tiff, 4)
        count, = struct.unpack_from(order + "H", tiff, start)
        for entry in range(min(count, (len(tiff) - start) // 12)):
            tag, kind, _, value = struct.unpack_from(order + "HHIH", tiff, start + 2 + 12 * entry)
            if (tag, kind) == (ORIENTATION_TAG, 3):
                return value if 1 <= value <= 8 else UPRIGHT
    except struct.error:
        pass
    return UPRIGHT
