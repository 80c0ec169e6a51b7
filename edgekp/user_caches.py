"""Where this user's caches are. Knows none of them."""

from __future__ import annotations

import os
from pathlib import Path


def user_caches() -> Path:
    """As freedesktop.org has it; below the null device, which holds none, for one without a home."""
    caches = os.environ.get("XDG_CACHE_HOME")
    try:
        return Path(caches) if caches else Path.home() / ".cache"
    except RuntimeError:  # no HOME, and a number instead of an account, as in containers
        return Path(os.devnull)
