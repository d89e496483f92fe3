"""Places of the package that raise an error of its own, or end a tool with a usage error."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]
FOLDERS = ('resformer_mm', 'tools')


class Site(NamedTuple):
    """A place: path relative to the clone, line, type of the error, and source of its message."""

    path: str
    line: int
    error: str
    message: str


def is_site(node: ast.AST) -> bool:
    """Return whether a node raises a new error, or calls the ``error`` of an argument parser."""
    if isinstance(node, ast.Raise):
        return isinstance(node.exc, ast.Call)
    return (
        isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr == 'error'
        and 'parser' in ast.unparse(node.func.value)
    )


def sites() -> Iterator[Site]:
    """Yield the places of the package and the tools."""
    for folder in FOLDERS:
        for path in sorted((ROOT / folder).rglob('*.py')):
            for node in ast.walk(ast.parse(path.read_text(encoding='utf-8'))):
                if is_site(node):
                    call = node.exc if isinstance(node, ast.Raise) else node
                    assert isinstance(call, ast.Call)
                    message = ', '.join(ast.unparse(argument) for argument in call.args)
                    name = path.relative_to(ROOT).as_posix()
                    yield Site(name, node.lineno, ast.unparse(call.func), message)
