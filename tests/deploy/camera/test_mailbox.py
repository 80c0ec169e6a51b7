"""Frames between two threads: kept, dropped or waited for, and always counted."""

from __future__ import annotations

import numpy as np

from deploy.runtime.camera.mailbox import Counts, Mailbox
from edgekp.errors import CameraError


def test_a_mailbox_that_drops_keeps_only_the_newest_picture() -> None:
    mailbox = Mailbox(1, drops=True)
    for value in range(3):
        mailbox.put(np.full((1, 1, 3), value, np.uint8), float(value), 0.0)
    assert mailbox.counts == Counts(read=3, dropped=2, waiting=1)
    frame = mailbox.take()
    assert frame is not None
    assert frame.number == frame.time_s == frame.bgr[0, 0, 0] == 2
    assert mailbox.take() is None


def test_what_waits_can_be_taken_after_the_end_and_what_comes_then_is_dropped() -> None:
    mailbox = Mailbox(4, drops=False)
    picture = np.zeros((1, 1, 3), np.uint8)
    mailbox.put(picture, 0.0, 0.0)
    mailbox.end(CameraError("first"))
    mailbox.end()
    mailbox.put(picture, 1.0, 0.0)
    assert str(mailbox.error) == "first"
    assert mailbox.take() is not None
    assert mailbox.take() is None
    assert mailbox.counts == Counts(read=2, handed_out=1, dropped=1)
