"""Names and addresses of cameras; a password in an address must not be shown."""

from __future__ import annotations

from pathlib import Path

from deploy.runtime.camera.source import Wish, source_of
from edgekp.address import shown
from edgekp.errors import CameraError
from fuzz.target import Read, Target

SECRET = "s3cr3t-Pa55"


def reader(_folder: Path) -> Read:
    def read(data: bytes) -> None:
        name = data.decode("utf-8", "surrogateescape")  # as the arguments of a command are
        said = [shown(name)]
        for wish in (Wish(), Wish((640, 480), 30.0)):
            try:
                source = source_of(name, wish)
            except CameraError as error:
                said.append(str(error))
            else:
                said += [source.shown, source.hint]
        if f":{SECRET}@" in name and "://" in name.partition(SECRET)[0]:
            assert not any(SECRET in text for text in said), f"shows a password: {said}"
    return read


TARGET = Target((b"0", b"/dev/video0", b"csi://0", b"gst://videotestsrc ! appsink", b"walk.mkv", b"pictures/*.jpg",
                 f"rtsp://me:{SECRET}@10.0.0.1:554/a?b#c".encode(), b"https://[::1]/a.m3u8", b"~/a.mp4"), reader,
                (b"://", b"rtsp", b"http", b"csi", b"gst", b"@", f":{SECRET}@".encode(), b"[", b"]", b"%40", b"~",
                 b"\0", "²".encode(), b"/dev/video", b"*", b".jpg"))
