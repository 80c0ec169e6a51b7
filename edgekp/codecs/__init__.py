"""Codecs: how keypoints become a network's targets, and its outputs keypoints again. Both directions, side by side.

    output       shape             decoded to
    heatmaps     (N, K, h, w)      keypoints_xy (N, K, 2) input pixels, scores (N, K)
    coordinates  (N, K, 2)         the same
"""

from __future__ import annotations

from dataclasses import asdict, fields
from typing import Any

from edgekp.codecs.heatmap import Heatmap
from edgekp.codecs.regression import Regression
from edgekp.errors import RecipeError, unknown_name

__all__ = ["CODECS", "Codec", "Heatmap", "Regression", "build_codec", "codec_from_json", "codec_to_json"]

Codec = Heatmap | Regression
CODECS: dict[str, type[Heatmap] | type[Regression]] = {"heatmap": Heatmap, "regression": Regression}


def build_codec(name: str, input_hw: tuple[int, int], options: dict[str, Any]) -> Codec:
    """The codec of that name for inputs of that size.

    Raises:
        RecipeError: The name or an option is unknown, or a value is out of range.
    """
    if name not in CODECS:
        raise RecipeError(unknown_name("codec", name, list(CODECS)))
    known = [field.name for field in fields(CODECS[name]) if field.name != "input_hw"]
    for option in options:
        if option not in known:
            raise RecipeError(unknown_name(f"option of codec '{name}'", option, known or ["none"]))
    return CODECS[name](input_hw=input_hw, **options)


def codec_to_json(codec: Codec) -> dict[str, Any]:
    """Name and options of a codec, without the input size, which the InputSpec holds."""
    name = next(name for name, kind in CODECS.items() if isinstance(codec, kind))
    options = asdict(codec)
    del options["input_hw"]
    return {"name": name, **options}


def codec_from_json(entry: dict[str, Any], input_hw: tuple[int, int]) -> Codec:
    options = {key: value for key, value in entry.items() if key != "name"}
    return build_codec(str(entry["name"]), input_hw, options)
