"""``edgekp show targets``: the arguments; the drawing itself is in show_targets.py."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from edgekp.cli import Commands, add_debug, input_size, key_values
from edgekp.errors import RecipeError
from edgekp.printable import printable

DEFAULT_INPUT_HW = {"openpose": (368, 368)}
FALLBACK_INPUT_HW = (256, 192)


def add_to(commands: Commands) -> None:
    show = commands.add_parser("show", help="pictures of what the pipeline works on")
    subjects = show.add_subparsers(required=True, metavar="SUBJECT")
    targets = subjects.add_parser("targets", help="what the network is asked to learn, as one PNG")
    targets.add_argument("--data", type=Path, required=True, metavar="COCO.json")
    targets.add_argument("--codec", default="heatmap", help="name of the codec (default: %(default)s)")
    targets.add_argument("--option", action="append", default=[], metavar="KEY=VALUE",
                         help="an option of the codec, such as sigma=1.5; may be repeated")
    targets.add_argument("--recipe", type=Path, help="take input, codec and skeleton from a recipe instead")
    targets.add_argument("--input", type=input_size, metavar="HxW",
                         help="size of the network's input (default: 256x192, for openpose 368x368)")
    targets.add_argument("--skeleton", help="name or TOML file (default: the one with the data's keypoint names)")
    targets.add_argument("--images", type=Path, help="folder of the images (default: that of the labels)")
    targets.add_argument("--count", type=int, default=6,
                         help="how many rows, spread over the file (default: %(default)s)")
    targets.add_argument("--out", type=Path, required=True, metavar="PNG")
    add_debug(targets)
    targets.set_defaults(command=show_targets)


def show_targets(arguments: argparse.Namespace) -> int:
    from edgekp.atomic import write_file
    from edgekp.coco import read_coco, skeleton_of
    from edgekp.codecs import SCENE_CODECS
    from edgekp.show_targets import as_png, target_sheet
    from edgekp.skeletons import skeleton_named

    spec, codec, named = _contract_parts(arguments)
    skeleton = skeleton_named(named) if named else skeleton_of(arguments.data)
    instances = read_coco(arguments.data, skeleton, arguments.images).instances
    if arguments.count < 1:
        raise RecipeError(f"--count {arguments.count}: expected 1 or more")
    chosen = instances[::max(1, len(instances) // arguments.count)][:arguments.count]
    if isinstance(codec, tuple(SCENE_CODECS.values())):
        shown = {instance.image.id for instance in chosen}
        chosen = tuple(instance for instance in instances if instance.image.id in shown)
    sheet = target_sheet(chosen, spec, codec, skeleton)
    write_file(arguments.out, as_png(sheet))
    print(printable(f"{arguments.out}: {len(chosen)} of {len(instances)} instances, "
                    f"{sheet.shape[1]} x {sheet.shape[0]} pixels"))
    return 0


def _contract_parts(arguments: argparse.Namespace) -> tuple[Any, Any, str]:
    """Input, codec and the skeleton's name ("" to look it up), from the recipe or from the options."""
    from edgekp.codecs import SCENE_CODECS, build_codec, build_scene_codec
    from edgekp.preprocess import InputSpec
    from edgekp.recipe_file import load_recipe

    if arguments.recipe:
        recipe = load_recipe(arguments.recipe)
        return recipe.input, recipe.build_codec(), arguments.skeleton or recipe.data.skeleton
    input_hw = arguments.input or DEFAULT_INPUT_HW.get(arguments.codec, FALLBACK_INPUT_HW)
    build = build_scene_codec if arguments.codec in SCENE_CODECS else build_codec
    return InputSpec(input_hw), build(arguments.codec, input_hw, key_values(arguments.option)), arguments.skeleton or ""
