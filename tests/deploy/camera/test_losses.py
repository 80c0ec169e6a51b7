"""Pauses grow, and what is said is said once."""

from __future__ import annotations

import pytest

from deploy.runtime.camera import losses
from deploy.runtime.camera.losses import Losses


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(losses, "time", clock)
    return clock


@pytest.mark.usefixtures("clock")
def test_pauses_double_from_half_a_second_to_eight_and_are_shortened_by_up_to_a_half() -> None:
    away = Losses("camera", (0.5, 8.0))
    assert away.pause_s() == 0  # the first opening does not wait
    for longest in [0.5, 1.0, 2.0, 4.0, 8.0, 8.0, *[8.0] * 1100]:
        away.lost("gone")
        assert longest / 2 <= away.pause_s() <= longest
    drawn = [away.pause_s() for _ in range(400)]
    assert min(drawn) < 4.4  # uniform on 4..8: all 400 above 4.4 in one run of 10 ** 18
    assert max(drawn) > 7.6


def test_a_camera_that_comes_and_goes_is_called_ever_more_rarely(clock: Clock) -> None:
    away = Losses("camera", (0.5, 8.0))
    for longest in [0.5, 1.0, 2.0, 4.0, 8.0]:
        away.lost("gone")
        assert longest / 2 <= away.pause_s() <= longest
        clock.now += 1
        assert away.found()
        clock.now += 7.9
    clock.now += 0.2  # now it has stayed for longer than the last pause
    away.lost("gone")
    assert away.pause_s() <= 0.5


def test_one_line_when_lost_and_one_when_back(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    away = Losses("camera", (0.5, 8.0))
    assert not away.found()
    for _ in range(3):
        away.lost("unplugged")
        clock.now += 2.5
    assert away.gone_s == 7.5
    assert away.found()
    assert not away.found()
    assert away.gone_s == 0
    assert capsys.readouterr().err.splitlines() == ["camera lost: unplugged; calling it back",
                                                    "camera back: camera, after 7.5 s"]
