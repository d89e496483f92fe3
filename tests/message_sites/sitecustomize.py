"""Records which errors of the package a run raises, and what they say, in all processes that it starts.

    PYTHONPATH=tests/message_sites MESSAGE_LOG=/tmp/messages.jsonl python -m pytest -m ''
    python tests/message_sites/report.py /tmp/messages.jsonl

Python imports this module at its start. It changes the modules of the package and of the tools as they are
imported, or run by ``runpy``: ``raise Error(...)`` becomes ``raise record(Error(...), line)``. Nothing else
is traced, so a run takes as long as usual. A tool that is started as a process of its own is not changed.
"""

from __future__ import annotations

import ast
import json
import os
import sys
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from pathlib import Path
from typing import Any

from sites import ROOT, is_site

LOG = os.environ.get('MESSAGE_LOG')
RECORD = '__record_message__'


def record(path: str, line: int, error: Any) -> Any:
    """Write an error, or the arguments of a usage error, to the log, and return it."""
    text = f'{type(error).__name__}: {error}' if isinstance(error, BaseException) else str(error)
    entry = json.dumps(dict(path=path, line=line, text=text, test=os.environ.get('PYTEST_CURRENT_TEST', '')))
    assert LOG is not None
    descriptor = os.open(LOG, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    try:
        os.write(descriptor, f'{entry}\n'.encode())
    finally:
        os.close(descriptor)
    return error


class _Recorder(ast.NodeTransformer):
    def __init__(self, path: str) -> None:
        self.path = path

    def _recorded(self, node: ast.expr, line: int) -> ast.expr:
        arguments = [ast.Constant(self.path), ast.Constant(line), node]
        return ast.copy_location(ast.Call(ast.Name(RECORD, ast.Load()), arguments, []), node)

    def visit_Raise(self, node: ast.Raise) -> ast.AST:
        self.generic_visit(node)
        if is_site(node):
            assert node.exc is not None
            node.exc = self._recorded(node.exc, node.lineno)
        return node

    def visit_Call(self, node: ast.Call) -> ast.AST:
        self.generic_visit(node)
        if is_site(node) and node.args:
            node.args[0] = self._recorded(node.args[0], node.lineno)
        return node


class _Loader(SourceFileLoader):
    def get_code(self, fullname: str) -> Any:  # never from the cache, never into it
        path = Path(self.path)
        tree = ast.parse(path.read_bytes(), str(path))
        tree = _Recorder(path.relative_to(ROOT).as_posix()).visit(tree)
        return compile(ast.fix_missing_locations(tree), str(path), 'exec', dont_inherit=True)


class _Finder(MetaPathFinder):
    def find_spec(self, fullname: str, path: Any, target: Any = None) -> ModuleSpec | None:
        spec = PathFinder.find_spec(fullname, path, target)
        origin = spec.origin if spec is not None else None
        if origin is None or not origin.endswith('.py'):
            return None
        if not any(Path(origin).is_relative_to(ROOT / folder) for folder in ('resformer_mm', 'tools')):
            return None
        assert spec is not None
        spec.loader = _Loader(fullname, origin)
        return spec


def _code_of_tool(*arguments: str) -> Any:
    found = _code_of_file(*arguments)  # the code; with the name of the file before Python 3.12
    path = Path(arguments[-1]).resolve()
    if not path.is_relative_to(ROOT / 'tools'):
        return found
    code = _Loader('__main__', str(path)).get_code('__main__')
    return (code, *found[1:]) if isinstance(found, tuple) else code


if LOG:
    import builtins
    import runpy

    _code_of_file = runpy._get_code_from_file
    runpy._get_code_from_file = _code_of_tool

    setattr(builtins, RECORD, record)
    sys.meta_path.insert(0, _Finder())
