"""Skeletons of one's own, from a TOML file that names keypoints instead of counting them.

Sigmas that the file lacks are estimated, said, and recorded in the skeleton: OKS depends on them. Knows no image.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from statistics import median
from typing import Any

from edgekp.atomic import sha256
from edgekp.errors import RecipeError, unknown_name
from edgekp.skeletons import SKELETONS, Pairs, Skeleton
from edgekp.stage import say
from edgekp.strict import read_toml, strict

DEFAULT_SIGMA = 0.05  # between COCO's smallest (eyes, 0.025) and largest (hips, 0.107), in equal ratios
Names = tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class SkeletonFile:
    """What the file says; name and keypoints must be there.

    Attributes:
        limbs, flip_pairs: pairs of keypoint names; a flip pair swaps when the image is mirrored.
        sigmas: by keypoint name, for as many as are known; in the file also a list in the keypoints' order.
        normaliser: the two keypoints whose distance normalises NME.
    """

    name: str = ""
    keypoints: tuple[str, ...] = ()
    limbs: Names = ()
    flip_pairs: Names = ()
    sigmas: dict[str, float] = field(default_factory=dict)
    normaliser: tuple[str, str] | None = None


def read_skeleton(path: Path) -> Skeleton:
    """The skeleton of a TOML file; estimated sigmas are said once.

    Raises:
        RecipeError: No such file, broken TOML, an unknown key or name, or pairs that contradict each other.
    """
    if not path.is_file():
        raise RecipeError(f"{path}: no such skeleton file; the path is taken from the current folder")
    return _read(path, sha256(path))


def skeleton_digest(name: str) -> dict[str, str]:
    """sha256 of the file where a skeleton is one, by its name, for a stage's key; nothing for a known skeleton."""
    return {name: sha256(Path(name))} if name.endswith(".toml") else {}


@lru_cache(maxsize=8)
def _read(path: Path, _digest: str) -> Skeleton:
    table = read_toml(path)
    try:
        skeleton, reasons = _skeleton(strict(SkeletonFile, _with_named_sigmas(table), ""))
    except RecipeError as error:
        raise RecipeError(f"{path}: {error}") from error
    if reasons:
        say(f"{path}: sigmas estimated: {_grouped(reasons)}; OKS with them compares only with itself")
    return skeleton


def _with_named_sigmas(table: dict[str, Any]) -> dict[str, Any]:
    """The table with a list of sigmas turned into one by name."""
    sigmas, keypoints = table.get("sigmas"), table.get("keypoints")
    if not isinstance(sigmas, list) or not isinstance(keypoints, list):
        return table
    if len(sigmas) != len(keypoints):
        raise RecipeError(f"sigmas: {len(sigmas)} for {len(keypoints)} keypoints; where some are unknown, give a table "
                          "by name, such as {left_wrist = 0.062}")
    return {**table, "sigmas": dict(zip(map(str, keypoints), sigmas, strict=True))}


def _skeleton(entry: SkeletonFile) -> tuple[Skeleton, dict[str, str]]:
    """The skeleton, and for each estimated sigma where it comes from."""
    _check_names(entry)
    _check_sigmas(entry)
    _check_once("flip_pairs", [name for pair in entry.flip_pairs for name in pair])
    normaliser = _indices(entry, "normaliser", (entry.normaliser,) if entry.normaliser else ())
    sigmas, reasons = _complete_sigmas(entry)
    return Skeleton(entry.name, entry.keypoints, _indices(entry, "limbs", entry.limbs),
                    _indices(entry, "flip_pairs", entry.flip_pairs), sigmas, normaliser[0] if normaliser else None,
                    tuple(reasons)), reasons


def _check_names(entry: SkeletonFile) -> None:
    if not entry.name or not entry.keypoints or not all(entry.keypoints):
        raise RecipeError("expected a name, and at least one keypoint, none of them empty")
    if entry.name in SKELETONS:
        raise RecipeError(f"name: '{entry.name}' is a known skeleton; choose another name")
    _check_once("keypoints", entry.keypoints)


def _check_once(where: str, names: Sequence[str]) -> None:
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise RecipeError(f"{where}: '{twice[0]}' occurs twice; name it once")


def _check_sigmas(entry: SkeletonFile) -> None:
    for name, sigma in entry.sigmas.items():
        if name not in entry.keypoints:
            raise RecipeError(f"sigmas: {unknown_name('keypoint', name, list(entry.keypoints))}")
        if isinstance(sigma, bool) or not isinstance(sigma, (int, float)) or not 0 < sigma < math.inf:
            raise RecipeError(f"sigmas.{name}: {sigma!r}, expected a number above 0")


def _indices(entry: SkeletonFile, where: str, pairs: Names) -> Pairs:
    """Pairs of names as 0-based indices."""
    index = {name: i for i, name in enumerate(entry.keypoints)}
    for pair in pairs:
        for name in pair:
            if name not in index:
                raise RecipeError(f"{where}: {unknown_name('keypoint', name, list(entry.keypoints))}")
        if pair[0] == pair[1]:
            raise RecipeError(f"{where}: joins '{pair[0]}' to itself; name two keypoints")
    return tuple((index[first], index[second]) for first, second in pairs)


def _complete_sigmas(entry: SkeletonFile) -> tuple[tuple[float, ...], dict[str, str]]:
    """A sigma for every keypoint, and for each estimated one where it comes from; the nearest source wins."""
    partner = dict(entry.flip_pairs) | {second: first for first, second in entry.flip_pairs}
    sigmas = {name: float(sigma) for name, sigma in entry.sigmas.items()}
    reasons: dict[str, str] = {}

    def fill(reason: str, estimate: Callable[[str], float | None]) -> None:
        found = {name: estimate(name) for name in entry.keypoints if name not in sigmas}
        for name, sigma in found.items():
            if sigma is not None:
                sigmas[name], reasons[name] = sigma, reason

    fill("as their flip partners", lambda name: sigmas.get(partner.get(name, "")))
    for known in SKELETONS.values():
        fill(f"as in {known.name}", dict(zip(known.keypoints, known.sigmas, strict=True)).get)
        fill("as their flip partners", lambda name: sigmas.get(partner.get(name, "")))
    rest = median(sigmas.values()) if sigmas else DEFAULT_SIGMA
    fill(f"{rest:g}, {'the median of the others' if sigmas else 'as nothing is known'}", lambda _: rest)
    return tuple(sigmas[name] for name in entry.keypoints), {k: reasons[k] for k in entry.keypoints if k in reasons}


def _grouped(reasons: dict[str, str]) -> str:
    """The keypoints of each reason in one phrase."""
    return "; ".join(f"{', '.join(name for name in reasons if reasons[name] == reason)} {reason}"
                     for reason in dict.fromkeys(reasons.values()))
