"""run_onnx.py from pictures to JSON and video, with a model that is never wrong; and what it says when it cannot."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from deploy import run_onnx
from deploy.runtime.frame import Frame
from deploy.runtime.host_estimator import HostEstimator
from deploy.runtime.loop import outputs
from deploy.runtime.session import open_session
from edgekp.artifact import open_artifact
from edgekp.preprocess import frame_xywh, read_image
from edgekp.sample import Float
from tests.deploy.color_people import BRIGHTER_THAN, CONTRACT, person_at, picture, write_color_artifact
from tests.deploy.detectors.blob_detector import write_blob_detector

HW = (200, 240)
# Half a cell of 4 input pixels; a box that follows somebody 170 px high is shown at 1.2 input pixels a pixel, the whole
# frame at 0.85.
CELL_PX = 2 / 0.85
Lines = list[dict[str, Any]]


@pytest.fixture(scope="module")
def artifact(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_color_artifact(tmp_path_factory.mktemp("colors") / "artifact")


@pytest.fixture
def look(artifact: Path, tmp_path: Path) -> Callable[..., Lines]:
    """Lines of JSON about frames, each given as the people on it; options follow."""

    def run(frames: Sequence[Sequence[Float]], *options: str, hw: tuple[int, int] = HW) -> Lines:
        write_pictures(tmp_path / "pictures", frames, hw)
        assert run_onnx.main(["--artifact", str(artifact), "--camera", str(tmp_path / "pictures"), "--no-window",
                              "--json", str(tmp_path / "out.jsonl"), *options]) == 0
        return read_lines(tmp_path / "out.jsonl")

    return run


def write_pictures(folder: Path, frames: Sequence[Sequence[Float]], hw: tuple[int, int] = HW) -> Path:
    folder.mkdir(exist_ok=True)
    for number, people in enumerate(frames):
        cv2.imwrite(str(folder / f"{number:04}.png"), picture(list(people), hw))
    return folder


def read_lines(path: Path) -> Lines:
    return [json.loads(line) for line in path.read_text().splitlines()]


def keypoints_of(line: dict[str, Any], identity: int) -> Float:
    return np.array(next(person["keypoints"] for person in line["people"] if person["id"] == identity))


def walker(frame: int) -> Float:
    return person_at(60 + 2 * frame, 30, 140)


def test_somebody_who_walks_is_followed_to_the_pixel(look: Callable[..., Lines]) -> None:
    lines = look([[walker(frame)] for frame in range(12)], "--no-smoothing")
    assert [line["frame"] for line in lines] == list(range(12))
    for frame, line in enumerate(lines):
        assert line["size_wh"] == [240, 200]
        np.testing.assert_allclose(keypoints_of(line, 1)[:, :2], walker(frame).round(), atol=CELL_PX)


def test_the_lines_are_what_the_contract_says_of_each_picture(look: Callable[..., Lines], artifact: Path,
                                                              tmp_path: Path) -> None:
    lines = look([[walker(frame)] for frame in range(3)], "--no-smoothing", "--boxes", "frame")
    session = open_session(open_artifact(artifact))
    for frame, line in enumerate(lines):
        image = read_image(tmp_path / "pictures" / f"{frame:04}.png")
        inputs, crop_to_image = CONTRACT.prepare(image, frame_xywh(image))
        person = CONTRACT.interpret(session.infer(inputs[None]), crop_to_image[None])[0]
        np.testing.assert_allclose(keypoints_of(line, 1)[:, :2], person.keypoints_xy, atol=1e-3)  # of the rounding
        np.testing.assert_allclose(keypoints_of(line, 1)[:, 2], person.scores, atol=1e-4)


def test_smoothing_calms_somebody_who_trembles(look: Callable[..., Lines]) -> None:
    frames = [[person_at(60 + 3 * (frame % 2), 30, 140)] for frame in range(30)]
    jitter_px = [np.std([keypoints_of(line, 1)[:, 0] for line in look(frames, *options)[10:]], axis=0).mean()
                 for options in ((), ("--no-smoothing",))]
    assert jitter_px[0] < jitter_px[1] / 2


def test_several_people_keep_their_numbers(look: Callable[..., Lines], tmp_path: Path) -> None:
    detector = write_blob_detector(tmp_path / "detector.onnx", brighter_than=BRIGHTER_THAN)
    frames = [[person_at(20 + frame, 20, 120), person_at(240 - frame, 90, 140)] for frame in range(20)]
    lines = look(frames, "--no-smoothing", "--detector", str(detector), hw=(240, 400))
    of_left = {next(person["id"] for person in line["people"] if person["keypoints"][0][0] < 150) for line in lines}
    assert len(of_left) == 1
    for people, line in zip(frames, lines, strict=True):
        assert len(line["people"]) == 2
        left = of_left.copy().pop()
        np.testing.assert_allclose(keypoints_of(line, left)[:, :2], people[0].round(), atol=CELL_PX)


def test_an_empty_room_gives_empty_lines(look: Callable[..., Lines], tmp_path: Path) -> None:
    detector = write_blob_detector(tmp_path / "detector.onnx", brighter_than=BRIGHTER_THAN)
    assert [line["people"] for line in look([[], []], "--detector", str(detector))] == [[], []]
    assert [line["people"] for line in look([[], []])] == [[], []]


@pytest.mark.slow
def test_fifty_people_are_all_found(look: Callable[..., Lines], tmp_path: Path) -> None:
    detector = write_blob_detector(tmp_path / "detector.onnx", (640, 640), brighter_than=BRIGHTER_THAN)
    crowd = [person_at(20 + 120 * column, 20 + 120 * row, 80) for row in range(5) for column in range(10)]
    lines = look([crowd] * 3, "--no-smoothing", "--detector", str(detector), hw=(640, 1240))
    for line in lines:
        assert len(line["people"]) == 50
        noses = np.array([person["keypoints"][0][:2] for person in line["people"]])
        nearest = np.abs(noses[:, None] - np.array([person[0].round() for person in crowd])).max(-1).min(0)
        assert nearest.max() < CELL_PX


def test_a_frame_of_another_size_starts_anew_and_fits_the_video(artifact: Path, tmp_path: Path) -> None:
    folder = write_pictures(tmp_path / "pictures", [[walker(0)]] * 3)
    for number in (3, 4, 5):
        cv2.imwrite(str(folder / f"{number:04}.png"), picture([person_at(100, 60, 280)], (400, 480)))
    assert run_onnx.main(["--artifact", str(artifact), "--camera", str(folder), "--no-window", "--no-smoothing",
                          "--json", str(tmp_path / "out.jsonl"), "--save", str(tmp_path / "out.mp4")]) == 0
    lines = read_lines(tmp_path / "out.jsonl")
    assert [line["size_wh"] for line in lines] == [[240, 200]] * 3 + [[480, 400]] * 3
    np.testing.assert_allclose(np.array(lines[-1]["people"][0]["keypoints"])[:, :2],
                               person_at(100, 60, 280).round(), atol=2 * CELL_PX)
    video = cv2.VideoCapture(str(tmp_path / "out.mp4"))
    shapes = [video.read()[1].shape for _ in range(6)]
    assert shapes == [(200, 240, 3)] * 6
    assert not video.read()[0]


def test_the_saved_video_has_the_skeleton_on_the_person(artifact: Path, tmp_path: Path) -> None:
    folder = write_pictures(tmp_path / "pictures", [[walker(0)]] * 2)
    assert run_onnx.main(["--artifact", str(artifact), "--camera", str(folder), "--no-window",
                          "--save", str(tmp_path / "out.avi")]) == 0
    saved = cv2.VideoCapture(str(tmp_path / "out.avi")).read()[1].astype(int)
    changed = np.abs(saved - picture([walker(0)], HW)).max(-1) > 80
    columns = np.flatnonzero(changed.any(0))
    assert walker(0)[:, 0].min() - 30 < columns.min() < columns.max() < walker(0)[:, 0].max() + 30


def test_frames_limits_how_many_are_done(look: Callable[..., Lines]) -> None:
    assert len(look([[walker(0)]] * 5, "--frames", "2")) == 2


def test_the_result_says_frames_and_times(artifact: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = write_pictures(tmp_path / "pictures", [[walker(0)]] * 4)
    assert run_onnx.main(["--artifact", str(artifact), "--camera", str(folder), "--no-window"]) == 0
    said = capsys.readouterr().out
    assert f"{artifact}: 4 frames, 0 dropped" in said
    for stage in ("capture", "boxes", "pre", "infer", "decode", "end to end"):
        assert f"{stage} " in said


def test_json_on_the_standard_output_is_nothing_but_json(artifact: Path, tmp_path: Path,
                                                         capsys: pytest.CaptureFixture[str]) -> None:
    folder = write_pictures(tmp_path / "pictures", [[walker(0)]] * 2)
    assert run_onnx.main(["--artifact", str(artifact), "--camera", str(folder), "--no-window", "--json", "-"]) == 0
    assert [json.loads(line)["frame"] for line in capsys.readouterr().out.splitlines()] == [0, 1]


@pytest.mark.slow
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_with_whole_files(how: signal.Signals, artifact: Path, tmp_path: Path) -> None:
    folder = write_pictures(tmp_path / "pictures", [[walker(frame)] for frame in range(10)])
    running = subprocess.Popen([sys.executable, "deploy/run_onnx.py", "--artifact", str(artifact), "--camera",
                                str(folder), "--loop", "--no-window", "--json", str(tmp_path / "out.jsonl"),
                                "--save", str(tmp_path / "out.mp4")], stderr=subprocess.PIPE, text=True)
    assert running.stderr
    running.stderr.readline()  # the camera is open
    while not (tmp_path / "out.jsonl").is_file() or len((tmp_path / "out.jsonl").read_bytes()) < 5000:
        assert running.poll() is None
    running.send_signal(how)
    assert running.wait(20) == 0
    assert "Traceback" not in running.stderr.read()
    lines = read_lines(tmp_path / "out.jsonl")
    video = cv2.VideoCapture(str(tmp_path / "out.mp4"))
    assert int(video.get(cv2.CAP_PROP_FRAME_COUNT)) == len(lines)


@pytest.mark.parametrize(("options", "sentence"), [
    (["--camera", "nowhere.mp4"], "nowhere.mp4"),
    (["--save", "out.gif"], "expected a name that ends in"),
    (["--save", "nowhere/out.mp4"], "there is no folder nowhere"),
    (["--json", "nowhere/out.jsonl"], "--json nowhere/out.jsonl: cannot be written"),
    (["--detector", "nowhere.onnx"], "nowhere.onnx"),
    (["--boxes", "detect"], "detector"),
    (["--artifact", "nowhere"], "nowhere: no manifest.json"),
])
def test_what_cannot_be_done_is_said_in_one_line(options: list[str], sentence: str, artifact: Path, tmp_path: Path,
                                                 monkeypatch: pytest.MonkeyPatch,
                                                 capsys: pytest.CaptureFixture[str]) -> None:
    folder = write_pictures(tmp_path / "pictures", [[walker(0)]])
    monkeypatch.chdir(tmp_path)
    assert run_onnx.main(["--artifact", str(artifact), "--camera", str(folder), "--no-window", *options]) == 2
    *_, last = capsys.readouterr().err.splitlines()
    assert last.startswith("deploy/run_onnx.py: ")
    assert sentence in last


@pytest.mark.parametrize(("options", "sentence"), [
    (["--size", "640"], "expected width x height"), (["--frames", "0"], "expected a whole number above 0"),
    (["--fps", "nan"], "expected a number above 0"), (["--score", "2"], "expected a number from 0 to 1"),
    (["--boxes", "guess"], "'guess'"),
])
def test_wrong_options_are_refused(options: list[str], sentence: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        run_onnx.main(options)
    assert sentence in capsys.readouterr().err


def test_a_model_that_was_tampered_with_is_not_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = write_color_artifact(tmp_path / "artifact")
    model = bytearray((folder / "model.onnx").read_bytes())
    model[len(model) // 2] ^= 1
    (folder / "model.onnx").write_bytes(model)
    assert run_onnx.main(["--artifact", str(folder), "--no-window"]) == 2
    assert "the file was changed or damaged" in capsys.readouterr().err


def test_an_error_of_the_outputs_thread_ends_the_command(artifact: Path, tmp_path: Path,
                                                         monkeypatch: pytest.MonkeyPatch,
                                                         capsys: pytest.CaptureFixture[str]) -> None:
    folder = write_pictures(tmp_path / "pictures", [[walker(0)]] * 20)

    def broken(*_: object) -> None:
        raise RuntimeError("planted")

    monkeypatch.setattr(outputs, "draw_people", broken)
    assert run_onnx.main(["--artifact", str(artifact), "--camera", str(folder), "--no-window",
                          "--save", str(tmp_path / "out.mp4")]) == 2
    assert capsys.readouterr().err.endswith("RuntimeError: planted\n")


def test_a_full_disk_is_said(artifact: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("no /dev/full here")
    folder = write_pictures(tmp_path / "pictures", [[walker(0)]] * 20)
    assert run_onnx.main(["--artifact", str(artifact), "--camera", str(folder), "--no-window",
                          "--json", "/dev/full"]) == 2
    assert "cannot be written any more" in capsys.readouterr().err


def test_the_newest_export_of_the_target_is_taken(artifact: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
                                                  capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    assert run_onnx.main(["--no-window"]) == 2
    assert "make train optimize export TARGET=cpu" in capsys.readouterr().err
    write_color_artifact(tmp_path / "runs/old/export/cpu")
    newest = write_color_artifact(tmp_path / "runs/new/export/cpu")
    folder = write_pictures(tmp_path / "pictures", [[walker(0)]])
    assert run_onnx.main(["--no-window", "--camera", str(folder)]) == 0
    assert str(newest.relative_to(tmp_path)) in capsys.readouterr().out


def test_more_boxes_than_fit_at_once_are_all_estimated(artifact: Path) -> None:
    opened = open_artifact(artifact)
    estimator = HostEstimator(open_session(opened), opened.contract)
    bgr = picture([walker(0)], HW)
    boxes_xywh = np.array([[50.0 + number, 20, 100, 170] for number in range(37)])
    together = estimator.estimate(bgr, boxes_xywh).people
    alone = [estimator.estimate(bgr, box[None]).people[0] for box in boxes_xywh]
    np.testing.assert_allclose([person.keypoints_xy for person in together],
                               [person.keypoints_xy for person in alone], atol=1e-3)
    assert estimator.estimate(bgr, np.empty((0, 4))).people == []


def test_frames_are_not_written_into(artifact: Path, tmp_path: Path) -> None:
    """What is drawn goes onto a copy: a window may still show the frame, and a tracker look at it."""
    bgr = picture([walker(0)], HW)
    frame = Frame(bgr.copy(), 0, 0.0, 0.0)
    opened = open_artifact(artifact)
    HostEstimator(open_session(opened), opened.contract).estimate(frame.bgr, frame_xywh(bgr)[None])
    np.testing.assert_array_equal(frame.bgr, bgr)
