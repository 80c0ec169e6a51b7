"""The names that the real packages have, as api_names.json recorded them; and what turns refusals into their errors."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable
from pathlib import Path
from types import FunctionType
from typing import Any

from tests.deploy.cuda.emulated_gpu import Refused


def recorded_names(module: str) -> dict[str, Any]:
    """Names of the functions, classes and numbers of a module."""
    names: dict[str, Any] = json.loads(Path("tests/deploy/cuda/api_names.json").read_text())
    return names[module]


def guarded(member: Any, answer: Callable[[Refused], Any]) -> Any:
    """A function, or a class with all of its functions, that answers a refusal as its package does."""
    if isinstance(member, FunctionType):
        @functools.wraps(member)
        def call(*arguments: Any, **keywords: Any) -> Any:
            try:
                return member(*arguments, **keywords)
            except Refused as refused:
                return answer(refused)
        return call
    if isinstance(member, type) and not issubclass(member, Exception):
        for name, inner in list(vars(member).items()):
            if isinstance(inner, staticmethod):
                setattr(member, name, staticmethod(guarded(inner.__func__, answer)))
            elif isinstance(inner, FunctionType):
                setattr(member, name, guarded(inner, answer))
    return member
