"""Cameras, streams, videos and pictures by one name and one protocol. Knows no model."""

from __future__ import annotations

from deploy.runtime.camera.capture import Camera, CameraLost, Patience
from deploy.runtime.camera.mailbox import Counts
from deploy.runtime.camera.source import Wish, source_of
from edgekp.errors import CameraError

__all__ = ["Camera", "CameraError", "CameraLost", "Counts", "Patience", "open_camera"]


def open_camera(name: str, *, every_frame: bool | None = None, size_wh: tuple[int, int] | None = None,
                fps: float | None = None, loop: bool = False, give_up_s: float | None = None) -> Camera:
    """Open what ``name`` says (docs/cameras.md lists the names) and wait for its first picture.

    Args:
        every_frame: every picture in turn, or always the newest; None: in turn for files, the newest for cameras.
        size_wh: what to ask of a camera; it may answer with another, which ``describe`` says.
        fps: the same for its rate.
        loop: play a file again and again.
        give_up_s: how long a lost camera is waited for; None: for ever.

    Raises:
        CameraError: There is no such camera, it gives no picture, or it cannot do what is asked.
    """
    source = source_of(name, Wish(size_wh, fps))
    if source.live and every_frame:
        raise CameraError(f"{source.shown}: a camera does not wait for us, so not every frame can be had of it; "
                          "leave that out")
    if source.live and loop:
        raise CameraError(f"{source.shown}: only a file can be played again and again; leave out --loop")
    return Camera(source, every_frame=not source.live if every_frame is None else every_frame, loop=loop,
                  patience=Patience(give_up_s=give_up_s))
