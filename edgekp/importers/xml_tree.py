"""XML as a tree that remembers its lines. A document type is refused: entities could blow up or read other files."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import NoReturn
from xml.parsers import expat

from edgekp.errors import DataError
from edgekp.plain_file import read_plain

LARGEST_BYTES = 1 << 30
DEEPEST = 32


@dataclass
class Node:
    """An element without its text."""

    tag: str
    line: int
    attributes: dict[str, str]
    children: list[Node] = field(default_factory=list)


def read_xml(path: Path) -> Node:
    """The root element of a file.

    Raises:
        DataError: No such file, broken XML, one with a document type, or one too large or nested too deeply.
    """
    try:
        data = read_plain(path, LARGEST_BYTES)
    except FileNotFoundError:
        raise DataError(f"{path}: no such file") from None
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from error
    parser = expat.ParserCreate()
    top = Node("", 0, {})
    open_nodes = [top]

    def start(tag: str, attributes: dict[str, str]) -> None:
        if len(open_nodes) > DEEPEST:
            raise DataError(f"{path}: line {parser.CurrentLineNumber}: elements nested deeper than {DEEPEST}; "
                            "label files have 5")
        node = Node(tag, parser.CurrentLineNumber, attributes)
        open_nodes[-1].children.append(node)
        open_nodes.append(node)

    def refuse(*_: object) -> NoReturn:
        raise DataError(f"{path}: line {parser.CurrentLineNumber}: a document type; label files have none, "
                        "and its entities may be harmful")

    parser.StartElementHandler = start
    parser.EndElementHandler = lambda _: open_nodes.pop()
    parser.StartDoctypeDeclHandler = refuse
    try:
        parser.Parse(data, True)
    except expat.ExpatError as error:
        raise DataError(f"{path}: broken XML at line {error.lineno}: {expat.ErrorString(error.code)}; "
                        "export the file again") from error
    except (ValueError, LookupError) as error:
        raise DataError(f"{path}: in an encoding that cannot be read ({error}); expected UTF-8") from error
    return top.children[0]
