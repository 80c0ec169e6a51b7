"""Command lines: what all commands share.

Results go to stdout, progress to stderr. Exit 0 done, 1 a gate failed, 2 could not run, 3 a gate is undecided.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from edgekp.errors import EdgekpError, RecipeError

if TYPE_CHECKING:  # recipes are TOML, which Python 3.10 on a device cannot read
    from edgekp.recipe import Recipe

DEFAULT_RECIPE = "recipes/quickstart.toml"

Commands: TypeAlias = "argparse._SubParsersAction[argparse.ArgumentParser]"


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


def input_size(text: str) -> tuple[int, int]:
    """Height and width from ``HxW``, as an argument's type."""
    height, separator, width = text.lower().partition("x")
    if not (separator and height.isdecimal() and width.isdecimal()):
        raise argparse.ArgumentTypeError(f"'{text}', expected height x width in pixels, such as 256x192")
    return int(height), int(width)


def key_values(entries: Sequence[str]) -> dict[str, Any]:
    """Options of a codec from repeated ``--option KEY=VALUE``, the values as TOML reads them.

    Raises:
        RecipeError: An entry without ``=``.
    """
    from edgekp.strict import toml_value

    pairs = [entry.partition("=") for entry in entries]
    if not all(separator for _, separator, _ in pairs):
        raise RecipeError(f"--option {' '.join(entries)}: expected KEY=VALUE, such as sigma=1.5")
    return {key: toml_value(value) for key, _, value in pairs}


def recipe_of(arguments: argparse.Namespace) -> Recipe:
    from edgekp.recipe_file import load_recipe

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
