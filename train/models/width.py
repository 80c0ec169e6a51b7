"""Width multipliers: how many channels a layer has in a thinner or wider sister of a network."""

from __future__ import annotations

from edgekp.errors import RecipeError

MULTIPLE = 8  # of channels, which vector units like
THINNEST, WIDEST = 0.25, 2.0


def scaled(channels: int, width: float) -> int:
    """The multiple of 8 nearest to ``width * channels``, at least 8 and nine tenths of it (MobileNetV2's rule)."""
    exact = width * channels
    nearest = max(MULTIPLE, int(exact + MULTIPLE / 2) // MULTIPLE * MULTIPLE)
    return nearest if nearest >= 0.9 * exact else nearest + MULTIPLE


def check_width(width: float) -> None:
    """Refuse a multiplier that is most likely a number of channels or a typing error.

    Raises:
        RecipeError: It is not within 0.25 to 2.
    """
    if not THINNEST <= width <= WIDEST:
        raise RecipeError(f"model.options.width: {width}, expected a multiplier from {THINNEST:g} to {WIDEST:g}")
