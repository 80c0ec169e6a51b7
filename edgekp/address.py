"""Addresses of cameras in messages. Never shows who may see them."""

from __future__ import annotations

import re

# What cannot be read without doubt is not shown: a password may hold any character, a path or a query may hold one.
ADDRESS = re.compile(r"([A-Za-z]+)://(?:[^@/?#]*@)?(\[[0-9A-Fa-f:.]+\]|[\w.-]+)(:\d{1,5})?(?:[/?#][^@]*)?")
HIDDEN = "(a name with an @ in it, not shown because of a password it may hold)"


def shown(name: str) -> str:
    """A name without what may be secret in it: user, password, path and query, and all properties of a pipeline."""
    scheme, separator, rest = name.partition("://")
    if "@" in scheme:
        return HIDDEN
    if not separator:
        return name
    if scheme == "gst":
        return f"gst://{re.match('[a-z0-9_]*', rest.strip())[0]} ..."  # type: ignore[index]  # it matches nothing too
    found = ADDRESS.fullmatch(name)
    return f"{found[1]}://{found[2]}{found[3] or ''}/..." if found else f"{scheme}://..."
