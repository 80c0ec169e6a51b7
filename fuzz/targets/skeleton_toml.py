"""Skeletons of one's own."""

from __future__ import annotations

from pathlib import Path

from edgekp.skeleton_file import read_skeleton
from edgekp.skeletons import Skeleton
from fuzz.target import Read, Target

SEED = b"""name = "hand"
keypoints = ["left_wrist", "right_wrist", "tip", "nose"]
limbs = [["left_wrist", "tip"], ["right_wrist", "tip"]]
flip_pairs = [["left_wrist", "right_wrist"]]
sigmas = { tip = 0.062 }
normaliser = ["left_wrist", "right_wrist"]
"""


def reader(folder: Path) -> Read:
    path = folder / "mine.toml"

    def read(data: bytes) -> None:
        path.write_bytes(data)
        skeleton = read_skeleton(path)
        assert Skeleton.from_json(skeleton.to_json()) == skeleton
    return read


TARGET = Target((SEED, b'name = "a"\nkeypoints = ["b"]\nsigmas = [0.1]\n'), reader,
                (b"name", b"keypoints", b"limbs", b"flip_pairs", b"sigmas", b"normaliser", b" = ", b"[", b"]", b"{",
                 b"}", b'"', b'"""', b"'''", b"\n", b"nan", b"inf", b"1e999", b"0x1", b"1979-05-27", b"true", b"[[",
                 b'"\\uD800"', b"a.b.c.d"))
