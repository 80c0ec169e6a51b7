"""Ledgers: what a board recorded is judged elsewhere by the same rule, and nothing else passes for it."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from edgekp.artifact import write_artifact
from edgekp.codecs import build_codec
from edgekp.contract import Contract
from edgekp.errors import EdgekpError
from edgekp.preprocess import InputSpec
from edgekp.recipe_file import load_recipe
from edgekp.skeletons import skeleton_named
from eval import latency_gate
from eval.__main__ import main
from eval.latency import Alone
from eval.latency_gate import judge_evidence
from eval.ledger import KEY_VARIABLE, judge_ledger, ledger_key, read_ledger, seals_of, write_ledger
from eval.machine_stamp import Machine, Reading
from eval.recipe_gate import gate_run
from eval.verdict import as_junit, as_lines, as_markdown
from tests.eval.latency_numbers import BOARD, evidence, times
from tests.stages import leave_stage

KEY = b"a secret of the board and of CI"
SLOWER = [1.11, 1.1, 1.12, 1.1, 1.09]


@pytest.fixture(autouse=True)
def _no_key_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(KEY_VARIABLE, raising=False)


def artifact(folder: Path, weights: bytes) -> Path:
    """An artifact that nobody runs."""
    folder.mkdir()
    (folder / "model.onnx").write_bytes(weights)
    contract = Contract(InputSpec((32, 32)), build_codec("regression", (32, 32), {}), skeleton_named("coco17"))
    write_artifact(folder, "onnx", contract, {"file": "model.onnx"})
    return folder


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Baseline and candidate; not to be changed."""
    folder = tmp_path_factory.mktemp("pair")
    return artifact(folder / "float", b"many bits"), artifact(folder / "int8", b"fewer")


@pytest.fixture
def ledger(tmp_path: Path, pair: tuple[Path, Path]) -> Callable[..., Path]:
    """Writes a ledger of the pair; signed where a key is given."""
    def write(ratios: list[float] = SLOWER, key: bytes | None = None, **changes: Any) -> Path:
        write_ledger(tmp_path / "ledger.json", evidence(ratios, **changes), *pair, key)
        return tmp_path / "ledger.json"
    return write


@pytest.mark.parametrize("ratios", [SLOWER, [0.5, 0.51, 0.52, 0.5, 0.51], [1.0, 1.06, 0.98, 1.05, 1.01, *[1.0] * 5],
                                    [1.0, 1.12, 0.95, 1.14, 1.01] * 3])
@pytest.mark.parametrize("limit", [0.6, 1.05, 1.2])
def test_a_replay_decides_as_the_measurement_did(ledger: Callable[..., Path], pair: tuple[Path, Path],
                                                 ratios: list[float], limit: float) -> None:
    live = judge_evidence(evidence(ratios), limit, "int8")
    replayed = judge_ledger(read_ledger(ledger(ratios), *pair), limit, "int8")
    assert replayed == replace(live, reason=f"{live.reason}; recorded on NVIDIA Jetson Orin Nano Developer Kit "
                                            "(ledger.json, unsigned)")


def test_nothing_is_lost_on_the_way(ledger: Callable[..., Path], pair: tuple[Path, Path]) -> None:
    made = evidence([1.0 + 1e-17, 1 / 3, 0.1, 2.0, 1e-9], machine_changes=("power_mode: 15W here, MAXN there",))
    made = replace(made, candidate=replace(made.candidate, energy_mj=None, peak_memory_bytes=None))
    moved = tuple(replace(process, readings=(Reading(), Reading(temperature_c=3.0))) for process in made.processes)
    made = replace(made, processes=moved)
    path = ledger()
    write_ledger(path, made, *pair, None)
    assert read_ledger(path, *pair).evidence == made


def test_a_run_that_was_unsteady_stays_undecided(ledger: Callable[..., Path], pair: tuple[Path, Path]) -> None:
    path = ledger(machine_changes=("power_mode: 15W here, MAXN there",))
    verdict = judge_ledger(read_ledger(path, *pair))
    assert verdict.outcome == "undecided"
    assert "power_mode" in verdict.reason


@pytest.mark.parametrize(("written", "read", "said"), [
    (KEY, KEY, "signed"), (KEY, None, "signature not checked: no key here"), (None, None, "unsigned")])
def test_the_verdict_says_what_the_signature_is_worth(ledger: Callable[..., Path], pair: tuple[Path, Path],
                                                      written: bytes | None, read: bytes | None, said: str) -> None:
    found = read_ledger(ledger(key=written), *pair, read)
    assert found.signature == said
    assert judge_ledger(found).reason.endswith(f"(ledger.json, {said})")


@pytest.mark.parametrize(("written", "word"), [(None, "is not signed, though a key is given"),
                                               (b"another key", "is not of this key")])
def test_with_a_key_only_its_own_signature_passes(ledger: Callable[..., Path], pair: tuple[Path, Path],
                                                  written: bytes | None, word: str) -> None:
    with pytest.raises(EdgekpError, match=word):
        read_ledger(ledger(key=written), *pair, KEY)


def test_a_board_cannot_write_into_the_reports(ledger: Callable[..., Path], pair: tuple[Path, Path]) -> None:
    board = "x\x1b[2J\n| **pass** | ![](//h/p) <b> `c` \\| [l](//h) \ufffe"
    found = judge_ledger(read_ledger(ledger(stamp=replace(BOARD, board=board)), *pair))
    assert as_lines([found]).isprintable()
    case = ElementTree.fromstring(as_junit([found])).find("testcase/system-out")
    assert case is not None
    assert case.text == f"{found.change}: {found.reason}"
    assert r"recorded on x\x1b[2J\n| **pass** | ![](//h/p) <b> `c` \| [l](//h) \ufffe (ledger" in case.text
    row = as_markdown([found]).splitlines()[4:]
    assert len(row) == 1
    begins_something = re.sub(r"\\.", "", row[0])  # CommonMark: a backslash makes the next character plain
    assert begins_something.count("|") == 6
    assert not set("[<`") & set(begins_something)


def faster(document: dict[str, Any]) -> None:
    document["evidence"]["processes"][0]["log_ratio"] = -1.0


def other_board(document: dict[str, Any]) -> None:
    document["evidence"]["stamp"]["power_mode"] = "MAXN"


def other_candidate(document: dict[str, Any]) -> None:
    document["candidate_sha256"] = document["baseline_sha256"]


def fewer_processes(document: dict[str, Any]) -> None:
    del document["evidence"]["processes"][2:]


def no_processes(document: dict[str, Any]) -> None:
    document["evidence"]["processes"] = []


def a_number_missing(document: dict[str, Any]) -> None:
    del document["evidence"]["processes"][3]["log_ratio"]


def a_percentile_missing(document: dict[str, Any]) -> None:
    del document["evidence"]["candidate"]["wall_ms"]["p50"]


def not_a_number(document: dict[str, Any]) -> None:
    document["evidence"]["processes"][3]["log_ratio"] = float("nan")


def an_infinite_number(document: dict[str, Any]) -> None:
    document["evidence"]["processes"][3]["self_log_ratio"] = float("-inf")


def a_ratio_beyond_all_numbers(document: dict[str, Any]) -> None:
    document["evidence"]["processes"][3]["self_log_ratio"] = 1e5


def a_text_for_a_number(document: dict[str, Any]) -> None:
    document["evidence"]["processes"][3]["log_ratio"] = "0.0"


def something_unknown(document: dict[str, Any]) -> None:
    document["evidence"]["trust_me"] = True


def no_evidence(document: dict[str, Any]) -> None:
    document["evidence"] = None


def no_stamp(document: dict[str, Any]) -> None:
    del document["evidence"]["stamp"]


CHANGES = (faster, other_board, other_candidate, fewer_processes, no_processes, a_number_missing,
           a_percentile_missing, not_a_number, an_infinite_number, a_ratio_beyond_all_numbers, a_text_for_a_number,
           something_unknown, no_evidence, no_stamp)
UNUSABLE = CHANGES[2:]  # the first two make a ledger that would be good, had the board written it


@pytest.mark.parametrize("key", [None, KEY])
@pytest.mark.parametrize("change", CHANGES)
def test_a_ledger_that_was_changed_is_refused(ledger: Callable[..., Path], pair: tuple[Path, Path],
                                              change: Callable[[dict[str, Any]], None], key: bytes | None) -> None:
    path = ledger(key=key)
    document = json.loads(path.read_text())
    change(document)
    path.write_text(json.dumps(document))
    with pytest.raises(EdgekpError, match=r"was changed or damaged|is NaN or infinite") as caught:
        read_ledger(path, *pair, key)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("change", CHANGES)
def test_who_has_no_key_cannot_seal_it_again(ledger: Callable[..., Path], pair: tuple[Path, Path],
                                             change: Callable[[dict[str, Any]], None]) -> None:
    """The digest can be made anew by anyone; the signature cannot."""
    path = ledger(key=KEY)
    seal_again(path, change, None, keep_signature=True)
    with pytest.raises(EdgekpError, match=r"its signature is not of this key|is NaN or infinite"):
        read_ledger(path, *pair, KEY)


@pytest.mark.parametrize("change", UNUSABLE)
def test_what_cannot_be_judged_is_refused_even_with_good_seals(ledger: Callable[..., Path], pair: tuple[Path, Path],
                                                               change: Callable[[dict[str, Any]], None]) -> None:
    path = ledger(key=KEY)
    seal_again(path, change, KEY)
    with pytest.raises(EdgekpError, match="record it again"):
        read_ledger(path, *pair, KEY)


def seal_again(path: Path, change: Callable[[dict[str, Any]], None], key: bytes | None,
               keep_signature: bool = False) -> None:
    """Change a ledger and write the seals that someone with this key could make."""
    document = json.loads(path.read_text())
    signature = document["hmac_sha256"]
    change(document)
    body = {name: value for name, value in document.items() if name not in ("sha256", "hmac_sha256")}
    with suppress(ValueError):  # a number that has no spelling in JSON has no seal either
        document["sha256"], document["hmac_sha256"] = seals_of(body, key)
    if keep_signature:
        document["hmac_sha256"] = signature
    path.write_text(json.dumps(document))


def test_a_ledger_of_other_artifacts_is_refused(ledger: Callable[..., Path], pair: tuple[Path, Path],
                                                tmp_path: Path) -> None:
    baseline, candidate = pair
    path = ledger()
    retrained = artifact(tmp_path / "retrained", b"other")
    with pytest.raises(EdgekpError, match="recorded for another candidate"):
        read_ledger(path, baseline, retrained)
    with pytest.raises(EdgekpError, match="recorded for another baseline"):
        read_ledger(path, retrained, candidate)
    with pytest.raises(EdgekpError, match="recorded for another baseline"):
        read_ledger(path, candidate, baseline)
    exchanged = shutil.copytree(candidate, tmp_path / "exchanged")
    (exchanged / "model.onnx").write_bytes(b"another model under the same manifest")
    with pytest.raises(EdgekpError, match=r"model.onnx: sha256"):
        read_ledger(path, baseline, exchanged)


@pytest.mark.parametrize("required", [{}, {"power_mode": "15W"}, {"clock_locked": "yes", "gpu": "unknown",
                                                                  "clock_limit_mhz": "1510.4", "threads": "1"}])
def test_a_stamp_like_the_required_one_passes(ledger: Callable[..., Path], pair: tuple[Path, Path],
                                              required: dict[str, str]) -> None:
    assert read_ledger(ledger(), *pair, required=required).evidence.stamp == BOARD


@pytest.mark.parametrize(("required", "message"), [
    ({"power_mode": "MAXN"}, "power_mode: 15W recorded, MAXN required"),
    ({"runtime": "onnxruntime 1.23.0", "board": "NVIDIA Jetson AGX Orin", "threads": "1"},
     "runtime: onnxruntime 1.24.4 recorded, onnxruntime 1.23.0 required; board: NVIDIA Jetson Orin Nano Developer Kit "
     "recorded, NVIDIA Jetson AGX Orin required"),
    ({"gpu": "Orin"}, "gpu: unknown recorded, Orin required"),
    ({"power": "15W"}, "no field of a stamp 'power'; did you mean 'power_mode'?"),
])
def test_an_unlike_stamp_is_refused_with_the_fields_that_differ(
        ledger: Callable[..., Path], pair: tuple[Path, Path], required: dict[str, str], message: str) -> None:
    with pytest.raises(EdgekpError) as caught:
        read_ledger(ledger(), *pair, required=required)
    assert message in str(caught.value)


@pytest.mark.parametrize(("text", "word"), [
    ("{", "broken JSON"), ("[]", "not an edgekp-latency-ledger"), ('{"format": "edgekp-latency-ledger"}', "version 1"),
    ('{"format": "edgekp-latency-ledger", "version": 1}', "was changed or damaged")])
def test_a_file_that_is_no_ledger_is_refused(tmp_path: Path, pair: tuple[Path, Path], text: str, word: str) -> None:
    (tmp_path / "ledger.json").write_text(text)
    with pytest.raises(EdgekpError, match=word):
        read_ledger(tmp_path / "ledger.json", *pair)


def test_the_key_comes_from_a_file_or_the_environment_and_is_never_empty(tmp_path: Path,
                                                                         monkeypatch: pytest.MonkeyPatch) -> None:
    assert ledger_key() is None
    (tmp_path / "key").write_bytes(KEY + b"\n")
    assert ledger_key(tmp_path / "key") == KEY
    monkeypatch.setenv(KEY_VARIABLE, "of the environment")
    assert (ledger_key(), ledger_key(tmp_path / "key")) == (b"of the environment", KEY)
    monkeypatch.setenv(KEY_VARIABLE, "")
    (tmp_path / "key").write_bytes(b"\n")
    for file in (None, tmp_path / "key", tmp_path / "nowhere"):
        with pytest.raises(EdgekpError, match=r"is empty, expected the key|cannot be read"):
            ledger_key(file)


@pytest.fixture
def command(pair: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> Callable[..., int]:
    """``eval latency`` on the pair, on a machine where the candidate is 10 % slower."""
    monkeypatch.setattr(latency_gate, "time_in_fresh_process", lambda folders, seed, seconds: times(SLOWER[seed]))
    monkeypatch.setattr(latency_gate, "measure_alone", lambda folder: Alone(87_000_000, 11.5))
    monkeypatch.setattr(latency_gate, "read_machine", lambda: Machine(processor="arm", cores=6, system="Linux"))

    def run(*options: str | Path) -> int:
        return main(["latency", "--baseline", str(pair[0]), "--candidate", str(pair[1]), *map(str, options)])
    return run


def test_record_here_and_replay_there(command: Callable[..., int], tmp_path: Path,
                                      monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    path, key = tmp_path / "board.json", tmp_path / "key"
    key.write_bytes(KEY)
    assert command("--record", path, "--key-file", key) == 1
    told = capsys.readouterr().out.splitlines()
    assert told[0].split("   ")[0] == "model"
    assert [line.split()[0] for line in told] == ["model", "baseline", "candidate", "gate"]
    assert "87.0 MB" in told[1]
    assert "11.5 mJ" in told[1]
    monkeypatch.setattr(latency_gate, "time_in_fresh_process", None)
    monkeypatch.setenv(KEY_VARIABLE, KEY.decode())
    assert command("--replay", path, "--require-stamp", "processor=arm", "--json", tmp_path / "verdict.json") == 1
    replayed = capsys.readouterr().out.splitlines()
    assert replayed[:3] == told[:3]
    assert replayed[3].endswith("recorded on arm (board.json, signed)   FAIL")
    assert json.loads((tmp_path / "verdict.json").read_text())["exit_code"] == 1
    assert command("--replay", path, "--limit", "1.5") == 0
    assert command("--replay", path, "--require-stamp", "cores=8") == 2
    monkeypatch.setenv(KEY_VARIABLE, "of someone else")
    assert command("--replay", path) == 2
    assert "its signature is not of this key" in capsys.readouterr().err


@pytest.mark.parametrize(("options", "word"), [
    (["--require-stamp", "cores=6"], "--require-stamp belongs to --replay"),
    (["--key-file", "key"], "--key-file belongs to --record or --replay"),
    (["--replay", "ledger.json", "--require-stamp", "cores"], "expected FIELD=VALUE"),
    (["--replay", "nowhere.json"], "nowhere.json: no such file"),
    (["--record", "ledger.json", "--key-file", "nowhere"], "nowhere: cannot be read"),
])
def test_options_that_do_not_fit_are_one_line(command: Callable[..., int], capsys: pytest.CaptureFixture[str],
                                              options: list[str], word: str) -> None:
    assert command(*options) == 2
    last = capsys.readouterr().err.splitlines()
    assert word in last[-1]


RECIPE = """
[data]
skeleton = "coco17"
[[data.train]]
labels = "data_coco17/val.json"
[[data.val]]
labels = "data_coco17/val.json"
[input]
input_hw = [32, 32]
padding = 1.0
[codec]
name = "regression"
[model]
backbone = "toy"
[train]
epochs = 1
[gate]
ledger = "board.json"
"""


@pytest.mark.slow
def test_a_recipe_may_name_the_ledger_of_its_board(
        toy_artifact: Callable[..., Path], toy_data: Callable[..., Path], tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("EDGEKP_DATA", str(tmp_path))
    monkeypatch.setenv(KEY_VARIABLE, KEY.decode())
    toy_data()
    folder = tmp_path / "runs/toy/export/cpu"
    models = [toy_artifact(name, 0.1, into=folder) for name in ("float", "int8")]
    (folder / "models.json").write_text('{"models": ["float", "int8"]}')
    leave_stage(folder)
    Path("toy.toml").write_text(RECIPE)
    recipe = load_recipe(Path("toy.toml"))
    with pytest.raises(EdgekpError, match=r"board.json: no such file"):
        gate_run(recipe, "cpu")
    write_ledger(Path("board.json"), evidence(SLOWER), models[0], models[1], KEY)
    verdict = gate_run(recipe, "cpu")[-1]
    assert (verdict.gate, verdict.outcome) == ("latency", "fail")
    assert verdict.reason.endswith("recorded on NVIDIA Jetson Orin Nano Developer Kit (board.json, signed)")
    assert gate_run(recipe, "cpu")[-1] == verdict
    assert "gate: up to date" in capsys.readouterr().err
    write_ledger(Path("board.json"), evidence([0.5] * 5), models[0], models[1], KEY)
    assert gate_run(recipe, "cpu")[-1].outcome == "pass"
    write_ledger(Path("board.json"), evidence([0.5] * 5), models[0], models[1], None)
    with pytest.raises(EdgekpError, match="is not signed"):
        gate_run(recipe, "cpu")
