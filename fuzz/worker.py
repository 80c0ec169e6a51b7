"""One process that fuzzes one target for some seconds; ``fuzz.__main__`` starts it. Knows nothing of minutes kept.

libFuzzer, inside atheris, chooses the inputs by what they reach. It ends the process where a hang or a crash is in C,
and leaves the input beside the findings.
"""

from __future__ import annotations

import sys
import tempfile
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from random import Random

import atheris

from fuzz.attempt import LONGEST_BYTES, attempt, memory_limit
from fuzz.mutate import mutated
from fuzz.target import load_target

INSTRUMENTED = ["edgekp", "eval", "deploy", "train", "tomllib"]
COMPILED = ["edgekp.codecs.gaussian_kernel", "edgekp.codecs.openpose_kernel"]  # numba refuses instrumented functions
LONGEST_IN_C_S = 20  # real time, and on a busy machine
SHARE_OF_OURS = 0.5  # of the mutations; the rest are libFuzzer's


def main() -> None:
    name, corpus, findings, seconds = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]), int(sys.argv[4])
    with atheris.instrument_imports(include=INSTRUMENTED, exclude=COMPILED):
        target = load_target(name)
    with tempfile.TemporaryDirectory(dir=_memory_disk()) as scratch, memory_limit():
        work, seeds, words = (Path(scratch) / part for part in ("work", "seeds", "words"))
        work.mkdir()
        seeds.mkdir()
        for number, seed in enumerate(target.seeds):
            (seeds / str(number)).write_bytes(seed)
        words.write_text("".join(f'"{_escaped(word)}"\n' for word in target.words), encoding="ascii")
        read = target.reader(work)

        def test_one_input(data: bytes) -> None:
            finding = attempt(read, data)
            if finding and not (findings / finding.key).exists():
                (findings / finding.key).write_bytes(data)
                (findings / f"{finding.key}.txt").write_text(finding.story, encoding="utf-8", errors="replace")

        def mutate(data: bytes, longest: int, seed: int) -> bytes:
            rng = Random(seed)
            if rng.random() < SHARE_OF_OURS:
                return mutated(target, data, rng, longest)
            return bytes(atheris.Mutate(data, longest))

        with Path("/dev/null").open("w", encoding="ascii") as nowhere, redirect_stdout(nowhere), \
                redirect_stderr(nowhere):  # what the parsers say; libFuzzer writes to the descriptor itself
            atheris.Setup(["fuzz", str(corpus), str(seeds), f"-dict={words}", f"-max_total_time={seconds}",
                           f"-max_len={LONGEST_BYTES}", f"-timeout={LONGEST_IN_C_S}", "-rss_limit_mb=3072",
                           f"-artifact_prefix={findings}/in-c-", "-print_final_stats=1"],
                          test_one_input, custom_mutator=mutate)
            atheris.Fuzz()


def _memory_disk() -> str | None:
    return "/dev/shm" if Path("/dev/shm").is_dir() else None


def _escaped(word: bytes) -> str:
    return "".join(f"\\x{byte:02X}" for byte in word)


if __name__ == "__main__":
    main()
