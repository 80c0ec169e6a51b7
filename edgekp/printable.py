"""Text of others, for a terminal and for logs. Knows no file and no message."""

from __future__ import annotations


def printable(text: str) -> str:
    """One line that prints as it reads.

    Letters of all languages stay. What would move the cursor, break the line or turn the direction of writing is
    escaped, and so is what is no text: the bytes of an odd file name.
    """
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode("ascii") for char in text)
