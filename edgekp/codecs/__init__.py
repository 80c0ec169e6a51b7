"""Codecs: how keypoints become a network's targets, and its outputs keypoints again. Both directions, side by side.

    output             shape            decoded to
    heatmaps           (N, K, h, w)     keypoints_xy (N, K, 2) input pixels, scores (N, K)
    offsets            (N, 2K, h, w)    the same, together with the heatmaps
    discs_and_offsets  (N, 3K, h, w)    the same
    simcc_x, simcc_y   (N, K, bins)     the same
    coordinates        (N, K, 2)        the same

Codecs of whole scenes encode the keypoints (N, P, K, 2) of P people and decode as many as they find.

    heatmaps           (N, K + 1, h, w) for each scene keypoints_xy (P, K, 2) input pixels, scores (P, K)
    pafs               (N, 2L, h, w)    the same, together with the heatmaps; L limbs
"""

from __future__ import annotations

from dataclasses import asdict, fields
from typing import Any

from edgekp.codecs.combined import UDPCombined
from edgekp.codecs.heatmap import Heatmap
from edgekp.codecs.integral import Integral
from edgekp.codecs.megvii import Megvii
from edgekp.codecs.msra import MSRA
from edgekp.codecs.offset import HeatmapOffset
from edgekp.codecs.openpose import OpenPose
from edgekp.codecs.regression import Regression
from edgekp.codecs.simcc import SimCC
from edgekp.codecs.udp import UDP
from edgekp.errors import RecipeError, unknown_name

__all__ = ["CODECS", "MSRA", "SCENE_CODECS", "UDP", "Codec", "Heatmap", "HeatmapOffset", "Integral", "Megvii",
           "OpenPose", "Regression", "SceneCodec", "SimCC", "UDPCombined", "build_codec", "build_scene_codec",
           "codec_from_json", "codec_to_json"]

Codec = Heatmap | HeatmapOffset | Integral | Megvii | MSRA | Regression | SimCC | UDP | UDPCombined
CODECS: dict[str, type[Codec]] = {
    "heatmap": Heatmap, "offset": HeatmapOffset, "integral": Integral, "regression": Regression, "simcc": SimCC,
    "msra": MSRA, "udp": UDP, "udp_combined": UDPCombined, "megvii": Megvii}

SceneCodec = OpenPose
SCENE_CODECS: dict[str, type[SceneCodec]] = {"openpose": OpenPose}


def build_codec(name: str, input_hw: tuple[int, int], options: dict[str, Any]) -> Codec:
    """The codec of that name for inputs of that size.

    Raises:
        RecipeError: The name or an option is unknown, or a value is out of range.
    """
    if name in SCENE_CODECS:
        raise RecipeError(f"codec '{name}' decodes several people from a whole image, but here every input shows one; "
                          f"choose {', '.join(CODECS)}")
    if name not in CODECS:
        raise RecipeError(unknown_name("codec", name, list(CODECS)))
    _check_options(name, CODECS[name], options)
    return CODECS[name](input_hw=input_hw, **options)


def build_scene_codec(name: str, input_hw: tuple[int, int], options: dict[str, Any]) -> SceneCodec:
    """The codec of that name for whole scenes of that size, with the errors of ``build_codec``."""
    if name not in SCENE_CODECS:
        raise RecipeError(unknown_name("codec of whole scenes", name, list(SCENE_CODECS)))
    _check_options(name, SCENE_CODECS[name], options)
    return SCENE_CODECS[name](input_hw=input_hw, **options)


def _check_options(name: str, kind: type[Codec | SceneCodec], options: dict[str, Any]) -> None:
    known = [field.name for field in fields(kind) if field.name != "input_hw"]
    for option in options:
        if option not in known:
            raise RecipeError(unknown_name(f"option of codec '{name}'", option, known or ["none"]))


def codec_to_json(codec: Codec | SceneCodec) -> dict[str, Any]:
    """Name and options of a codec, without the input size, which the InputSpec holds."""
    name = next(name for name, kind in (CODECS | SCENE_CODECS).items() if isinstance(codec, kind))
    options = asdict(codec)
    del options["input_hw"]
    return {"name": name, **options}


def codec_from_json(entry: dict[str, Any], input_hw: tuple[int, int]) -> Codec:
    options = {key: value for key, value in entry.items() if key != "name"}
    return build_codec(str(entry["name"]), input_hw, options)
