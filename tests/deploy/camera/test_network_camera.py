"""A network camera on this machine, read by the FFmpeg in OpenCV: switched off, silent, and back again."""

from __future__ import annotations

import itertools
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest

from deploy.runtime.camera import Camera, CameraLost, Patience, quiet, stream
from deploy.runtime.camera.source import Wish, source_of
from deploy.runtime.frame import Frame
from edgekp.errors import CameraError
from edgekp.image_header import PIXEL_LIMIT_NAME

PATIENCE = Patience(pauses_s=(0.05, 0.1))


class NetworkCamera:
    """Sends the pictures of 100 frames a second to whoever connects, each a grey that tells its number."""

    def __init__(self) -> None:
        self.silent = False
        self.cut = threading.Event()
        self._server = socket.create_server(("127.0.0.1", 0))
        self._server.settimeout(0.05)
        self._ended = threading.Event()
        self._numbers = itertools.count()
        self.address = f"http://127.0.0.1:{self._server.getsockname()[1]}/video?password=secret"
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while not self._ended.is_set():
            try:
                viewer, _ = self._server.accept()
            except TimeoutError:
                continue
            except OSError:  # closed
                return
            threading.Thread(target=self._send, args=(viewer,), daemon=True).start()

    def _send(self, viewer: socket.socket) -> None:
        with viewer:
            viewer.recv(4096)
            viewer.sendall(b"HTTP/1.0 200 OK\r\nContent-Type: multipart/x-mixed-replace; boundary=next\r\n\r\n")
            while not self._ended.wait(0.01) and not self.cut.is_set():
                if self.silent:
                    continue
                grey = np.full((48, 64, 3), next(self._numbers) % 256, np.uint8)
                jpeg = cv2.imencode(".jpg", grey)[1].tobytes()
                head = f"--next\r\nContent-Type: image/jpeg\r\nContent-Length: {len(jpeg)}\r\n\r\n"
                try:
                    viewer.sendall(head.encode() + jpeg + b"\r\n")
                except OSError:
                    return

    def close(self) -> None:
        self._ended.set()
        self._server.close()


class Stream(NetworkCamera):
    """Sends a recorded video at once to whoever connects, and then nothing, without hanging up."""

    def __init__(self, video: bytes) -> None:
        self._video = video
        super().__init__()

    def _send(self, viewer: socket.socket) -> None:
        with viewer:
            viewer.recv(4096)
            viewer.sendall(b"HTTP/1.0 200 OK\r\nContent-Type: video/mp2t\r\n\r\n" + self._video)
            self._ended.wait()


@pytest.fixture
def remote() -> Iterator[NetworkCamera]:
    remote = NetworkCamera()
    yield remote
    remote.close()


def frame_after(camera: Camera, number: int, within_s: float = 8.0) -> Frame:
    deadline = time.monotonic() + within_s
    while time.monotonic() < deadline:
        try:
            frame = camera.next(0.1)
        except CameraLost:
            continue
        assert frame is not None
        if frame.number > number:
            return frame
    raise AssertionError(camera.counts)


def recorded(path: Path, size: tuple[int, int], count: int) -> bytes:
    quiet.opencv()
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), 25, size)
    for _ in range(count):
        writer.write(np.zeros((size[1], size[0], 3), np.uint8))
    writer.release()
    return path.read_bytes()


@pytest.mark.parametrize(("size", "threads"), [((64, 48), 1), ((2048, 1152), 4)])
def test_pictures_that_a_core_can_decode_are_held_back_by_no_other(size: tuple[int, int], threads: int, tmp_path: Path,
                                                                   monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream, "TIMEOUT_S", 1.0)
    remote = Stream(recorded(tmp_path / "video.ts", size, 20))
    capture = stream.open_stream(remote.address)
    came_out = []
    while capture.grab():
        came_out.append(time.monotonic())
    remote.close()
    in_the_end = sum(time > came_out[-1] - 0.5 for time in came_out)  # a second of silence, then what was held back
    assert len(came_out) == 20
    assert in_the_end == 1 + threads  # MPEG-TS tells by the next picture that one is whole


def test_a_stream_of_too_many_pixels_is_refused(remote: NetworkCamera, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(PIXEL_LIMIT_NAME, str(64 * 48 - 1))
    with pytest.raises(CameraError, match=rf"^http://.*: its pictures have 64 x 48 .*{PIXEL_LIMIT_NAME}") as refused:
        Camera(source_of(remote.address, Wish()), every_frame=False, patience=PATIENCE)
    assert "secret" not in str(refused.value)


@pytest.mark.slow
@pytest.mark.parametrize("fault", ["cut", "silent"])
def test_a_network_camera_comes_back(fault: str, remote: NetworkCamera, monkeypatch: pytest.MonkeyPatch,
                                     capfd: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(stream, "TIMEOUT_S", 1.0)
    with Camera(source_of(remote.address, Wish()), every_frame=False, patience=PATIENCE) as camera:
        frame = frame_after(camera, 10)
        assert frame.bgr.shape == (48, 64, 3)
        if fault == "cut":
            remote.cut.set()
        else:
            remote.silent = True
        time.sleep(1.5)
        remote.cut.clear()
        remote.silent = False
        last = camera.counts.read
        assert frame_after(camera, last + 5).time_s > frame.time_s + 1.0
    assert camera.counts.reconnects >= 1
    err = capfd.readouterr().err
    assert err.count("camera lost") == err.count("camera back") == camera.counts.reconnects
    assert len(err.splitlines()) == 2 * camera.counts.reconnects  # nothing of OpenCV or FFmpeg
    assert "secret" not in err


@pytest.mark.slow
def test_a_network_camera_gives_the_newest_frame_although_the_loop_is_slow(remote: NetworkCamera) -> None:
    with Camera(source_of(remote.address, Wish()), every_frame=False, patience=PATIENCE) as camera:
        frame_after(camera, 5)
        behind = []
        for _ in range(6):
            time.sleep(0.1)
            sent = next(remote._numbers)
            frame = camera.next()
            assert frame is not None
            behind.append((sent - round(float(frame.bgr.mean()))) % 256)
    assert max(behind) <= 12  # a tenth of a second for the way; a queue would grow by ten with each frame
