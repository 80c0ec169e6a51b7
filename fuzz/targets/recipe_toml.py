"""Recipes."""

from __future__ import annotations

from pathlib import Path

from edgekp.recipe_file import load_recipe
from fuzz.target import Read, Target

SEED = b"""[data]
skeleton = "coco17"
[data.drawn]
subject = "people"
train = 20
val = 6
[input]
input_hw = [128, 96]
[codec]
name = "heatmap"
options = { stride = 4, sigma = 1.5 }
[model]
backbone = "hrnet_lite"
options = { width = 24 }
[train]
epochs = 24
lr = 3e-3
[augment]
rotate_deg = 15
scale = [0.8, 1.2]
[[optimize]]
method = "prune"
macs_reduction = 0.25
[[optimize]]
method = "quantize"
[eval]
metric = "oks_ap"
[gate]
budget = 0.03
"""
SIMCC = b"""[[data.train]]
labels = "a.json"
weak = 3
[[data.val]]
labels = "b.json"
[codec]
name = "simcc"
[model]
backbone = "mobilefacenet"
"""


def reader(folder: Path) -> Read:
    path = folder / "mine.toml"

    def read(data: bytes) -> None:
        path.write_bytes(data)
        load_recipe(path).build_codec()
    return read


NAMES = (b"simcc", b"regression", b"udp", b"dark", b"integral", b"openpose", b"offset", b"megvii", b"msra",
         b"mobilefacenet", b"distill", b"qat", b"wflw98", b"second", b"padding", b"mean", b"std",
         b"visibility", b"keypoint_weights")
TARGET = Target((SEED, SIMCC), reader, (*NAMES, b" = ", b"[", b"]", b"{", b"}", b'"', b"\n", b"nan", b"inf", b"-1",
                                        b"0", b"1e999", b"true", b"[[optimize]]", b"[input]", b"9" * 20))
