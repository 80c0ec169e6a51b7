"""Left and right in the names of keypoints."""

from __future__ import annotations

import re

WORD = re.compile(r"left|right", re.IGNORECASE)
LETTER = re.compile(r"(?<![A-Za-z])[lr](?![A-Za-z])|(?<![A-Za-z])[LR](?=[A-Z][a-z]|(?![A-Za-z]))")
OTHER = {"left": "right", "right": "left", "l": "r", "r": "l"}


def side_of(name: str) -> str:
    """``left``, ``right`` or nothing: left_eye, EyeRight, l_eye and LEye have a side, nose has none."""
    found = WORD.search(name) or LETTER.search(name)
    return {"l": "left", "r": "right"}[found.group()[0].lower()] if found else ""


def mirrored_name(name: str) -> str:
    """The name on the other side, written as the name is."""
    def other(found: re.Match[str]) -> str:
        word = found.group()
        mirrored = OTHER[word.lower()]
        return mirrored.upper() if word.isupper() else mirrored.capitalize() if word[0].isupper() else mirrored
    pattern = WORD if WORD.search(name) else LETTER
    return pattern.sub(other, name, count=1)
