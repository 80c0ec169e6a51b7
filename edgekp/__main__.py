"""The command ``edgekp``: look after data sets and artifacts."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from edgekp.cli import Commands, add_debug, run
from edgekp.doctor.command import add_to as add_doctor


def add_verify(commands: Commands) -> None:
    verify = commands.add_parser("verify", help="check digests, contract and golden vectors of an artifact folder")
    verify.add_argument("artifact", type=Path, metavar="ARTIFACT_DIR")
    add_debug(verify)
    verify.set_defaults(command=_verify)


def _verify(arguments: argparse.Namespace) -> int:
    from edgekp.artifact import verify_artifact

    artifact = verify_artifact(arguments.artifact)
    print(f"{arguments.artifact}: {artifact.kind} '{artifact.contract.skeleton.name}', "
          f"{len(artifact.files)} files with the digests of the manifest, golden vectors reproduced")
    return 0


def _add_others(commands: Commands) -> None:
    """Those that need numpy and OpenCV."""
    from edgekp.importers.command import add_to as add_import
    from edgekp.show_command import add_to as add_show

    for add_to in (add_import, add_show, add_verify):
        add_to(commands)


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="edgekp", description="Look after data sets and artifacts.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    add_doctor(commands)
    try:
        _add_others(commands)
    except ModuleNotFoundError as error:
        print(f"{parser.prog}: {error}; without it only this works: edgekp doctor device", file=sys.stderr)
    return run(lambda arguments: int(arguments.command(arguments)), parser, argv)


if __name__ == "__main__":
    sys.exit(main())
