"""Names of cameras: each is understood or refused in one clear line, and no password is ever shown."""

from __future__ import annotations

import os
import socket
import threading
import time
from pathlib import Path
from urllib.parse import quote

import cv2
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deploy.runtime.camera import CameraError, gstreamer, open_camera, stream
from deploy.runtime.camera.source import Wish, source_of
from edgekp.address import shown

BUILT_WITH = "  Video I/O:\n    FFMPEG:          {}\n      avcodec: YES\n    GStreamer:       {}\n    v4l/v4l2: YES\n"


@pytest.mark.parametrize(("name", "told", "live"), [
    ("0", "/dev/video0", True), ("12", "/dev/video12", True), ("/dev/video2", "/dev/video2", True),
    ("/dev/v4l/by-id/usb-cam", "/dev/v4l/by-id/usb-cam", True), ("csi://1", "csi://1", True),
    ("rtsp://host:554/live", "rtsp://host:554/...", True), ("rtsp://host", "rtsp://host/...", True),
    ("rtsp://[fe80::1]:554/live", "rtsp://[fe80::1]:554/...", True),
    ("http://host/video.mjpg", "http://host/...", True),
    ("gst://videotestsrc ! videoconvert", "gst://videotestsrc ...", True), ("walk.mkv", "walk.mkv", False),
    ("/dev/shm/walk.mkv", "/dev/shm/walk.mkv", False), ("picture.JPG", "picture.JPG", False),
])
def test_a_name_says_what_it_is(name: str, told: str, live: bool) -> None:
    source = source_of(name, Wish())
    assert (source.shown, source.live) == (told, live)


@pytest.mark.parametrize(("name", "why"), [
    ("", "a camera without a name"),
    ("csi://", "expected the number of a sensor, such as csi://0"),
    ("csi://left", "expected the number of a sensor"),
    ("rstp://host/live", "no kind of camera 'rstp'; did you mean 'rtsp'"),
    ("nowhere.mp4", "nowhere.mp4: no such file; expected a video, a folder of pictures, or a camera such as 0"),
    ("rtsp:/user:secret@host/live", "no such file; .* rtsp://HOST/PATH"),
    ("user:secret@rtsp://host", "not shown because of a password"),
    ("/dev/videortsp://user:secret@host", "no kind of camera '/dev/videortsp'"),
    ("csi://rtsp://user:secret@host", "expected the number of a sensor"),
    ("csi://" + "9" * 5000, "expected the number of a sensor"), ("9" * 5000, "no file can have this name"),
    ("x" * 5000 + ".mkv", "no file can have this name"), ("walk\0.mkv", "a camera without a name"),
    ("~nobody-of-this-name/walk.mkv", "no file can have this name"),
    ("/dev/null", "/dev/null: not a camera; "),
    ("/dev/video99", "/dev/video99: no such camera; "),
])
def test_a_name_that_is_nothing_is_refused_in_one_line(name: str, why: str) -> None:
    with pytest.raises(CameraError, match=why) as caught:
        open_camera(name)
    assert "\n" not in str(caught.value)
    assert "secret" not in str(caught.value)


printable = st.characters(min_codepoint=33, max_codepoint=126)
secrets = st.one_of(st.text(printable, min_size=6, max_size=14), st.from_regex(r"[a-z]{6,14}", fullmatch=True)).map(
    lambda text: f"S{text}T")


@given(user=secrets, password=secrets, template=st.sampled_from([
    "rtsp://{}:{}@host:554/live", "rtsp://{}:{}@host", "http://host/video?user={}&pwd={}", "rtsp://host/{}/{}/1",
    "rtsp://host/live?user={}@{}", "rtsp://host#{}@{}",
    "{}:{}@host/live", "{}:{}@host://live", "rtsp:/{}:{}@host/live", "rstp://{}:{}@host/live", "rtsp://{}{}@host@host/x@y",
    'gst://rtspsrc location="rtsp://{}:{}@host" ! decodebin', "gst://rtspsrc user-id={} user-pw={} ! decodebin",
]))
@settings(max_examples=150, deadline=None)
def test_a_password_is_never_shown_whatever_is_in_it(user: str, password: str, template: str) -> None:
    name = template.format(user, password)
    told = shown(name)
    assert user not in told
    assert password not in told
    for part in password.replace("@", "/").replace(":", "/").replace("?", "/").replace("#", "/").split("/"):
        assert len(part) < 4 or part not in told  # not cut in pieces either


@pytest.mark.parametrize("host", ["a..b", "x" * 64, "é" * 64])
def test_a_host_that_cannot_be_one_is_one_line_at_once(host: str) -> None:
    start = time.monotonic()
    with pytest.raises(CameraError, match=r"rtsp://.*: nobody answers at port \d+ \(.*\); ") as caught:
        open_camera(f"rtsp://me:secret@{host}/x")
    assert time.monotonic() - start < 5
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("password", ["secret", "sec@ret", "sec/ret", "sec:ret", "sec?ret"])
def test_no_message_of_a_stream_that_cannot_be_opened_shows_its_password(password: str,
                                                                         capfd: pytest.CaptureFixture[str]) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))  # taken, but nobody listens
        port = closed.getsockname()[1]
        for written in (password, quote(password, safe="")):
            with pytest.raises(CameraError) as caught:
                open_camera(f"rtsp://user:{written}@127.0.0.1:{port}/live")
            said = str(caught.value) + "".join(capfd.readouterr())
            assert "sec" not in said
            assert "ret" not in said
    assert f"rtsp://127.0.0.1:{port}/...: nobody answers at port {port}" in str(caught.value)


def test_a_stream_that_answers_without_a_video_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream, "TIMEOUT_S", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as server:  # accepts in its queue and never says a word
        start = time.monotonic()
        ticks: list[float] = []
        done = threading.Event()

        def tick() -> None:
            while not done.wait(0.01):
                ticks.append(time.monotonic())

        threading.Thread(target=tick).start()
        with pytest.raises(CameraError, match="it answers, but gives no video"):
            open_camera(f"rtsp://127.0.0.1:{server.getsockname()[1]}/live")
        done.set()
    assert time.monotonic() - start < 3
    assert len(ticks) > 5  # other threads went on: OpenCV does not keep the interpreter's lock while it waits


@pytest.mark.parametrize("name", ["csi://0", "gst://videotestsrc"])
def test_without_gstreamer_it_is_said_what_to_install(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cv2, "getBuildInformation", lambda: BUILT_WITH.format("YES", "NO"))
    with pytest.raises(CameraError, match=r"needs GStreamer, .* uninstall opencv-python .* sudo apt install"):
        open_camera(name)


class Pipelines:
    """In place of cv2.VideoCapture: keeps what it is asked to open and opens nothing."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, int]] = []

    def __call__(self, name: str, backend: int, *_: object) -> Pipelines:
        self.asked.append((name, backend))
        return self

    def isOpened(self) -> bool:
        return False


@pytest.fixture
def pipelines(monkeypatch: pytest.MonkeyPatch) -> Pipelines:
    pipelines = Pipelines()
    monkeypatch.setattr(cv2, "VideoCapture", pipelines)
    monkeypatch.setattr(cv2, "getBuildInformation", lambda: BUILT_WITH.format("NO", "YES (1.20.3)"))
    return pipelines


def test_a_csi_sensor_is_read_through_argus_with_what_is_asked_of_it(pipelines: Pipelines) -> None:
    with pytest.raises(CameraError, match=r"csi://1: the pipeline does not start; .* restart nvargus-daemon"):
        open_camera("csi://1", size_wh=(1280, 720), fps=29.97)
    assert pipelines.asked == [(
        "nvarguscamerasrc sensor-id=1 ! video/x-raw(memory:NVMM),format=NV12,width=1280,height=720,"
        "framerate=29970/1000 ! nvvidconv ! video/x-raw,format=BGRx ! appsink drop=1 max-buffers=1 sync=false",
        cv2.CAP_GSTREAMER)]


@pytest.mark.parametrize(("name", "pipeline"), [
    ("gst://videotestsrc", "videotestsrc ! videoconvert ! video/x-raw,format=BGR ! " + gstreamer.SINK),
    ("gst://videotestsrc ! appsink", "videotestsrc ! appsink"),
    ('rtsp://u:p"! x@host/a', 'uridecodebin uri="rtsp://u:p%22! x@host/a" ! videoconvert ! '
                              "video/x-raw,format=BGR ! " + gstreamer.SINK),
])
def test_pipelines_lead_to_opencv(name: str, pipeline: str, pipelines: Pipelines) -> None:
    with pytest.raises(CameraError, match="the pipeline does not start"):
        open_camera(name)
    assert pipelines.asked == [(pipeline, cv2.CAP_GSTREAMER)]


@pytest.mark.parametrize(("name", "options", "why"), [
    ("walk.mkv", {"fps": 30}, "only a camera, such as 0 or csi://0, can be asked for a size or a rate"),
    ("rtsp://u:secret@host", {"size_wh": (640, 480)}, "only a camera"),
    ("gst://videotestsrc", {"size_wh": (640, 480)}, "only a camera"),
    ("0", {"fps": 0}, "above 0"), ("0", {"size_wh": (0, 480)}, "above 0"),
    ("0", {"loop": True}, "only a file can be played again"), ("0", {"every_frame": True}, "does not wait for us"),
])
def test_what_a_source_cannot_do_is_refused(name: str, options: dict[str, object], why: str) -> None:
    with pytest.raises(CameraError, match=why) as caught:
        open_camera(name, **options)  # type: ignore[arg-type]
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(("wish", "size_wh", "fps", "said"), [
    (Wish(), (640, 480), 30.0, ""), (Wish((640, 480), 30), (640, 480), 29.97, ""),
    (Wish((1280, 720), 30), (640, 480), 30.0, " (asked for 1280 x 720)"),
    (Wish((1280, 720), 60), None, None, " (asked for 1280 x 720 and 60 fps)"),
])
def test_what_a_camera_did_not_grant_is_said(wish: Wish, size_wh: tuple[int, int] | None, fps: float | None,
                                             said: str) -> None:
    assert wish.refused(size_wh, fps) == said


def test_files_that_cannot_be_read_say_why(tmp_path: Path) -> None:
    (tmp_path / "empty.mp4").touch()
    (tmp_path / "text.mp4").write_text("no video " * 100)
    (tmp_path / "text.png").write_text("no picture")
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe.mp4")
    for name, why in [("empty.mp4", "an empty file"), ("text.mp4", "OpenCV cannot read it as a video"),
                      ("text.png", "no picture in it that OpenCV can decode"), ("folder", "no pictures in this folder"),
                      ("pipe.mp4", "neither a file nor a folder")]:
        with pytest.raises(CameraError, match=why):
            open_camera(str(tmp_path / name))
