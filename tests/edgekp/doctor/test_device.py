"""``edgekp doctor device``: what is found on a Jetson and elsewhere, what mends it, and what can run."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from edgekp.__main__ import main
from edgekp.doctor.device import NEEDS, examine, lacking, records, text
from edgekp.doctor.device_line import Answer, Line, Machine, ask_python, free_bytes
from edgekp.doctor.device_python import VERSION
from tests.edgekp.doctor.jetson import CLOCKS, LOCKED_CLOCKS, Jetson, absent, jetson

COMMANDS = ("deploy/run_trt.py", "deploy/run_onnx.py", "deploy/run_tflite.py")


@pytest.fixture
def board(tmp_path: Path) -> Jetson:
    return jetson(tmp_path)


def line(board: Jetson, part: str) -> Line:
    return next(line for line in examine(board.machine()) if line.part == part)


def test_a_jetson_with_jetpack_and_pycuda_can_run_tensorrt_and_lacks_what_pip_brings(board: Jetson) -> None:
    lines = examine(board.machine())
    assert lacking(lines) == {"deploy/run_trt.py": [], "deploy/run_onnx.py": ["ONNX Runtime"],
                              "deploy/run_tflite.py": ["LiteRT"]}
    found = {line.part: line.found for line in lines}
    assert found["JetPack"] == "6, L4T 36.4.7, package nvidia-jetpack 6.2.1+b38"
    assert found["board"] == "NVIDIA Jetson Orin Nano Engineering Reference Developer Kit Super"
    assert found["OpenCV"] == "4.5.4, GStreamer yes, V4L2 yes"
    assert found["CUDA driver"] == "CUDA 12.6, Orin, compute capability 8.7"
    assert found["CUDA compiler"] == "nvcc 12.6"
    assert found["CUDA for Python"] == "pycuda 2026.1"
    assert found["temperature"] == "48 C"


def test_every_command_of_the_device_is_judged() -> None:
    assert tuple(NEEDS) == COMMANDS


def test_a_part_that_commands_need_is_a_part_that_is_examined(board: Jetson) -> None:
    """Otherwise it would never be missing."""
    assert {part for parts in NEEDS.values() for part in parts} <= {line.part for line in examine(board.machine())}


def test_a_power_mode_below_the_whole_is_mended_with_the_number_of_this_board(board: Jetson) -> None:
    assert line(board, "power mode") == Line("power mode", "25W; MAXN_SUPER would be faster and hotter",
                                             "worth knowing", "sudo nvpmodel -m 2")
    board.outputs["nvpmodel -q"] = "NV Power Mode: MAXN_SUPER\n2\n"
    assert line(board, "power mode") == Line("power mode", "MAXN_SUPER")


def test_a_power_mode_that_nobody_says_is_no_fault(board: Jetson) -> None:
    del board.outputs["nvpmodel -q"]
    assert line(board, "power mode").state == "worth knowing"


def test_clocks_are_read_from_files_where_jetson_clocks_answers_root_alone(board: Jetson) -> None:
    found = line(board, "clocks")
    assert found.found == "CPU 730 to 1510 MHz, GPU 306 to 1020 MHz; lock them to measure"
    assert found.mend == "sudo jetson_clocks"


def test_clocks_are_those_that_jetson_clocks_shows(board: Jetson) -> None:
    board.outputs["jetson_clocks --show"] = CLOCKS
    assert line(board, "clocks").found == "CPU 730 to 1498 MHz, GPU 306 to 612 MHz; lock them to measure"
    board.outputs["jetson_clocks --show"] = LOCKED_CLOCKS
    assert line(board, "clocks") == Line("clocks", "CPU 1479 MHz, GPU 922 MHz, locked")


@pytest.mark.parametrize("digits", [400, 5000])
def test_clocks_beyond_all_numbers_do_not_end_the_doctor(board: Jetson, digits: int) -> None:
    board.outputs["jetson_clocks --show"] = f"GPU MinFreq=306000000 MaxFreq={'9' * digits}"
    assert "GPU 306 to inf MHz" in line(board, "clocks").found


def test_an_older_jetpack_is_refused(board: Jetson) -> None:
    (board.root / "etc/nv_tegra_release").write_text("# R35 (release), REVISION: 6.0, GCID: 0, BOARD: generic\n")
    assert line(board, "JetPack").state == "missing"
    assert "JetPack 6" in str(line(board, "JetPack").mend)


def test_opencv_of_pip_over_jetpacks_is_worth_knowing_because_it_has_no_gstreamer(board: Jetson) -> None:
    board.opencv = Answer(json.dumps(["4.12.0", "/home/user/.local/cv2/__init__.py", "    GStreamer:         NO\n"]))
    found = line(board, "OpenCV")
    assert found.state == "worth knowing"
    assert "/home/user/.local/cv2/__init__.py hides JetPack's" in found.found
    assert str(found.mend).startswith("python3 -m pip uninstall opencv-python")


def test_numpy_2_over_jetpacks_is_told_before_and_after_it_breaks_opencv(board: Jetson) -> None:
    board.modules["numpy"] = Answer(json.dumps(["2.2.6", "/home/user/.local/numpy/__init__.py"]))
    board.opencv = Answer(problem="ImportError: numpy.core.multiarray failed to import")
    for part, state in (("numpy", "worth knowing"), ("OpenCV", "missing")):
        assert (line(board, part).state, line(board, part).mend) == (state, "python3 -m pip install 'numpy<2'")


@pytest.mark.parametrize("package", ["ONNX Runtime", "LiteRT"])
def test_what_pip_installs_on_a_jetson_leaves_its_numpy_below_2(board: Jetson, package: str) -> None:
    assert str(line(board, package).mend).endswith("'numpy<2'")


def test_cuda_python_will_do_without_pycuda(board: Jetson) -> None:
    board.modules["pycuda.driver"] = absent("pycuda")
    assert line(board, "CUDA for Python").state == "missing"
    board.modules["cuda.bindings.driver"] = Answer(json.dumps(["12.9.4", "/usr/local/cuda/bindings/driver.so"]))
    assert line(board, "CUDA for Python") == Line("CUDA for Python", "cuda-python 12.9.4")


def test_a_package_that_is_there_but_broken_is_not_called_absent(board: Jetson) -> None:
    board.modules["tensorrt"] = Answer(problem="ImportError: libnvinfer.so.10: cannot open shared object file")
    assert "libnvinfer.so.10" in line(board, "TensorRT").found
    board.modules["tensorrt"] = Answer(problem="ModuleNotFoundError: No module named 'tensorrt_bindings'")
    assert line(board, "TensorRT").found.startswith("cannot be imported")


def test_an_environment_that_hides_jetpacks_packages_is_named(board: Jetson) -> None:
    settings = board.root / "usr/pyvenv.cfg"
    settings.parent.mkdir(exist_ok=True)
    settings.write_text("home = /usr/bin\ninclude-system-site-packages = false\n")
    mend = str(line(board, "Python").mend)
    subprocess.run(mend, shell=True, check=True)
    assert "include-system-site-packages = true" in settings.read_text()
    assert line(board, "Python").state == "ok"


def test_in_a_container_the_driver_comes_with_the_runtime(board: Jetson) -> None:
    (board.root / ".dockerenv").touch()
    board.driver = Answer(problem="OSError: libcuda.so.1: cannot open shared object file: No such file or directory")
    assert line(board, "CUDA driver").mend == "docker run --runtime nvidia ..."


@pytest.mark.parametrize(("kb", "free", "temperature", "worth_knowing"), [
    (5_900_000, 50_000_000_000, 48_500, set()), (1_200_000, 50_000_000_000, 48_500, {"memory"}),
    (5_900_000, 400_000_000, 48_500, {"disk"}), (5_900_000, 50_000_000_000, 91_000, {"temperature"})])
def test_what_may_stop_a_build_is_told(board: Jetson, kb: int, free: int, temperature: int,
                                       worth_knowing: set[str]) -> None:
    (board.root / "proc/meminfo").write_text(f"MemTotal: 7803000 kB\nMemAvailable: {kb} kB\n")
    (board.root / "sys/class/thermal/thermal_zone0/temp").write_text(f"{temperature}\n")
    board.free = free
    told = {line.part for line in examine(board.machine()) if line.state != "ok"}
    assert told & {"memory", "disk", "temperature"} == worth_knowing


def test_a_machine_without_any_of_it_is_examined_and_can_run_nothing(tmp_path: Path) -> None:
    machine = Machine(tmp_path, lambda *_: None, lambda *_: Answer(problem="nothing"), lambda _: None, tmp_path)
    lines = examine(machine)
    assert all(lacking(lines).values())
    assert not {"JetPack", "power mode", "clocks"} & {line.part for line in lines}


def test_the_table_and_the_records_say_the_same(board: Jetson) -> None:
    lines = examine(board.machine())
    said = json.loads(records(lines))
    assert [part["part"] for part in said["parts"]] == [line.part for line in lines]
    assert said["lacking"]["deploy/run_onnx.py"] == ["ONNX Runtime"]
    table = text(lines)
    assert all(line.found in table and (line.mend or "") in table for line in lines)
    assert "deploy/run_trt.py: can run\ndeploy/run_onnx.py: lacks ONNX Runtime" in table


def test_the_command_answers_on_this_machine_and_writes_what_it_said(
        tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code = main(["doctor", "device", "--json", str(tmp_path / "device.json")])
    said = json.loads((tmp_path / "device.json").read_text())
    assert code == (0 if [] in said["lacking"].values() else 2)
    assert all(part["found"] in capsys.readouterr().out for part in said["parts"] if part["part"] == "Python")


def test_the_command_says_when_it_cannot_write(
        monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("edgekp.doctor.device.examine", lambda _: [Line("Python", "3.10.12")])
    assert main(["doctor", "device", "--json", "/proc/device.json"]) == 2
    assert "cannot be written" in capsys.readouterr().err


def test_the_doctor_starts_without_numpy_and_opencv_and_says_so(repository: Path) -> None:
    done = subprocess.run([sys.executable, "-I", "-S", "-c", f"import sys; sys.path.insert(0, {str(repository)!r})\n"
                           "from edgekp.__main__ import main; sys.exit(main(['doctor', 'device']))"],
                          capture_output=True, text=True, check=False)
    assert "Traceback" not in done.stderr
    assert "edgekp doctor device" in done.stderr
    assert "deploy/run_trt.py: lacks " in done.stdout


def test_python_is_asked_in_a_process_of_its_own() -> None:
    assert ask_python("print(1)") == Answer("1\n")
    assert ask_python("import no_such").problem == "ModuleNotFoundError: No module named 'no_such'"
    assert ask_python("import os; os.kill(os.getpid(), 11)").problem == "crashes with signal 11"
    assert json.loads(ask_python(VERSION, "pytest", "pytest").said)[0] == pytest.__version__


def test_free_space_is_asked_of_the_disk_that_will_hold_a_folder(tmp_path: Path) -> None:
    assert free_bytes(tmp_path / "not/yet/there") == pytest.approx(free_bytes(tmp_path), rel=0.01)
    assert os.statvfs(tmp_path).f_bavail > 0
