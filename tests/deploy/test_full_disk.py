"""What the camera loop writes is whole or refused on a disk that takes no more, and what was there before stays."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from deploy.runtime.camera import stream
from deploy.runtime.frame import Frame
from deploy.runtime.loop.json_lines import as_line, json_lines
from deploy.runtime.loop.video_file import VideoFile
from edgekp.errors import CameraError, DataError
from tests.full_disk import files_of_at_most

HW = (48, 64)


def frame(number: int) -> Frame:
    noise = np.random.default_rng(number).integers(0, 256, (*HW, 3), dtype=np.uint8)
    return Frame(noise, number, number / 30, 0.0)


def record(path: Path, frames: int) -> None:
    with VideoFile(path, 30.0) as video:
        for number in range(frames):
            video.write(frame(number).bgr)


def frames_in(path: Path) -> int:
    video, count = cv2.VideoCapture(str(path)), 0
    while video.read()[0]:
        count += 1
    return count


def test_no_line_is_cut_in_two(tmp_path: Path) -> None:
    path, five = tmp_path / "out.jsonl", "".join(as_line(frame(number), []) + "\n" for number in range(5))
    with pytest.raises(DataError, match="any more"), json_lines(str(path)) as lines, files_of_at_most(len(five) + 9):
        for number in range(9):
            lines.write(frame(number), [])
    assert path.read_text() == five


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".avi"])
def test_a_video_that_does_not_fit_is_refused_and_the_one_before_stays(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"out{suffix}"
    record(path, 5)
    before = path.read_bytes()
    with pytest.raises(DataError, match="frames could be written, as on a full disk"), files_of_at_most(len(before)):
        record(path, 40)
    assert path.read_bytes() == before
    left = {found for found in tmp_path.iterdir() if found != path}
    record(path, 7)
    assert frames_in(path) == 7
    assert {found for found in tmp_path.iterdir() if found != path} == left
    assert all(frames_in(found) for found in left)


def test_a_video_without_its_index_is_not_left_on_the_full_disk(tmp_path: Path) -> None:
    with pytest.raises(DataError), files_of_at_most(3000):
        record(tmp_path / "out.mp4", 40)
    assert list(tmp_path.iterdir()) == []


def test_a_video_that_cannot_be_begun_leaves_the_one_before(tmp_path: Path) -> None:
    path = tmp_path / f"{'o' * (255 - len('.mp4'))}.mp4"  # as long as a name may be
    (tmp_path / "out.mp4").write_bytes(b"a video")
    (tmp_path / "out.mp4").rename(path)
    with pytest.raises(DataError, match="cannot be written"):
        record(path, 3)
    assert path.read_bytes() == b"a video"


def test_a_video_is_kept_when_something_else_goes_wrong(tmp_path: Path) -> None:
    path = tmp_path / "out.mp4"
    with pytest.raises(CameraError), VideoFile(path, 30.0) as video:
        video.write(frame(0).bgr)
        video.write(frame(1).bgr)
        raise CameraError("gone")
    assert frames_in(path) == 2


def test_what_was_recorded_has_the_name_only_at_the_end(tmp_path: Path) -> None:
    path = tmp_path / "out.mp4"
    with VideoFile(path, 30.0) as video:
        video.write(frame(0).bgr)
        assert [found.name for found in tmp_path.iterdir()] == ["out.partial.mp4"]
    assert [found.name for found in tmp_path.iterdir()] == ["out.mp4"]


def test_a_recording_that_was_killed_is_not_overwritten_by_the_next(tmp_path: Path) -> None:
    (tmp_path / "out.partial.mp4").write_bytes(b"what is left of an hour")
    record(tmp_path / "out.mp4", 2)
    assert (tmp_path / "out.partial.mp4").read_bytes() == b"what is left of an hour"
    assert sorted(found.name for found in tmp_path.iterdir()) == ["out.mp4", "out.partial.mp4"]


def test_of_two_recordings_of_one_name_each_is_whole_and_the_last_has_it(tmp_path: Path) -> None:
    path = tmp_path / "out.avi"
    with VideoFile(path, 30.0) as first:
        first.write(frame(0).bgr)
        record(path, 3)
        assert frames_in(path) == 3
        first.write(frame(1).bgr)
    assert frames_in(path) == 2
    assert [found.name for found in tmp_path.iterdir()] == [path.name]


def test_a_video_is_on_the_disk_before_it_takes_the_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    flushed = []

    def fsync(descriptor: int) -> None:
        flushed.append((Path(f"/proc/self/fd/{descriptor}").readlink().name, (tmp_path / "out.mp4").exists()))

    monkeypatch.setattr("os.fsync", fsync)
    record(tmp_path / "out.mp4", 2)
    assert flushed == [("out.partial.mp4", False), (tmp_path.name, True)]  # the content, then its name


def test_without_a_frame_there_is_no_video(tmp_path: Path) -> None:
    record(tmp_path / "out.mp4", 0)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".avi"])
def test_a_video_of_a_network_camera_is_whole_too(suffix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What FFmpeg is told about streams is told by a variable that holds for the saved file as well."""
    monkeypatch.setenv("OPENCV_FFMPEG_CAPTURE_OPTIONS", stream.OPTIONS)
    record(tmp_path / f"out{suffix}", 40)
    assert frames_in(tmp_path / f"out{suffix}") == 40
