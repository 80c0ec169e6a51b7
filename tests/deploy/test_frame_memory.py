"""Memory that is given back to the system."""

from __future__ import annotations

import platform

import numpy as np
import pytest

from benchmarks.soak.samples import Held
from deploy.runtime.loop.frame_memory import give_back_unused


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc keeps it")
def test_what_lies_below_something_in_use_is_given_back() -> None:
    pieces = [np.ones(64 << 10, np.uint8) for _ in range(1000)]  # smaller than what the C library returns at once
    del pieces[:-1]  # the last one lies above the others
    before_mb = Held.now().rss_mb
    assert give_back_unused()
    assert before_mb - Held.now().rss_mb > 30  # of 62
