"""``edgekp import``: the arguments, and the way from a reader to a COCO file with a line on what came along."""

from __future__ import annotations

import argparse
import json
import math
from collections import Counter
from pathlib import Path
from typing import Any

from edgekp.atomic import write_file
from edgekp.cli import Commands, add_debug
from edgekp.errors import DataError
from edgekp.importers import FORMATS
from edgekp.importers.found import Format, Reading, Wanted
from edgekp.importers.to_coco import coco_document, default_box_factor
from edgekp.printable import printable
from edgekp.skeletons import skeleton_named
from edgekp.stage import say

# Of a format's reader: name of the argument -> flag, and what argparse should know about it.
OPTIONS: dict[str, dict[str, tuple[str, dict[str, Any]]]] = {
    "via": {
        "keypoint_attribute": ("--keypoint-attribute", {
            "default": "keypoint", "metavar": "NAME",
            "help": "region attribute that names a point's keypoint (default: %(default)s)"}),
        "instance_attribute": ("--instance-attribute", {
            "default": "instance", "metavar": "NAME",
            "help": "region attribute that tells instances apart (default: %(default)s)"})},
    "cvat": {"label": ("--label", {"default": "", "metavar": "NAME", "help": "take only skeletons of this label"})},
    "yolo-pose": {"class_number": ("--class", {
        "type": int, "metavar": "NUMBER", "help": "take only this class (default: the only one there is)"})},
}


def add_to(commands: Commands) -> None:
    parser = commands.add_parser("import", help="labels of other tools and data sets as COCO keypoints")
    formats = parser.add_subparsers(required=True, metavar="FORMAT", dest="format")
    for name, kind in FORMATS.items():
        _add_format(formats, name, kind)


def _add_format(formats: Commands, name: str, kind: Format) -> None:
    parser = formats.add_parser(name, help=kind.source)
    parser.add_argument("source", type=Path, metavar="SRC", help=kind.source)
    parser.add_argument("--out", type=Path, required=True, metavar="COCO.json", help="where to write")
    parser.add_argument("--images", type=Path, metavar="DIR",
                        help="folder of the images (default: where the format keeps them)")
    if not kind.one_skeleton:
        default = f" (default: {kind.skeleton})" if kind.skeleton else ""
        parser.add_argument("--skeleton", required=not kind.skeleton, metavar="NAME|FILE.toml",
                            help=f"set of keypoints{default}")
    parser.add_argument("--first-pixel", type=_number, default=kind.first_pixel, metavar="X",
                        help="coordinate that SRC gives to the centre of the first pixel, which is 0 in COCO; it is "
                             "subtracted (default: %(default)s)")
    if not kind.has_boxes:
        parser.add_argument("--box-factor", type=_factor, metavar="F", help="where SRC has no box: that of the "
                            "keypoints, enlarged by this (default: 1.25, for faces 1)")
    for destination, (flag, settings) in OPTIONS.get(name, {}).items():
        parser.add_argument(flag, dest=destination, **settings)
    add_debug(parser)
    parser.set_defaults(command=import_labels, skeleton=kind.skeleton, box_factor=None)


def import_labels(arguments: argparse.Namespace) -> int:
    """Read, convert, write, and say what came along and what did not."""
    for path in (arguments.source, arguments.images):
        if path and not path.exists():
            raise DataError(f"{path}: no such file or folder")
    kind, skeleton = FORMATS[arguments.format], skeleton_named(arguments.skeleton)
    options = {name: getattr(arguments, name) for name in OPTIONS.get(arguments.format, {})}
    reading = kind.read(arguments.source, Wanted(skeleton, arguments.images, arguments.first_pixel), **options)
    prefix = _from_out_to(reading.images, arguments.out)
    document = coco_document(reading, skeleton, arguments.box_factor or default_box_factor(skeleton),
                             prefix=prefix or "", refuse_turned=kind.shown_upright)
    document = {"info": {"format": arguments.format, "first_pixel": arguments.first_pixel}, **document}
    try:
        write_file(arguments.out, json.dumps(document, allow_nan=False) + "\n")
    except OSError as error:
        raise DataError(f"{arguments.out}: cannot be written ({error.strerror})") from error
    _tell(reading, document)
    if prefix is None:
        say(f"import: the images are elsewhere; name their folder in the recipe: images = \"{reading.images}\"")
    print(printable(f"{arguments.out}: {len(document['images'])} images, {len(document['annotations'])} instances of "
                    f"{len(skeleton)} keypoints ('{skeleton.name}')"))
    return 0


def _from_out_to(images: Path, out: Path) -> str | None:
    """What goes before a file name to find it from the written file's folder; None where the images are not below."""
    folder, base = images.resolve(), out.resolve().parent
    if not folder.is_relative_to(base):
        return None
    return "" if folder == base else f"{folder.relative_to(base).as_posix()}/"


def _tell(reading: Reading, document: dict[str, Any]) -> None:
    visibility = Counter(v for entry in document["annotations"] for v in entry["keypoints"][2::3])
    boxes = Counter(entry["bbox_source"] for entry in document["annotations"])
    say(f"import: {visibility[1] + visibility[2]} keypoints labelled, {visibility[1]} of them hidden; {visibility[0]} "
        f"not; boxes: {', '.join(f'{count} from {source}' for source, count in boxes.items())}")
    left_out = [f"{count} {what}" for what, count in reading.left_out.items() if count]
    if left_out:
        say(f"import: left out: {', '.join(left_out)}")
    for note in reading.notes:
        say(f"import: {note}")


def _number(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise argparse.ArgumentTypeError(f"'{text}', expected a number")
    return value


def _factor(text: str) -> float:
    value = _number(text)
    if value <= 0:
        raise argparse.ArgumentTypeError(f"'{text}', expected a number above 0")
    return value
