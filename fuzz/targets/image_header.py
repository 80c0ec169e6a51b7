"""Sizes and orientations of JPEG, PNG, BMP, GIF and WebP files."""

from __future__ import annotations

import struct
from pathlib import Path

from edgekp.image_header import image_size
from fuzz.drawn import png_header
from fuzz.target import Read, Target, from_file

TIFF = struct.pack("<4sIHHHIHHI", b"II*\0", 8, 1, 0x0112, 3, 1, 6, 0, 0)
EXIF = b"Exif\0\0" + TIFF
JPEG = (b"\xff\xd8\xff\xe1" + struct.pack(">H", len(EXIF) + 2) + EXIF + b"\xff\xc0"
        + struct.pack(">HBHHB", 17, 8, 48, 64, 3) + b"\0" * 9 + b"\xff\xda")
BMP = b"BM" + b"\0" * 12 + struct.pack("<Iii", 40, 64, -48)
GIF = b"GIF89a" + struct.pack("<HH", 64, 48)
PNG = png_header()[:-8] + struct.pack(">I4s", len(TIFF), b"eXIf") + TIFF + b"\0" * 4 + struct.pack(">I4s", 0, b"IDAT")


def webp(name: bytes, content: bytes) -> bytes:
    return b"RIFF" + struct.pack("<I", len(content) + 12) + b"WEBP" + name + struct.pack("<I", len(content)) + content


LOSSY = webp(b"VP8 ", b"\0\0\0\x9d\x01\x2a" + struct.pack("<HH", 64, 48))
LOSSLESS = webp(b"VP8L", b"\x2f" + struct.pack("<I", 63 | 47 << 14))
EXTENDED = webp(b"VP8X", b"\x08\0\0\0" + b"\x3f\0\0\x2f\0\0") + b"EXIF" + struct.pack("<I", len(EXIF)) + EXIF


def reader(folder: Path) -> Read:
    path = folder / "picture"
    return from_file(path, lambda: image_size(path))


TARGET = Target((JPEG, PNG, BMP, GIF, LOSSY, LOSSLESS, EXTENDED), reader,
                (b"\xff\xd8\xff", b"\xff\xc0", b"\xff\xe1", b"\xff\xff", b"Exif\0\0", b"II*\0", b"MM\0*", b"IHDR",
                 b"eXIf", b"IDAT", b"VP8X", b"VP8L", b"VP8 ", b"EXIF", b"RIFF", b"WEBP", b"\x12\x01\x03\0"))
