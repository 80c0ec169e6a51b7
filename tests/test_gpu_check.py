"""What ``make gpu-check`` makes of numbers and of other programs, and what it compares our decoder with."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.gpu_check import every_codec, rivals, sanitizer
from benchmarks.gpu_check.dark_by_arrays import blur_of, dark
from benchmarks.gpu_check.record import Found, Record, Skip, line, records_of
from deploy.runtime.gpu.decode_plan import plan_of
from edgekp.codecs import Heatmap
from edgekp.errors import DeviceError


@pytest.mark.parametrize("name", ["numpy", "torch"])
def test_the_arrays_that_we_are_compared_with_do_the_same(name: str) -> None:
    xp = pytest.importorskip(name, reason="one of the two that run without a GPU")
    codec = Heatmap((64, 48))
    crop_to_image = every_codec.crops(3)
    outputs = every_codec.said(codec, "f32", crop_to_image)
    plan = plan_of(codec)
    assert plan
    arrays = outputs.stored["heatmaps"], plan.to_image(crop_to_image), blur_of(plan.taps)
    found = dark(xp, *map(xp.asarray, arrays))
    np.testing.assert_allclose(np.asarray(found), outputs.keypoints, atol=rivals.SAME_PX / 10)


@pytest.mark.parametrize(("told", "expected"), [
    ("========= ERROR SUMMARY: 0 errors", 0), ("========= ERROR SUMMARY: 12 errors", 12),
    ("========= RACECHECK SUMMARY: 3 hazards displayed (3 errors, 0 warnings)", 3)])
def test_findings_of_the_sanitizer_are_counted(told: str, expected: int) -> None:
    assert sanitizer.counted(f"{sanitizer.EVERY_KERNEL_RAN}\n{told}\n") == expected


def test_a_sanitizer_that_did_not_see_every_kernel_is_no_pass() -> None:
    with pytest.raises(DeviceError, match="did not finish"):
        sanitizer.counted("Traceback\n========= ERROR SUMMARY: 0 errors")
    with pytest.raises(Skip, match="does not support"):
        sanitizer.counted("Error: Device not supported. Please refer to ...")


def test_a_machine_without_the_sanitizer_skips_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sanitizer.shutil, "which", lambda *given, **more: None)
    record, = records_of("sanitizer: memcheck", "a GPU", lambda: sanitizer.sanitized("memcheck"))
    assert (record.verdict, record.reason) == (
        "skipped", "compute-sanitizer is not installed; it comes with the CUDA toolkit")


@pytest.mark.parametrize(("found", "verdict", "limit"), [
    (Found("x", 2.0, "us", at_most=2.0), "pass", "<= 2"), (Found("x", 2.1, "us", at_most=2.0), "fail", "<= 2"),
    (Found("x", 0.6, "", at_least=0.6), "pass", ">= 0.6"), (Found("x", 0.5, "", at_least=0.6), "fail", ">= 0.6"),
    (Found("x", 5.0, "GB/s"), "pass", None), (Found("x", float("nan"), "us"), "fail", None)])
def test_a_number_is_held_against_its_limit(found: Found, verdict: str, limit: str | None) -> None:
    record, = records_of("x", "a GPU", lambda: [found])
    assert (record.verdict, record.limit) == (verdict, limit)
    assert ("FAIL" in line(record)) == (verdict == "fail")


def test_lines_of_the_table_are_aligned() -> None:
    records = [Record("crops", 1.5, "us", "<= 2", "pass", None, "gpu"),
               Record("x", None, None, None, "skipped", "no", "gpu")]
    assert len({line(record).index(record.verdict) for record in records}) == 1
