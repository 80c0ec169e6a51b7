"""What the kernels' source says of each kernel: how many threads a block has, and of which types its arguments are."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

KERNELS = Path("deploy/runtime/gpu/cuda")
DEFINITION = re.compile(r'extern "C" __global__ void __launch_bounds__\((\w+)\)\s+(\w+)(##SUFFIX)?\(([^)]*)\)')
INSTANCE = re.compile(r"^TOP_DOWN\((?:[\w ]+), (\w+)\)$", re.MULTILINE)
CONSTANT = re.compile(r"constexpr int (\w+) = (\d+);")


@dataclass(frozen=True)
class Signature:
    """Of one kernel.

    Attributes:
        types: of the arguments: ``pointer``, ``int``, ``float`` or the name of a struct.
    """

    block: int
    types: tuple[str, ...]


def kernel_signatures(folder: Path = KERNELS) -> dict[str, Signature]:
    """All kernels by name, those of the macro once for each type of numbers."""
    constants = {name: int(value) for path in sorted(folder.glob("*.cuh"))
                 for name, value in CONSTANT.findall(path.read_text())}
    source = (folder / "keypoints.cu").read_text()
    suffixes = INSTANCE.findall(source)
    found = {}
    for block, name, of_macro, arguments in DEFINITION.findall(source.replace("\\\n", "")):
        signature = Signature(constants.get(block) or int(block), tuple(map(_type_of, arguments.split(","))))
        found.update({f"{name}{suffix}": signature for suffix in (suffixes if of_macro else [""])})
    return found


def _type_of(argument: str) -> str:
    """Of ``const float* maps``: pointer."""
    words = argument.replace("*", " * ").split()
    return "pointer" if "*" in words else words[-2]
