"""Videos and pictures: every frame in turn, at their own rate, again and again, and damaged."""

from __future__ import annotations

import itertools
import os
import time
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from deploy.runtime.camera import Camera, CameraError, open_camera, quiet
from deploy.runtime.camera.capture import FILE_QUEUE
from deploy.runtime.camera.files import open_video
from deploy.runtime.camera.pictures import FileClock
from deploy.runtime.camera.source import Source
from deploy.runtime.frame import Frame
from edgekp.image_header import PIXEL_LIMIT_NAME
from tests.deploy.camera.scripted import BADS, GOOD, HANG, Raise, Script, Wait, serial_of

SHARED = Path(os.environ.get("EDGEKP_DATA", "/nowhere")) / "video"
FPS, LEVEL = 20.0, 8


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """30 frames, each one even grey that tells its number, each decoded on its own."""
    quiet.opencv()  # FFmpeg looks only once how much it may say
    path = tmp_path_factory.mktemp("video") / "grey.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), FPS, (64, 48))
    for number in range(30):
        writer.write(np.full((48, 64, 3), LEVEL * number, np.uint8))
    writer.release()
    return path


def number_in(frame: Frame) -> int:
    return round(float(frame.bgr.mean()) / LEVEL)


def all_frames(camera: Camera) -> list[Frame]:
    found = []
    while (frame := camera.next()) is not None:
        found.append(frame)
    return found


def test_a_file_gives_every_frame_in_turn_at_its_own_times(video: Path) -> None:
    with open_camera(str(video)) as camera:
        assert camera.describe() == f"{video}: 64 x 48, 20 fps, MJPG; every frame"
        assert camera.fps == FPS
        frames = all_frames(camera)
        assert camera.next() is None
    assert [frame.number for frame in frames] == [number_in(frame) for frame in frames] == list(range(30))
    np.testing.assert_allclose([frame.time_s for frame in frames], np.arange(30) / FPS, atol=1e-3)
    assert camera.counts.read == camera.counts.handed_out == 30
    assert camera.counts.dropped == camera.counts.damaged == 0


def test_a_file_waits_for_a_slow_loop() -> None:
    script = Script([[GOOD] * 50], frames=50)
    with Camera(Source("scripted", False, script.open, ""), every_frame=True) as camera:
        time.sleep(0.05)
        assert script.given <= FILE_QUEUE + 1  # one more stands in the door
        assert camera.counts.waiting == camera.counts.read
        assert [serial_of(frame.bgr) for frame in all_frames(camera)] == list(range(50))


def test_a_file_at_its_own_rate_takes_its_own_time_and_drops_what_is_not_taken() -> None:
    script = Script([[GOOD] * 30], fps=60.0, frames=30)
    start = time.perf_counter()
    with Camera(Source("scripted", False, script.open, ""), every_frame=False) as camera:
        frames = []
        while (frame := camera.next()) is not None:
            frames.append(frame)
            time.sleep(0.05)
    assert 29 / 60 <= time.perf_counter() - start < 29 / 60 + 1
    assert [frame.number for frame in frames] == [serial_of(frame.bgr) for frame in frames]
    np.testing.assert_allclose([frame.time_s * 60 for frame in frames], [frame.number for frame in frames], atol=1e-6)
    assert 2 < len(frames) < 16  # one of three, or fewer on a busy machine
    assert camera.counts.read == 30 == camera.counts.handed_out + camera.counts.dropped + camera.counts.waiting


def test_a_file_played_again_and_again_goes_on_in_number_and_time(video: Path) -> None:
    with open_camera(str(video), loop=True) as camera:
        frames = [frame for frame in (camera.next() for _ in range(100)) if frame is not None]
    assert [frame.number for frame in frames] == list(range(100))
    assert [number_in(frame) for frame in frames] == [number % 30 for number in range(100)]
    np.testing.assert_allclose([frame.time_s for frame in frames], np.arange(100) / FPS, atol=1e-3)


def test_gaps_between_pictures_are_the_same_in_each_round() -> None:
    script = Script([[GOOD, BADS[0], GOOD, GOOD]] * 2, fps=10.0)
    with Camera(Source("scripted", False, script.open, ""), every_frame=True, loop=True) as camera:
        times = [frame.time_s for frame in (camera.next() for _ in range(6)) if frame is not None]
    np.testing.assert_allclose(times, [0, 0.2, 0.3, 0.4, 0.6, 0.7], atol=1e-9)


def test_a_looped_file_that_vanishes_is_an_error(video: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy.avi"
    copy.write_bytes(video.read_bytes())
    with open_camera(str(copy), loop=True) as camera:
        copy.unlink()
        with pytest.raises(CameraError, match="no such file"):
            all_frames(camera)
    assert camera.counts.handed_out == camera.counts.read


def test_a_cut_video_ends_cleanly_and_says_how_much_of_it_there_was(video: Path, tmp_path: Path,
                                                                    capsys: pytest.CaptureFixture[str]) -> None:
    cut = tmp_path / "cut.avi"
    data = video.read_bytes()
    cut.write_bytes(data[:data.index(b"idx1") * 2 // 3])
    with open_camera(str(cut)) as camera:
        frames = all_frames(camera)
    assert 10 < len(frames) < 20
    assert [number_in(frame) for frame in frames] == list(range(len(frames)))
    assert capsys.readouterr().err == (f"{cut}: {len(frames)} of about 30 pictures; the rest is damaged or missing\n")


def test_a_video_with_a_damaged_middle_goes_on_behind_it(video: Path, tmp_path: Path,
                                                         capfd: pytest.CaptureFixture[str]) -> None:
    data = bytearray(video.read_bytes())
    start = data.index(b"movi") + (len(data) - data.index(b"movi")) // 3
    data[start:start + 900] = bytes(900)  # one or two pictures, between which FFmpeg finds its way again
    damaged = tmp_path / "damaged.avi"
    damaged.write_bytes(data)
    with open_camera(str(damaged)) as camera:
        frames = all_frames(camera)
    assert number_in(frames[-1]) == 29
    assert 20 <= len(frames) < 30
    assert camera.counts.read == len(frames)
    assert capfd.readouterr().err == f"{damaged}: {len(frames)} of about 30 pictures; the rest is damaged or missing\n"


def test_damaged_pictures_and_an_exception_in_mid_file(capsys: pytest.CaptureFixture[str]) -> None:
    script = Script([[GOOD, *BADS, GOOD, Raise(), GOOD]])
    with Camera(Source("scripted", False, script.open, ""), every_frame=True) as camera:
        assert [serial_of(frame.bgr) for frame in all_frames(camera)] == [0, 1]
    assert camera.counts.damaged == len(BADS)
    assert "OpenCV fails after 2 pictures" in capsys.readouterr().err
    assert script.released == 1


def test_a_header_rounded_by_a_frame_is_no_damage(capsys: pytest.CaptureFixture[str]) -> None:
    script = Script([[GOOD] * 87], frames=88)
    with Camera(Source("scripted", False, script.open, ""), every_frame=True) as camera:
        assert len(all_frames(camera)) == 87
    assert capsys.readouterr().err == ""


def test_close_in_mid_file_ends_the_thread_at_once(video: Path) -> None:
    camera = open_camera(str(video))
    reader = camera._reader
    camera.next()
    camera.close()
    assert not reader.is_alive()
    counts = camera.counts
    assert counts.read == counts.handed_out + counts.dropped + counts.waiting


def test_a_file_that_hangs_returns_control_and_comes_back() -> None:
    script = Script([[GOOD, HANG, GOOD]])
    with Camera(Source("scripted", False, script.open, ""), every_frame=True) as camera:
        assert camera.next() is not None
        with pytest.raises(CameraError, match="no frame within"):
            camera.next(0.02)
        script.let_go.set()
        assert len(all_frames(camera)) == 2


def test_pictures_of_a_folder_come_by_name_and_damaged_ones_are_left_out(tmp_path: Path) -> None:
    for number in (2, 0, 3):
        cv2.imwrite(str(tmp_path / f"{number}.png"), np.full((4 + number, 6, 3), LEVEL * number, np.uint8))
    (tmp_path / "1.jpg").write_text("no picture")
    (tmp_path / "notes.txt").write_text("not even by its name")
    with open_camera(str(tmp_path)) as camera:
        frames = all_frames(camera)
    assert [number_in(frame) for frame in frames] == [0, 2, 3]
    assert [frame.bgr.shape[0] for frame in frames] == [4, 6, 7]
    assert [frame.number for frame in frames] == [0, 1, 2]
    assert camera.counts.damaged == 1


def test_one_picture_is_a_video_of_one_frame(tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "one.png"), np.full((4, 6), 7, np.uint8))
    with open_camera(str(tmp_path / "one.png")) as camera:
        frame = camera.next()
        assert camera.next() is None
    assert frame is not None
    assert frame.bgr.tolist() == [[[7, 7, 7]] * 6] * 4


def test_a_video_of_too_many_pixels_is_refused_before_a_picture_is_decoded(
        video: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(PIXEL_LIMIT_NAME, str(64 * 48))
    with open_camera(str(video)) as camera:
        assert camera.next() is not None
    monkeypatch.setenv(PIXEL_LIMIT_NAME, str(64 * 48 - 1))
    with pytest.raises(CameraError, match=rf"grey\.avi: its pictures have 64 x 48 .*most 3,071.*{PIXEL_LIMIT_NAME}"):
        open_camera(str(video))
    monkeypatch.setenv(PIXEL_LIMIT_NAME, "many")
    with pytest.raises(CameraError, match="expected a number of pixels"):
        open_camera(str(video))


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".bmp", ".gif", ".webp"])
def test_a_picture_under_the_name_of_a_video_is_held_against_the_limits_of_pictures(
        tmp_path: Path, suffix: str, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "walk.mp4"
    path.write_bytes(cv2.imencode(suffix, np.full((48, 64, 3), 7, np.uint8))[1].tobytes())
    assert open_video(path).isOpened()  # type: ignore[attr-defined]
    monkeypatch.setenv(PIXEL_LIMIT_NAME, str(64 * 48 - 1))
    monkeypatch.setattr(cv2, "VideoCapture", None)
    with pytest.raises(CameraError, match=r"walk\.mp4: its header claims 64 x 48 pixels"):
        open_video(path)


def test_a_picture_without_a_known_header_under_the_name_of_a_video_is_held_against_the_limit(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "walk.mp4"
    path.write_bytes(cv2.imencode(".tiff", np.full((48, 64, 3), 7, np.uint8))[1].tobytes())
    monkeypatch.setenv(PIXEL_LIMIT_NAME, str(64 * 48 - 1))
    with pytest.raises(CameraError, match="its pictures have 64 x 48 pixels"):
        open_camera(str(path))


@given(st.lists(st.lists(st.floats(-5, 5), min_size=1, max_size=8), min_size=1, max_size=4),
       st.sampled_from([None, 10.0]))
def test_the_time_of_a_file_never_stands_still(rounds: list[list[float]], fps: float | None) -> None:
    clock = FileClock()
    times = []
    for index, said in enumerate(rounds):
        if index:
            clock.start_again()
        times += [clock.at(one, fps) for one in said]
    assert times[0] == 0
    assert all(earlier < later for earlier, later in itertools.pairwise(times))


@pytest.mark.skipif(not SHARED.is_dir(), reason="needs the videos in EDGEKP_DATA")
@pytest.mark.parametrize("name", ["classroom.mp4", "walk.mkv", "sister.mkv", "arm_wrestling_mmdeploy.mp4"])
def test_a_real_video_gives_what_opencv_gives(name: str, capfd: pytest.CaptureFixture[str]) -> None:
    plain = cv2.VideoCapture(str(SHARED / name))
    with open_camera(str(SHARED / name)) as camera:
        while (frame := camera.next()) is not None:
            good, bgr = plain.read()
            assert good
            assert np.array_equal(frame.bgr, bgr)
    assert not plain.read()[0]
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("pause_s", [0.0, 0.003])
def test_waited_ms_is_the_time_of_reading(pause_s: float) -> None:
    with Camera(Source("scripted", False, Script([[Wait(pause_s), GOOD] * 3]).open, ""), every_frame=True) as camera:
        for frame in all_frames(camera):
            assert pause_s * 1e3 <= frame.waited_ms < pause_s * 1e3 + 50
