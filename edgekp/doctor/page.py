"""The findings as one HTML page that needs no other file: what, why, how to mend it, and pictures of the examples."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from edgekp.doctor.dataset import DataSet
from edgekp.doctor.drawing import BOX_RGB, COLORS_RGB, thumbnail_uri
from edgekp.doctor.finding import Example, Finding
from edgekp.doctor.report import verdict
from edgekp.doctor.summary import summary_of

TEMPLATE = "page.html"


def page(sets: Sequence[DataSet], findings: Sequence[Finding], unseen: Sequence[str]) -> str:
    """The whole page.

    Args:
        unseen: what was not looked at, a line each.
    """
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    pages = Environment(loader=FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=StrictUndefined,
                        trim_blocks=True, lstrip_blocks=True)
    illustrated = [(finding, [(example, _pictures(example)) for example in finding.examples]) for finding in findings]
    return pages.get_template(TEMPLATE).render(
        sets=[summary_of(data) for data in sets], findings=illustrated, verdict=verdict(findings), unseen=unseen,
        colors={**COLORS_RGB, "box": BOX_RGB})


def _pictures(example: Example) -> list[str]:
    """Data URIs of what there is to see."""
    return [uri for shot in example.shots if (uri := thumbnail_uri(shot))]
