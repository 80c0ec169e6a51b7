"""The command ``edgekp``: look after data sets and artifacts."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from edgekp.cli import Commands, Parser, add_debug, run
from edgekp.doctor.command import add_to as add_doctor
from edgekp.printable import printable


def add_verify(commands: Commands) -> None:
    verify = commands.add_parser("verify", help="check digests, signature, contract and golden vectors of an artifact")
    verify.add_argument("artifact", type=Path, metavar="ARTIFACT_DIR")
    add_debug(verify)
    verify.set_defaults(command=_verify)


def _verify(arguments: argparse.Namespace) -> int:
    from edgekp.artifact import verify_artifact
    from edgekp.manifest import MANIFEST
    from edgekp.signature import signature_state

    artifact = verify_artifact(arguments.artifact)
    print(printable(f"{arguments.artifact}: {artifact.kind} '{artifact.contract.skeleton.name}', "
                    f"{len(artifact.files)} files with the digests of the manifest, golden vectors reproduced, "
                    f"{signature_state(arguments.artifact / MANIFEST)}"))
    return 0


def add_sign(commands: Commands) -> None:
    sign = commands.add_parser("sign", help="sign artifact folders that you trust with the key of EDGEKP_KEY_FILE",
                               description="Check what 'verify' checks, then sign the manifest. An engine beside it is "
                               "signed where it is built.")
    sign.add_argument("artifacts", type=Path, nargs="+", metavar="ARTIFACT_DIR")
    add_debug(sign)
    sign.set_defaults(command=_sign)


def _sign(arguments: argparse.Namespace) -> int:
    from edgekp.artifact import sign_artifact
    from edgekp.signature import require_key

    key = require_key()
    for folder in arguments.artifacts:
        sign_artifact(folder)
        print(printable(f"{folder}: signed with key {key.id}"))
    return 0


def _add_others(commands: Commands) -> None:
    """Those that need numpy and OpenCV."""
    from edgekp.importers.command import add_to as add_import
    from edgekp.show_command import add_to as add_show

    for add_to in (add_import, add_show, add_verify, add_sign):
        add_to(commands)


def main(argv: Sequence[str] | None = None) -> int:
    parser = Parser(prog="edgekp", description="Look after data sets and artifacts.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    add_doctor(commands)
    try:
        _add_others(commands)
    except ModuleNotFoundError as error:
        print(f"{parser.prog}: {error}; without it only this works: edgekp doctor device", file=sys.stderr)
    return run(lambda arguments: int(arguments.command(arguments)), parser, argv)


if __name__ == "__main__":
    sys.exit(main())
