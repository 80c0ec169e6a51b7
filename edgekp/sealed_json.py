"""JSON files of our own that state their own SHA-256, so that a changed field shows. Knows no field of theirs."""

from __future__ import annotations

import json
from hashlib import sha256
from typing import Any

SEAL = "sha256"


def sealed(body: dict[str, Any]) -> bytes:
    """The text of a file that holds ``body`` and its digest; ValueError where a number is NaN or infinite."""
    return (json.dumps(body | {SEAL: _digest(body)}, indent=1, allow_nan=False) + "\n").encode()


def unsealed(document: dict[str, Any]) -> dict[str, Any]:
    """The body of a sealed document; ValueError where its digest is not the one that it states."""
    body = {name: value for name, value in document.items() if name != SEAL}
    if document.get(SEAL) != _digest(body):
        raise ValueError("it was changed or damaged since it was written: its sha256 does not fit")
    return body


def _digest(body: dict[str, Any]) -> str:
    """Of the one spelling of a JSON that has no freedom: sorted, without spaces."""
    return sha256(json.dumps(body, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()).hexdigest()
