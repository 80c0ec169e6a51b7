"""Command lines: what all commands share, and the command ``edgekp`` itself.

Results go to stdout, progress to stderr. Exit 0 done, 1 a gate failed, 2 could not run, 3 a gate is undecided.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from edgekp.artifact import verify_artifact
from edgekp.errors import EdgekpError
from edgekp.recipe import Recipe, load_recipe

DEFAULT_RECIPE = "recipes/quickstart.toml"


def stage_parser(prog: str, description: str) -> argparse.ArgumentParser:
    """Options that every stage of the pipeline has."""
    parser = argparse.ArgumentParser(prog=prog, description=description)
    parser.add_argument("--recipe", type=Path, default=Path(DEFAULT_RECIPE), help="TOML recipe (default: %(default)s)")
    parser.add_argument("--set", dest="overrides", action="append", default=[], metavar="SECTION.KEY=VALUE",
                        help="change one setting of the recipe; may be repeated")
    parser.add_argument("--force", action="store_true", help="run even if the result is up to date")
    add_debug(parser)
    return parser


def add_debug(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")


def recipe_of(arguments: argparse.Namespace) -> Recipe:
    return load_recipe(arguments.recipe, arguments.overrides)


def run(main: Callable[[argparse.Namespace], int], parser: argparse.ArgumentParser,
        argv: Sequence[str] | None = None) -> int:
    """Exit code of ``main``; an error that a user can mend becomes one line and exit code 2."""
    arguments = parser.parse_args(argv)
    try:
        return main(arguments)
    except EdgekpError as error:
        if arguments.debug:
            raise
        print(f"{parser.prog}: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"{parser.prog}: stopped", file=sys.stderr)
        return 130


def _verify(arguments: argparse.Namespace) -> int:
    artifact = verify_artifact(arguments.artifact)
    print(f"{arguments.artifact}: {artifact.kind} '{artifact.contract.skeleton.name}', "
          f"{len(artifact.files)} files with the digests of the manifest, golden vectors reproduced")
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="edgekp", description="Look after data sets and artifacts.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    verify = commands.add_parser("verify", help="check digests, contract and golden vectors of an artifact folder")
    verify.add_argument("artifact", type=Path, metavar="ARTIFACT_DIR")
    add_debug(verify)
    verify.set_defaults(command=_verify)
    return run(lambda arguments: int(arguments.command(arguments)), parser, argv)


if __name__ == "__main__":
    sys.exit(main())
