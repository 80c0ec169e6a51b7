"""What Linux says of a camera, by V4L2. Knows no OpenCV and reads no picture."""

from __future__ import annotations

import fcntl
import re
import struct

# linux/videodev2.h; the sizes of the structures are part of the numbers, so they hold wherever Linux runs
QUERYCAP, QUERYCAP_BYTES = 0x80685600, 104
ENUM_FMT, ENUM_FMT_BYTES = 0xC0405602, 64
VIDEO_CAPTURE, DEVICE_CAPS = 0x1001, 0x80000000  # in one plane or in several
CAPTURE_BUFFERS = 1
MOST_FORMATS = 64
# RG10, BA81, pRAA, GRBG ...: one colour a pixel, in the order of the sensor's filter; but BA24 has all of them
BAYER = re.compile("(RG|BG|GB|GR|BA)1[0246]|BA81|BYR2|BD10|RGGB|GRBG|GBRG|[pab][RBGg](AA|CC|EE|A8)")


def camera_name(device: int) -> str | None:
    """What an open device calls itself; None for what takes no pictures.

    Encoders take none, nor does the second device of most USB cameras, which gives notes.
    """
    answer = bytearray(QUERYCAP_BYTES)
    try:
        fcntl.ioctl(device, QUERYCAP, answer)
    except OSError:
        return None
    of_driver, of_device = struct.unpack_from("=II", answer, 84)
    takes_pictures = (of_device if of_driver & DEVICE_CAPS else of_driver) & VIDEO_CAPTURE
    return bytes(answer[16:48]).split(b"\0")[0].decode("utf-8", "replace") if takes_pictures else None


def camera_formats(device: int) -> list[str]:
    """Names such as MJPG and YUYV of the pictures that an open camera gives."""
    found: list[str] = []
    while len(found) < MOST_FORMATS:
        answer = bytearray(ENUM_FMT_BYTES)
        struct.pack_into("=II", answer, 0, len(found), CAPTURE_BUFFERS)
        try:
            fcntl.ioctl(device, ENUM_FMT, answer)
        except OSError:  # after the last one
            break
        found.append(bytes(answer[44:48]).decode("ascii", "replace").strip())
    return found


def is_bayer(name: str) -> bool:
    return BAYER.fullmatch(name) is not None
