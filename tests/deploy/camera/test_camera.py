"""Live cameras: the newest frame, losses, calls that never come back, and no frame unaccounted for."""

from __future__ import annotations

import itertools
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deploy.runtime.camera import Camera, CameraError, CameraLost, Patience
from deploy.runtime.camera.capture import MOST_STUCK
from deploy.runtime.camera.source import Source, Wish
from tests.deploy.camera.scripted import (
    BADS,
    CUT,
    GOOD,
    HANG,
    HANG_OPEN,
    REFUSED,
    Bad,
    Good,
    Raise,
    Script,
    Wait,
    adds_up,
    frames_until,
    in_turn,
    serial_of,
)

CALM = Patience(pauses_s=(0.002, 0.01))
HASTY = Patience(stuck_s=0.3, pauses_s=(0.002, 0.01))
STEADY = [Wait(0.002), GOOD]  # a camera with 500 pictures a second


def opened(script: Script, patience: Patience = CALM) -> Camera:
    return Camera(Source("scripted", True, script.open, "look at the script"), every_frame=False, patience=patience)


def threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "camera scripted"]


@pytest.fixture(autouse=True)
def _no_thread_outlives_its_test() -> Iterator[None]:
    yield
    for thread in threads():
        thread.join(2.0)
    assert not threads()


def test_next_gives_the_newest_frame_however_long_the_loop_took() -> None:
    script = Script([itertools.cycle(STEADY)])
    with opened(script) as camera:
        numbers = []
        for _ in range(5):
            start_s = time.perf_counter()
            time.sleep(0.05)
            before = script.given
            frame = camera.next()
            assert frame is not None
            assert frame.number == serial_of(frame.bgr)
            assert before - 2 <= frame.number <= script.given  # the one before may still be on its way
            assert start_s < frame.time_s < time.perf_counter()  # not from before the sleep
            numbers.append(frame.number)
    assert numbers == sorted(set(numbers))
    assert camera.counts.dropped > 5
    assert adds_up(camera.counts)
    assert camera.counts.read == script.given


def test_next_waits_for_a_frame_that_was_not_there_yet() -> None:
    turn = threading.Semaphore(0)
    with opened(Script([in_turn([GOOD, GOOD], turn)])) as camera:
        first = camera.next()
        threading.Timer(0.05, turn.release).start()
        second = camera.next()
        assert first is not None
        assert second is not None
        assert (first.number, second.number) == (0, 1)
        assert second.time_s - first.time_s >= 0.05


def test_a_lost_camera_is_called_back_and_says_so_once(capsys: pytest.CaptureFixture[str]) -> None:
    script = Script([[GOOD, GOOD, CUT], REFUSED, REFUSED, itertools.cycle(STEADY)])
    with opened(script) as camera:
        frames = frames_until(camera, lambda frame: frame.number >= 3)
    assert [serial_of(frame.bgr) for frame in frames] == [frame.number for frame in frames]
    assert all(a.time_s < b.time_s for a, b in itertools.pairwise(frames))
    assert camera.counts.reconnects == 1
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "camera lost: scripted: it gives no picture; calling it back"
    assert lines[1].startswith("camera back: scripted, after 0.")
    assert len(lines) == 2


def test_a_lost_camera_returns_control_in_time() -> None:
    with opened(Script([[GOOD, CUT]]), Patience(pauses_s=(5.0, 5.0))) as camera:
        assert camera.next() is not None
        start = time.monotonic()
        with pytest.raises(CameraLost, match=r"no frame within 0\.03 s"):
            camera.next(0.03)
        assert 0.03 <= time.monotonic() - start < 1.0
        start = time.monotonic()
    assert time.monotonic() - start < 1.0  # a pause between attempts does not hold up close


@pytest.mark.parametrize("stuck", [[GOOD, HANG], HANG_OPEN], ids=["read", "open"])
def test_a_call_that_never_comes_back_is_left_behind(stuck: Any, capsys: pytest.CaptureFixture[str]) -> None:
    first = stuck if isinstance(stuck, list) else [GOOD, CUT]
    script = Script([first, *([] if first is stuck else [stuck]), itertools.cycle(STEADY)])
    with opened(script, HASTY) as camera:
        frames_until(camera, lambda frame: frame.number >= 3)
        assert len(threads()) == 2
        script.let_go.set()
        frames_until(camera, lambda _: len(threads()) == 1)
    err = capsys.readouterr().err
    assert err.count("camera lost") == err.count("camera back") == camera.counts.reconnects
    assert "OpenCV does not come back" in err or first is not stuck
    assert camera.counts.read == script.given  # the late picture counts too
    assert adds_up(camera.counts)


def test_close_returns_from_a_camera_that_hangs() -> None:
    script = Script([[GOOD, HANG]])
    camera = opened(script, Patience(close_s=0.05))
    start = time.monotonic()
    camera.close()
    assert time.monotonic() - start < 1.0
    script.let_go.set()
    threads()[0].join(1.0)
    assert script.released == 1
    assert camera.counts.read == script.given == 2
    assert adds_up(camera.counts)


def test_the_program_ends_although_a_camera_hangs() -> None:
    program = ("from tests.deploy.camera.scripted import *\n"
               "from deploy.runtime.camera import Camera, Patience\n"
               "from deploy.runtime.camera.source import Source\n"
               "script = Script([[GOOD, HANG]])\n"
               "with Camera(Source('s', True, script.open, ''), every_frame=False, patience=Patience(close_s=.05)):\n"
               "    print('ok')\n")
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=30, check=True)
    assert done.stdout == "ok\n"
    assert not done.stderr


def test_stuck_threads_do_not_pile_up() -> None:
    script = Script([[GOOD, CUT], *[HANG_OPEN] * 20])
    patience = Patience(stuck_s=0.005, pauses_s=(0.001, 0.002), close_s=0.1)
    with opened(script, patience) as camera:
        deadline = time.monotonic() + 0.5
        while time.monotonic() < deadline:
            try:
                camera.next(0.02)
            except CameraLost:
                assert len(threads()) <= MOST_STUCK + 1
        assert len(threads()) == MOST_STUCK + 1
        script.let_go.set()


@pytest.mark.parametrize("where", ["grab", "retrieve"])
def test_an_exception_of_opencv_is_a_loss_and_its_text_stays_secret(where: str,
                                                                    capsys: pytest.CaptureFixture[str]) -> None:
    with opened(Script([[GOOD, Raise(where)], itertools.cycle(STEADY)])) as camera:
        frames_until(camera, lambda frame: frame.number >= 1)
    err = capsys.readouterr().err
    assert "OpenCV fails while it reads" in err
    assert "secret" not in err


def test_a_reader_that_dies_is_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threading, "excepthook", lambda args: None)

    def no_memory() -> Iterator[Any]:
        yield GOOD
        raise MemoryError

    with opened(Script([no_memory(), itertools.cycle(STEADY)])) as camera:
        frames_until(camera, lambda frame: frame.number >= 1)


def test_frames_of_other_sizes_pass_as_they_are() -> None:
    turn = threading.Semaphore(0)
    frames = []
    with opened(Script([in_turn([Good((4, 6)), Good((8, 2)), Good((6, 4))], turn)])) as camera:
        for _ in range(3):
            frames.append(camera.next())
            turn.release()
    assert [frame.bgr.shape for frame in frames if frame] == [(4, 6, 3), (8, 2, 3), (6, 4, 3)]


@pytest.mark.parametrize("channels", [0, 1, 4])
def test_grey_and_bgra_pictures_become_bgr(channels: int) -> None:
    turn = threading.Semaphore(0)
    with opened(Script([in_turn([GOOD, Good(channels=channels)], turn)])) as camera:
        camera.next()
        turn.release()
        frame = camera.next()
    assert frame is not None
    assert frame.bgr.shape == (4, 6, 3)
    assert frame.bgr[0, 0].tolist() == ([1, 0, 0] if channels == 4 else [1, 1, 1])


@pytest.mark.parametrize("bad", BADS, ids=range(len(BADS)))
def test_damaged_pictures_are_left_out_and_counted(bad: Bad) -> None:
    with opened(Script([itertools.chain([GOOD, bad, bad], itertools.cycle(STEADY))])) as camera:
        frames_until(camera, lambda frame: frame.number >= 3)
    assert camera.counts.damaged == 2
    assert camera.counts.reconnects == 0


def test_a_camera_that_turns_to_damaged_pictures_is_lost(capsys: pytest.CaptureFixture[str]) -> None:
    damaged = itertools.cycle([Wait(0.002), BADS[0]])
    patience = Patience(damaged_s=0.02, pauses_s=(0.002, 0.01))
    with opened(Script([itertools.chain([GOOD], damaged), itertools.cycle(STEADY)]), patience) as camera:
        frames_until(camera, lambda frame: frame.number >= 1)
    assert "its pictures cannot be decoded" in capsys.readouterr().err


@pytest.mark.parametrize(("connections", "why"), [
    ([], "scripted: refused"), ([REFUSED], "scripted: refused"), ([HANG_OPEN], "no picture within 0.1 s; look at"),
    ([[CUT]], "gives no picture; look at the script"), ([[HANG]], "no picture within 0.1 s"),
    ([itertools.cycle([Wait(0.002), BADS[3]])], "its pictures cannot be decoded; look at the script"),
    ([[Raise()]], "OpenCV fails while it reads"),
], ids=["nothing", "refused", "open hangs", "no picture", "read hangs", "raw", "exception"])
def test_a_camera_that_never_gave_a_picture_is_an_error(connections: list[Any], why: str) -> None:
    script = Script(connections)
    start = time.monotonic()
    with pytest.raises(CameraError, match=why) as caught:
        opened(script, Patience(start_s=0.1, damaged_s=0.02, close_s=0.05))
    assert time.monotonic() - start < 1.5
    assert not isinstance(caught.value, CameraLost)
    script.let_go.set()


def test_a_lost_camera_is_given_up_only_if_a_limit_is_set() -> None:
    script = Script([[GOOD, CUT]])
    with opened(script, Patience(pauses_s=(0.002, 0.01), give_up_s=0.05)) as camera:
        assert camera.next() is not None
        with pytest.raises(CameraError, match=r"not back within 0\.05 s") as caught:
            camera.next(2.0)
        assert not isinstance(caught.value, CameraLost)
        attempts = script.opened
        time.sleep(0.05)
        assert script.opened <= attempts + 1  # and nobody calls it back any more


def test_what_a_camera_gives_of_what_it_was_asked_for_is_said() -> None:
    for wish, asked in [(Wish(), ""), (Wish((6, 4), 30.0), ""), (Wish((1280, 720)), " (asked for 1280 x 720)")]:
        script = Script([itertools.cycle(STEADY)], fps=30.0)
        with Camera(Source("scripted", True, script.open, "", wish), every_frame=False) as camera:
            assert camera.describe() == f"scripted: 6 x 4, 30 fps, MJPG{asked}; the newest frame"


def test_after_close_the_frames_have_ended_and_the_source_is_released() -> None:
    script = Script([itertools.cycle(STEADY)])
    camera = opened(script)
    camera.close()
    camera.close()
    assert not threads()
    assert script.released == script.opened == 1
    for _ in range(2):  # one frame may still have waited
        last = camera.next()
    assert last is None


@given(st.lists(st.one_of(
    st.sampled_from([REFUSED, HANG_OPEN]),
    st.lists(st.sampled_from([GOOD, GOOD, Good((3, 5)), Good(channels=4), Wait(0.001), CUT, HANG, Raise(),
                              Raise("retrieve"), *BADS]), max_size=8)), max_size=6))
@settings(max_examples=12, deadline=None)
def test_whatever_a_camera_does_every_frame_is_accounted_for(faults: list[Any]) -> None:
    script = Script([[GOOD, GOOD], *faults, itertools.cycle(STEADY)])
    patience = Patience(stuck_s=0.01, pauses_s=(0.0005, 0.001), close_s=0.1)
    with opened(script, patience) as camera:
        threading.Timer(0.05, script.let_go.set).start()  # with too many hangs at once only that ends them
        frames = frames_until(camera, lambda frame: frame.number > 20)
    script.let_go.set()
    for thread in threads():
        thread.join(5.0)
    assert not threads()
    numbers = [frame.number for frame in frames]
    assert numbers == sorted(set(numbers))
    counts = camera.counts
    assert adds_up(counts)
    assert (counts.read, counts.damaged) == (script.given, script.damaged)
    assert counts.handed_out == len(frames)
