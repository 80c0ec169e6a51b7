"""Command lines: what all commands share.

Results go to stdout, progress to stderr. Exit 0 done, 1 a gate failed, 2 could not run, 3 a gate is undecided,
130 stopped by Ctrl-C, 141 nobody reads the results any more (``| head``).
"""

from __future__ import annotations

import argparse
import os
import select
import sys
import traceback
from collections.abc import Callable, Sequence
from contextlib import suppress
from difflib import get_close_matches
from io import TextIOWrapper
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, TypeAlias

from edgekp.address import shown
from edgekp.errors import EdgekpError, RecipeError, of_the_system, unknown_name
from edgekp.printable import printable

if TYPE_CHECKING:  # recipes are TOML, which Python 3.10 on a device cannot read
    from edgekp.recipe import Recipe

DEFAULT_RECIPE = "recipes/quickstart.toml"

Commands: TypeAlias = "argparse._SubParsersAction[Parser]"

PYTORCH_LACKS_MEMORY = ("can't allocate memory", "CUDA out of memory")
STOPPED, UNREAD = 130, 141  # as a shell has it: 128 and the number of the signal, SIGINT or SIGPIPE


class Parser(argparse.ArgumentParser):
    """Names the nearest command or option for one that it does not know; its sub-commands do too.

    No error shows a password in an argument: an address may stand where none is expected.
    """

    _given: Sequence[str] = ()

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        if action.choices is not None and value not in action.choices:
            known = [str(name) for name in action.choices if name]
            raise argparse.ArgumentError(action, unknown_name(
                str(action.metavar or action.dest).lower(), str(value), known))

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> tuple[Any, list[str]]:
        self._given = sys.argv[1:] if args is None else list(args)
        found, unknown = super().parse_known_args(args, namespace)
        if unknown:
            nearest = get_close_matches(unknown[0].partition("=")[0], self._option_string_actions, n=1)
            hint = f"; did you mean '{nearest[0]}'?" if nearest else f"; see {self.prog} --help"
            self.error(f"unrecognized arguments: {' '.join(unknown)}{hint}")
        return found, unknown

    def error(self, message: str) -> NoReturn:
        for argument in self._given:
            message = _without_secrets(argument, message)
        super().error(printable(message))


def stage_parser(prog: str, description: str) -> argparse.ArgumentParser:
    """Options that every stage of the pipeline has."""
    parser = Parser(prog=prog, description=description)
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
    """Exit code of ``main``; an error that a user can mend becomes one line and exit code 2.

    A fault of ours keeps its traceback, and is a 2 as well: 1 says that a gate failed.
    """
    _escape_what_cannot_be_printed()
    try:
        code = _attempt(main, parser, argv)
    except SystemExit as end:  # --help, or arguments that make no sense
        sys.exit(_unwritten(parser.prog) or end.code)
    return _unwritten(parser.prog) or code


def _attempt(main: Callable[[argparse.Namespace], int], parser: argparse.ArgumentParser,
             argv: Sequence[str] | None) -> int:
    arguments = parser.parse_args(argv)
    try:
        return main(arguments)
    except Exception as error:  # what no user can mend is shown whole
        if isinstance(error, BrokenPipeError) and _nobody_reads():
            return UNREAD
        if arguments.debug:
            raise
        sentence = _sentence(error)
        _complain(*[f"{parser.prog}: {sentence}"] if sentence else traceback.format_exc().splitlines())
        return 2
    except KeyboardInterrupt:
        _complain(f"{parser.prog}: stopped")
        return STOPPED


def _complain(*lines: str) -> None:
    """To the standard error, as long as somebody can read it: the exit code says enough."""
    if sys.stderr:  # None where it was closed from the start
        with suppress(OSError):
            print(*map(printable, lines), sep="\n", file=sys.stderr, flush=True)


def _unwritten(prog: str) -> int:
    """The exit code where the standard output does not take the results; else 0."""
    try:
        if sys.stdout:  # None where it was closed from the start
            sys.stdout.flush()
    except OSError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # Python flushes once more at its end
        if isinstance(error, BrokenPipeError):
            return UNREAD
        _complain(f"{prog}: the results cannot be printed: {of_the_system(error)}")
        return 2
    return 0


def _nobody_reads() -> bool:
    """Whether the reader of the standard output is gone; other pipes break too."""
    poll = select.poll()
    poll.register(1, 0)
    return any(event & select.POLLERR for _, event in poll.poll(0))


def _sentence(error: Exception) -> str:
    """What to say of an error that a user can mend; nothing for another."""
    if isinstance(error, MemoryError):
        return f"out of memory ({error}); free some, or lower the batch" if str(error) else "out of memory; free some"
    if isinstance(error, RuntimeError) and any(words in str(error) for words in PYTORCH_LACKS_MEMORY):
        return f"out of memory ({str(error)[:200]}); free some, or lower the batch"
    if isinstance(error, OSError):
        return of_the_system(error)
    return str(error) if isinstance(error, EdgekpError) else ""


def _without_secrets(argument: str, message: str) -> str:
    """A message with what it quotes of an argument as it may be shown: all of it, or its end, as the value in --a=b."""
    for start in range(len(argument)):
        end = argument[start:]
        if "@" not in end and "://" not in end:
            break
        for quoted in (end, repr(end)[1:-1]):
            if quoted in message:
                return message.replace(quoted, shown(end))
    return message


def _escape_what_cannot_be_printed() -> None:
    """A name that the terminal's encoding lacks is no reason to fail; the standard error escapes it anyway."""
    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")
