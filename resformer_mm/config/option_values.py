"""Values of ``--cfg-options``: those of MMEngine, and dicts as a config has them."""

from __future__ import annotations

import argparse
import ast
import re
from collections.abc import Sequence
from typing import Any

from mmengine.config import DictAction

_HAS_DICT = re.compile(r'\s*[\[(\s]*(dict\(|\{)')


class ConfigOptionsAction(DictAction):
    """MMEngine's action, whose values may be dicts, or lists of dicts: ``key="dict(type='Name', size=3)"``.

    MMEngine's own parser recurses without end on the commas of a dict.
    """

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: str | Sequence[Any] | None,
        option_string: str | None = None,
    ) -> None:
        """Add the settings of ``key=value`` words to those of earlier options."""
        plain, parsed = [], {}
        for word in [values] if isinstance(values, str) else values or []:
            key, equals, text = word.partition('=')
            if not equals:
                parser.error(f'{option_string} {word}: give key=value')
            if not _HAS_DICT.match(text):
                plain.append(word)
                continue
            try:
                parsed[key] = parse_literal(text)
            except ValueError as error:
                parser.error(f'{option_string} {key}: {error}')
        super().__call__(parser, namespace, plain, option_string)
        getattr(namespace, self.dest).update(parsed)


def parse_literal(text: str) -> Any:
    """Return the value of a Python literal, in which ``dict(key=value)`` is a dict.

    Raises:
        ValueError: the text is something else.
    """
    try:
        return _value_of(ast.parse(text.strip(), mode='eval').body)
    except (SyntaxError, ValueError, RecursionError):
        raise ValueError(
            f"{text} cannot be read: write dict(type='Name', key=value) with numbers, quoted names, lists, "
            'True, False and None'
        ) from None


def _value_of(node: ast.expr) -> Any:
    if isinstance(node, (ast.List, ast.Tuple)):
        values = [_value_of(item) for item in node.elts]
        return tuple(values) if isinstance(node, ast.Tuple) else values
    if isinstance(node, ast.Dict) and all(node.keys):
        return {ast.literal_eval(key): _value_of(item) for key, item in zip(node.keys, node.values) if key}
    is_dict = isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == 'dict'
    if isinstance(node, ast.Call) and is_dict and not node.args:
        return {item.arg: _value_of(item.value) for item in _named(node.keywords)}
    return ast.literal_eval(node)


def _named(keywords: list[ast.keyword]) -> list[ast.keyword]:
    if any(item.arg is None for item in keywords):
        raise ValueError('**')
    return keywords
