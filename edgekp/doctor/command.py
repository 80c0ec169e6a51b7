"""``edgekp doctor``: the arguments; what is found, and how, is in the files beside this one."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgekp.cli import Commands, add_debug, input_size, key_values
from edgekp.doctor.device_command import add_to as add_device
from edgekp.errors import DataError, RecipeError

if TYPE_CHECKING:
    from edgekp.doctor.dataset import DataSet, Plan
    from edgekp.doctor.finding import Finding
    from edgekp.skeletons import Skeleton

FALLBACK_INPUT_HW = (256, 192)


def add_to(commands: Commands) -> None:
    doctor = commands.add_parser("doctor", help="what is wrong, what it costs, and how to mend it")
    subjects = doctor.add_subparsers(required=True, metavar="SUBJECT")
    add_device(subjects)
    data = subjects.add_parser("data", help="look through COCO keypoint files and their images",
                               description="Look through COCO keypoint files and their images. Several files are also "
                                           "held against each other. Exit code 1 if there is an error.")
    data.add_argument("labels", type=Path, nargs="+", metavar="COCO.json")
    data.add_argument("--images", type=Path, metavar="DIR", help="folder of the images (default: that of each file)")
    data.add_argument("--skeleton", help="name or TOML file (default: the one with the file's keypoint names)")
    data.add_argument("--no-pixels", action="store_true", help="read the images' headers only, do not decode them")
    data.add_argument("--recipe", type=Path, help="look at the targets that this recipe makes; takes its skeleton too")
    data.add_argument("--codec", help="look at the targets that this codec makes")
    data.add_argument("--option", action="append", default=[], metavar="KEY=VALUE",
                      help="an option of the codec, such as sigma=1.5; may be repeated")
    data.add_argument("--input", type=input_size, metavar="HxW", help="size of the codec's input (default: 256x192)")
    data.add_argument("--fix", type=Path, metavar="OUT.json", help="write a copy in which all that is safe is mended")
    data.add_argument("--html", type=Path, metavar="PAGE.html", help="write the findings as a page with pictures")
    data.add_argument("--json", type=Path, metavar="FILE", help="write the findings as a list of records")
    add_debug(data)
    data.set_defaults(command=examine_data)


def examine_data(arguments: argparse.Namespace) -> int:
    from edgekp.doctor.examine import examine
    from edgekp.doctor.reading import read_sets
    from edgekp.doctor.report import text
    from edgekp.stage import say

    _check_outputs(arguments)
    plan, skeleton = _plan(arguments)
    say(f"reading {', '.join(map(str, arguments.labels))} and the images")
    sets = read_sets(arguments.labels, arguments.images, skeleton, plan, decode=not arguments.no_pixels)
    findings = examine(sets)
    unseen = _unseen(arguments)
    print(text(sets, findings, unseen))
    _write(arguments, sets, findings, unseen)
    return int(any(finding.fault.severity == "error" for finding in findings))


def _check_outputs(arguments: argparse.Namespace) -> None:
    """Refuse to overwrite what is examined, and to mend several files into one."""
    for output in (arguments.fix, arguments.html, arguments.json):
        if output and output.exists() and any(path.exists() and output.samefile(path) for path in arguments.labels):
            raise DataError(f"{output}: is one of the files to look through, which stay as they are; name another file")
    if arguments.fix and len(arguments.labels) > 1:
        raise DataError(f"--fix {arguments.fix}: mends one file at a time, {len(arguments.labels)} are named; name one")


def _plan(arguments: argparse.Namespace) -> tuple[Plan | None, Skeleton | None]:
    """Crop and codec, and the skeleton, as far as the arguments say them."""
    from edgekp.codecs import build_codec
    from edgekp.doctor.dataset import Plan
    from edgekp.preprocess import InputSpec
    from edgekp.recipe_file import load_recipe
    from edgekp.skeletons import skeleton_named

    if arguments.recipe and arguments.codec:
        raise RecipeError("--recipe and --codec: both say which targets are made; name one of them")
    options, input_hw = _codec_options(arguments), arguments.input or FALLBACK_INPUT_HW
    if arguments.recipe:
        recipe = load_recipe(arguments.recipe)
        codec = build_codec(recipe.codec.name, recipe.input.input_hw, recipe.codec.options)
        return Plan(recipe.input, codec), skeleton_named(arguments.skeleton or recipe.data.skeleton)
    skeleton = skeleton_named(arguments.skeleton) if arguments.skeleton else None
    if not arguments.codec:
        return None, skeleton
    return Plan(InputSpec(input_hw), build_codec(arguments.codec, input_hw, options)), skeleton


def _codec_options(arguments: argparse.Namespace) -> dict[str, Any]:
    if (arguments.option or arguments.input) and not arguments.codec:
        raise RecipeError("--option and --input: they belong to a --codec, and none is named; "
                          "name one, or leave them out")
    return key_values(arguments.option)


def _unseen(arguments: argparse.Namespace) -> list[str]:
    """What the arguments leave out, so that silence is not taken for health."""
    pixels = ["pixels (--no-pixels): broken and repeated pictures are not found"] * arguments.no_pixels
    return pixels + ["targets: name a --recipe or a --codec"] * (not arguments.recipe and not arguments.codec)


def _write(arguments: argparse.Namespace, sets: list[DataSet], findings: list[Finding], unseen: list[str]) -> None:
    """The files that were asked for."""
    from edgekp.doctor.fix import mended
    from edgekp.doctor.page import page
    from edgekp.doctor.report import mending, records

    if arguments.json:
        _save(arguments.json, records(findings))
    if arguments.html:
        _save(arguments.html, page(sets, findings, unseen))
    if arguments.fix:
        document, changes = mended(sets[0])
        _save(arguments.fix, json.dumps(document))
        print(mending(arguments.fix, changes))


def _save(path: Path, text: str) -> None:
    from edgekp.atomic import write_file

    try:
        write_file(path, text)
    except OSError as error:
        raise DataError(f"{path}: cannot be written ({error.strerror})") from error
