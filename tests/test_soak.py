"""The soak in seconds: what its checks must find, that its camera is as unruly as it says; camera faults in short."""

from __future__ import annotations

import itertools
import json
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.faults import camera_faults, camera_stops
from benchmarks.soak import checks
from benchmarks.soak.__main__ import main
from benchmarks.soak.accounts import read_back
from benchmarks.soak.crowd import TURNS, Crowd
from benchmarks.soak.samples import Held, in_use_mb
from benchmarks.soak.unruly_camera import KINDS, Drawn, Fault, UnrulyCamera, endless_plan
from benchmarks.soak.whole_loop import LINES, NUMBERS
from edgekp.errors import CameraError

MINUTES = 30


def samples(rss_mb: Callable[[float], float] = lambda _: 200.0, ms: Callable[[float], float] = lambda _: 8.0,
            in_use_mb: Callable[[float], float] = lambda _: 50.0, noise: float = 0.02) -> list[dict[str, Any]]:
    """Half an hour, a second each, with noise as a share of the latency, and of the memory a tenth of it."""
    rng = np.random.default_rng(0)
    found = []
    for second in range(1, 60 * MINUTES + 1):
        memory, time = 1 + noise / 10 * rng.normal(), 1 + noise * rng.normal()
        found.append({"second": second, "rss_mb": rss_mb(second) * memory, "in_use_mb": in_use_mb(second),
                      "blocks": 1000, "threads": 4, "reference_ms": 0.5,
                      "ms": {"infer": [ms(second) * time, 1.5 * ms(second) * time]}})
    return found


def verdicts(found: list[checks.Check]) -> list[str]:
    return [check.verdict for check in found if check.limit is not None]


def test_what_is_flat_passes() -> None:
    flat = samples()
    assert verdicts(checks.memory(flat)) == ["pass"] * 3
    assert verdicts(checks.latency(flat)) == ["pass", "pass"]


def test_a_leak_of_two_megabytes_in_ten_minutes_fails() -> None:
    leak = samples(lambda second: 200 + 2 * second / 600, in_use_mb=lambda second: 50 + 2 * second / 600)
    in_use, resident, _, *told = checks.memory(leak)
    assert in_use.value == pytest.approx(2)
    assert (in_use.verdict, resident.verdict) == ("FAIL", "FAIL")
    assert all(check.verdict == "told" for check in told)


def test_a_leak_under_a_swaying_resident_set_fails_by_what_is_in_use() -> None:
    def swaying(second: float) -> float:
        return 200 + 5 * np.sin(second / 90) + 2 * second / 600
    found = checks.memory(samples(swaying, in_use_mb=lambda second: 50 + 2 * second / 600))
    assert found[0].verdict == "FAIL"


def test_a_resident_set_that_only_sways_passes() -> None:
    assert verdicts(checks.memory(samples(lambda second: 250 + 5 * np.sin(second / 90)))) == ["pass"] * 3


def test_what_is_in_use_is_told_where_the_c_library_cannot_say() -> None:
    assert checks.memory(samples(in_use_mb=lambda _: float("nan")))[0].verdict == "told"


@pytest.mark.skipif(np.isnan(in_use_mb()), reason="needs glibc 2.33")
def test_memory_in_use_counts_what_c_handed_out_and_not_what_came_back() -> None:
    before = in_use_mb()
    held = np.zeros(40 << 20, np.uint8)
    assert in_use_mb() - before == pytest.approx(40, abs=1)
    del held
    assert in_use_mb() - before == pytest.approx(0, abs=1)


def test_memory_that_fills_at_the_start_and_then_stays_passes() -> None:
    assert verdicts(checks.memory(samples(lambda second: 100 + min(second, 300) / 3))) == ["pass"] * 3


def test_latency_that_grows_by_three_percent_in_ten_minutes_fails() -> None:
    assert verdicts(checks.latency(samples(ms=lambda second: 8 * (1 + 0.03 * second / 600)))) == ["FAIL", "FAIL"]


def test_latency_that_only_follows_a_busy_machine_passes() -> None:
    busier = samples(ms=lambda second: 8 * (1 + 0.5 * second / 1800))
    for sample in busier:
        sample["reference_ms"] *= 1 + 0.5 * sample["second"] / 1800
    assert verdicts(checks.latency(busier)) == ["pass", "pass"]


def test_a_run_that_is_too_short_to_tell_has_no_verdict_on_slopes() -> None:
    short = samples()[:30]
    assert verdicts(checks.memory(short) + checks.latency(short)) == []


def test_a_number_that_is_none_never_passes() -> None:
    assert checks.Check("a", float("nan"), "", 1.0).verdict == "FAIL"


def test_a_thread_or_a_file_that_is_kept_fails() -> None:
    before = Held(100.0, 50.0, 1000, 1, 1, 5)
    assert verdicts(checks.given_back(before, before, pool=2)) == ["pass"] * 3
    kept = replace(before, threads=2, tasks=4, files=6)
    assert verdicts(checks.given_back(before, kept, pool=2)) == ["FAIL"] * 3


def test_a_crowd_is_nobody_to_fifty_and_all_in_view() -> None:
    now = [0.0]
    crowd = Crowd(hold_s=1.0, clock=lambda: now[0])
    counts = []
    for now[0] in np.arange(0.5, len(TURNS)):
        boxes = crowd.detect(np.zeros((480, 640, 3), np.uint8))
        counts.append(len(boxes))
        assert (boxes[:, :2] >= 0).all()
        assert (boxes[:, :2] + boxes[:, 2:] <= (640, 480)).all()
    assert (min(counts), max(counts)) == (0, 50)


def lines_of(folder: Path, numbers: list[int], noted: list[int], end: str = "\n") -> int:
    """What ``read_back`` finds amiss."""
    people = json.dumps({"size_wh": [6, 4], "people": []})[1:]
    (folder / LINES).write_text("\n".join(f'{{"frame": {number}, {people}' for number in numbers) + end)
    (folder / NUMBERS).write_text("".join(f"{number} 6 4\n" for number in noted))
    return read_back(folder).mismatched


@pytest.mark.parametrize(("numbers", "noted", "end", "amiss"), [
    ([0, 2, 5], [0, 2, 5], "\n", 0), ([0, 2], [0, 2, 5], "\n", 1), ([0, 2, 5], [0, 2], "\n", 1),
    ([0, 5, 2], [0, 5, 2], "\n", 1), ([0, 2, 2], [0, 2, 2], "\n", 1), ([0, 3], [0, 2], "\n", 1),
    ([0, 2], [0, 2], "", 1), ([0, 2], [0, 2, 5], '\n{"frame": 5, "peo', 1),
], ids=["whole", "missing", "invented", "out of order", "twice", "another", "without its end", "cut"])
def test_a_line_that_is_amiss_is_found(numbers: list[int], noted: list[int], end: str, amiss: int,
                                       tmp_path: Path) -> None:
    assert lines_of(tmp_path, numbers, noted, end) == amiss


def grabbed(kind: str, amount: float = 1.0) -> tuple[UnrulyCamera, list[Any]]:
    """What one connection gives when the fault comes after two pictures: "cut", "raised", or the picture's shape."""
    camera = UnrulyCamera(lambda _: Drawn(Crowd()), iter([Fault(2, kind, amount)]), fps=1e6)
    capture, found = camera.open(), []
    for _ in range(4):
        try:
            if not capture.grab():
                return camera, [*found, "cut"]
            good, bgr = capture.retrieve()
            found.append(getattr(bgr, "shape", None) if good else "bad")
        except (Exception, MemoryError) as error:  # noqa: BLE001 - whatever it throws is the point
            return camera, [*found, type(error).__name__]
    return camera, found


@pytest.mark.parametrize("kind", KINDS)
def test_every_fault_does_something_and_is_counted(kind: str) -> None:
    amount = 0.01 if kind in ("stall", "hang", "hang_open", "damage_for_long") else 1.0
    camera, found = grabbed(kind, amount)
    assert found[:2] == [(480, 640, 3)] * 2
    assert camera.faults == {kind: 1}
    ends = {"cut": "cut", "refuse": "cut", "hang_open": "cut", "raise_in_grab": "error", "raise_in_retrieve": "error",
            "die": "MemoryError"}
    assert found[2] == ends[kind] if kind in ends else len(found) == 4
    assert camera.given + camera.damaged == len(found) - (kind in ends)
    assert (camera.damaged > 0) == kind.startswith("damage")


def test_a_refused_camera_refuses_as_often_as_planned() -> None:
    camera, _ = grabbed("refuse", 2.0)
    for _ in range(2):
        with pytest.raises(CameraError):
            camera.open()
    assert camera.open().grab()


def test_the_same_seed_is_the_same_plan_with_every_kind_of_fault() -> None:
    first, again, other = (list(itertools.islice(endless_plan(seed, 10, 1.0, 1.0), 200)) for seed in (3, 3, 4))
    assert first == again != other
    assert {fault.kind for fault in first} == set(KINDS)


@pytest.mark.slow
def test_a_short_soak_accounts_for_every_picture(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--minutes", "0.05", "--out", str(tmp_path / "soak.json")]) == 0
    found = {record["check"]: record for record in json.loads((tmp_path / "soak.json").read_text())}
    assert found["told: handed out"]["value"] > 0
    assert all(record["verdict"] == "pass" for name, record in found.items() if name.startswith("accounts"))
    assert "0 of" in capsys.readouterr().err


def test_a_video_that_is_not_there_is_said(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main(["--video", "nowhere.mkv", "--out", str(tmp_path / "soak.json")]) == 2
    assert "nowhere.mkv: no such file" in capsys.readouterr().err


@pytest.mark.slow
def test_camera_faults_lose_nothing_and_nothing_is_silent() -> None:
    found = camera_faults.camera_faults(2, seed=5)
    assert (found.tried, found.survived) == (2, 2)


@pytest.mark.slow
def test_a_loop_that_forgets_a_line_is_silent_and_one_that_raises_is_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    from deploy.runtime.loop.json_lines import JsonLines

    write, calls = JsonLines.write, itertools.count()
    monkeypatch.setattr(JsonLines, "write",
                        lambda self, frame, people: None if next(calls) == 3 else write(self, frame, people))
    monkeypatch.setattr(camera_faults, "scripts", lambda count, seed: [camera_faults.Script(
        (Fault(40, "resize", 0),), comes_back=True)])
    assert camera_faults.camera_faults(1, 0).silent == 1

    def broken(*_: object) -> None:
        raise ValueError("planted")

    monkeypatch.setattr(JsonLines, "write", broken)
    assert camera_faults.camera_faults(1, 0).lost == 1


@pytest.mark.slow
@pytest.mark.parametrize("way", [*camera_stops.WAYS[1:3], camera_stops.KILL], ids=["SIGTERM", "SIGINTs", "kill -9"])
def test_a_stopped_run_leaves_whole_files(way: tuple[signal.Signals, ...], tmp_path: Path) -> None:
    camera_stops.prepare(tmp_path)
    ended = camera_stops.stopped(tmp_path, way, np.random.default_rng(0))
    assert camera_stops.verdict(ended, way) == "survived", ended


def test_what_a_stopped_run_may_not_leave_is_found() -> None:
    line = '{"frame": %d}\n'
    good = camera_stops.Ended(0, "", line % 0 + line % 1, 2)
    once, twice = camera_stops.WAYS[0], camera_stops.WAYS[2]
    assert camera_stops.verdict(good, once) == "survived"
    assert camera_stops.verdict(replace(good, code=130), once) == "lost"
    assert camera_stops.verdict(replace(good, code=130), twice) == "survived"
    assert camera_stops.verdict(replace(good, stderr="Traceback (most"), once) == "lost"
    assert camera_stops.verdict(replace(good, pictures=1), once) == "silent"
    assert camera_stops.verdict(replace(good, pictures=0), once) == "lost"
    assert camera_stops.verdict(replace(good, text=line % 0 + line % 2), once) == "silent"
    assert camera_stops.verdict(replace(good, text=good.text + '{"fra'), once) == "silent"
    killed = replace(good, code=-9, text=good.text + '{"fra', pictures=0)
    assert camera_stops.verdict(killed, camera_stops.KILL) == "survived"
    assert camera_stops.verdict(replace(killed, text='{"fra\n'), camera_stops.KILL) == "silent"
