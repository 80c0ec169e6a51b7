"""What a name such as ``0``, ``csi://0`` or ``walk.mkv`` stands for. Opens nothing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from deploy.runtime.camera import gstreamer, stream, v4l2
from deploy.runtime.camera.files import SUFFIXES, PictureFiles, open_video
from deploy.runtime.camera.pictures import Capture
from edgekp.address import shown
from edgekp.errors import CameraError, is_utf8, unknown_name

SCHEMES = ("csi", "gst", *stream.PORTS)


@dataclass(frozen=True)
class Wish:
    """What a camera is asked for; None leaves it the choice."""

    size_wh: tuple[int, int] | None = None
    fps: float | None = None

    def __bool__(self) -> bool:
        return self.size_wh is not None or self.fps is not None

    def refused(self, size_wh: tuple[int, int] | None, fps: float | None) -> str:
        """What of it a camera that gives this did not grant; nothing if it granted all."""
        asked = []
        if self.size_wh is not None and self.size_wh != size_wh:
            asked.append("{} x {}".format(*self.size_wh))
        if self.fps is not None and (fps is None or abs(fps - self.fps) > 0.01 * self.fps):
            asked.append(f"{self.fps:g} fps")
        return f" (asked for {' and '.join(asked)})" if asked else ""


@dataclass(frozen=True)
class Source:
    """Where pictures come from.

    Attributes:
        shown: its name for messages, without user, password and path of an address.
        live: pictures that are not read in time are lost, and a source that ends was cut off.
        open: a new connection, or a CameraError.
        hint: what the user can look at when it opens and gives no picture.
    """

    shown: str
    live: bool
    open: Callable[[], Capture] = field(repr=False)
    hint: str
    wish: Wish = Wish()


def source_of(name: str, wish: Wish) -> Source:
    """The source that ``name`` says.

    Raises:
        CameraError: No source has such a name, or it cannot be asked for a size or a rate.
    """
    if (wish.size_wh is not None and min(wish.size_wh) < 1) or (wish.fps is not None and wish.fps <= 0):
        raise CameraError(f"{shown(name)}: expected a size and a rate above 0, found {wish.size_wh}, {wish.fps}")
    if not name or "\0" in name:
        raise CameraError("a camera without a name; expected such as 0, /dev/video0, csi://0, rtsp://HOST or a file")
    if not is_utf8(name):
        raise CameraError(f"{shown(name)}: a name that is not UTF-8, which OpenCV cannot open; rename it")
    scheme, separator, rest = name.partition("://")
    is_number = name.isdecimal() and len(name) < 5
    if is_number or (not separator and (name.startswith(("/dev/video", "/dev/v4l/")) or _is_device(Path(name)))):
        path = f"/dev/video{int(name)}" if is_number else name
        return Source(path, True, partial(v4l2.open_device, path, wish.size_wh, wish.fps), v4l2.hint(path), wish)
    if separator and scheme == "csi":
        pipeline = gstreamer.csi_pipeline(rest, wish.size_wh, wish.fps)
        return Source(name, True, partial(gstreamer.open_pipeline, name, pipeline), gstreamer.CSI_HINT, wish)
    if wish:
        raise CameraError(f"{shown(name)}: only a camera, such as 0 or csi://0, can be asked for a size or "
                          "a rate; leave out --size and --fps")
    if separator and scheme == "gst":
        return Source(shown(name), True, partial(gstreamer.open_pipeline, shown(name), gstreamer.with_sink(rest)),
                      gstreamer.GST_HINT)
    if separator and scheme in stream.PORTS:
        return Source(shown(name), True, partial(stream.open_stream, name), stream.HINT)
    if separator:
        raise CameraError(f"{shown(name)}: {unknown_name('kind of camera', shown(scheme), list(SCHEMES))}")
    try:
        return _file(Path(name).expanduser())
    except (OSError, RuntimeError) as error:  # longer than a path can be, or the home of an unknown user
        raise CameraError(f"{shown(name)[:80]}: no file can have this name ({error.args[-1]}); "
                          "check it") from error


def _is_device(path: Path) -> bool:
    try:
        return path.is_char_device()
    except OSError:  # a name longer than a path can be
        return False


def _file(path: Path) -> Source:
    if path.is_dir() or path.suffix.lower() in SUFFIXES:
        return Source(str(path), False, partial(PictureFiles, path), "look at the pictures")
    return Source(str(path), False, partial(open_video, path), f"try: ffprobe {path}")
