"""The board: its system, how fast it may run, what is free. Knows no package of Python."""

from __future__ import annotations

import re
from pathlib import Path

from edgekp.doctor.device_line import Line, Machine
from edgekp.machine import hottest_c, number_of, power_mode
from edgekp.user_caches import user_caches

JETPACKS = {32: 4, 34: 5, 35: 5, 36: 6, 38: 7, 39: 7}  # by the major release of L4T
WHOLE_POWER = ("MAXN_SUPER", "MAXN")  # the first that a board has
HOT_C = 85.0  # a Jetson Orin slows down from 97 to 99 degrees on
FREE_DISK_GB = 1.0  # engines, timing cache and videos
FREE_MEMORY_GB = 1.5  # building an engine takes about one beyond the model; a Jetson's GPU uses the same memory


def board_lines(machine: Machine) -> list[Line]:
    of_jetson = (_jetpack, _power, _clocks) if machine.is_jetson else ()
    lines = [probe(machine) for probe in (_board, *of_jetson, _governor, _temperature, _memory, _disk)]
    return [line for line in lines if line is not None]


def _board(machine: Machine) -> Line:
    return Line("board", machine.board or "no device tree, so no Jetson and no Raspberry Pi")


def _jetpack(machine: Machine) -> Line:
    release = re.search(r"R(\d{1,4}) \(release\), REVISION: ([\d.]+)", machine.text("etc/nv_tegra_release") or "")
    if not release:
        return Line("JetPack", "no release in /etc/nv_tegra_release", "worth knowing")
    major, packages = int(release[1]), machine.output("dpkg-query", "-W", "-f=${Version}", "nvidia-jetpack")
    found = f"{JETPACKS.get(major, 'unknown')}, L4T {major}.{release[2]}, package nvidia-jetpack {packages or 'absent'}"
    if JETPACKS.get(major, 6) < 6:
        return Line("JetPack", f"{found}; its Python is older than 3.10", "missing",
                    "flash JetPack 6 with NVIDIA's SDK Manager")
    return Line("JetPack", found)


def _power(machine: Machine) -> Line:
    mode = power_mode(machine.output("nvpmodel", "-q"))
    if mode is None:
        return Line("power mode", "nvpmodel does not say", "worth knowing", "sudo nvpmodel -q")
    modes = dict(re.findall(r"^< *POWER_MODEL +ID=(\d+) +NAME=(\S+)", machine.text("etc/nvpmodel.conf") or "", re.M))
    whole = next(((number, name) for wanted in WHOLE_POWER for number, name in modes.items() if name == wanted), None)
    if whole is None or mode == whole[1]:
        return Line("power mode", mode)
    return Line("power mode", f"{mode}; {whole[1]} would be faster and hotter", "worth knowing",
                f"sudo nvpmodel -m {whole[0]}")


def _clocks(machine: Machine) -> Line:
    """Of the GPU and the first core; ``jetson_clocks`` answers root alone, then what everybody may read is asked."""
    ranges = _shown_clocks(machine.output("jetson_clocks", "--show") or "") or _files_of_clocks(machine.root)
    if not ranges:
        return Line("clocks", "cannot be read", "worth knowing", "sudo jetson_clocks --show")
    said = ", ".join(f"{name} {_range(lowest, highest)}" for name, (lowest, highest) in ranges.items())
    if all(lowest == highest for lowest, highest in ranges.values()):
        return Line("clocks", f"{said}, locked")
    return Line("clocks", f"{said}; lock them to measure", "worth knowing", "sudo jetson_clocks")


def _shown_clocks(text: str) -> dict[str, tuple[float, float]]:
    """Lowest and highest clock in MHz from lines such as ``GPU MinFreq=306000000 MaxFreq=624750000 ...``."""
    found: dict[str, tuple[float, float]] = {}
    for name, key, per_mhz in (("CPU", "cpu0:", 1e3), ("GPU", "GPU", 1e6)):
        line = re.search(rf"^\s*{key}.*?MinFreq=(\d+) MaxFreq=(\d+)", text, re.MULTILINE)
        if line:
            found[name] = float(line[1]) / per_mhz, float(line[2]) / per_mhz
    return found


def _files_of_clocks(root: Path) -> dict[str, tuple[float, float]]:
    """The same from /sys."""
    cpu = root / "sys/devices/system/cpu/cpu0/cpufreq"
    gpu = next((root / "sys/class/devfreq").glob("*.g*"), root / "no GPU")  # 17000000.gpu, 17000000.ga10b
    places = {"CPU": (cpu / "scaling_min_freq", cpu / "scaling_max_freq", 1e3),
              "GPU": (gpu / "min_freq", gpu / "max_freq", 1e6)}
    read = {name: (number_of(low), number_of(high), per_mhz) for name, (low, high, per_mhz) in places.items()}
    return {name: (low / per_mhz, high / per_mhz) for name, (low, high, per_mhz) in read.items()
            if low is not None and high is not None}


def _range(lowest: float, highest: float) -> str:
    return f"{lowest:.0f} MHz" if lowest == highest else f"{lowest:.0f} to {highest:.0f} MHz"


def _governor(machine: Machine) -> Line | None:
    governor = machine.text("sys/devices/system/cpu/cpu0/cpufreq/scaling_governor")
    if governor is None:
        return None
    if governor == "powersave" and not machine.is_jetson:
        return Line("CPU governor", governor, "worth knowing", "sudo cpupower frequency-set --governor performance")
    return Line("CPU governor", governor)


def _temperature(machine: Machine) -> Line | None:
    hottest = hottest_c(machine.root)
    if hottest is None:
        return None
    if hottest >= HOT_C:
        return Line("temperature", f"{hottest:.0f} C: it slows down soon; give it air", "worth knowing")
    return Line("temperature", f"{hottest:.0f} C")


def _memory(machine: Machine) -> Line | None:
    gb = {name: float(kb) / 1e6 for name, kb in re.findall(r"^(MemTotal|MemAvailable):\s+(\d+) kB",
                                                         machine.text("proc/meminfo") or "", re.MULTILINE)}
    if len(gb) != 2:
        return None
    found = f"{gb['MemAvailable']:.1f} of {gb['MemTotal']:.1f} GB available"
    if gb["MemAvailable"] >= FREE_MEMORY_GB:
        return Line("memory", found)
    return Line("memory", f"{found}; building an engine may fail", "worth knowing",
                "sudo systemctl isolate multi-user.target  # ends the desktop until the next boot")


def _disk(machine: Machine) -> Line | None:
    free = {str(folder): machine.free_bytes(folder) for folder in (Path.cwd(), user_caches())}
    gb = {folder: value / 1e9 for folder, value in free.items() if value is not None}
    if not gb:
        return None
    found = ", ".join(f"{value:.1f} GB free for {folder}" for folder, value in gb.items())
    if min(gb.values()) >= FREE_DISK_GB:
        return Line("disk", found)
    return Line("disk", f"{found}; engines and caches need {FREE_DISK_GB:.0f}", "worth knowing", "sudo apt clean")
