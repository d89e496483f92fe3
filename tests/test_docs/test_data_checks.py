"""The faults that the data pages list are those that the checks report."""

from __future__ import annotations

import ast
import re

import pytest
from pages import DOCS, ROOT, tables

PACKAGE = ROOT / 'resformer_mm'


@pytest.mark.parametrize(
    ('page', 'task'),
    [
        ('ade20k', 'segmentation'),
        ('coco', 'detection'),
        ('imagenet', 'classification'),
        ('kinetics', 'video'),
    ],
)
def test_faults_are_those_of_the_check(page: str, task: str) -> None:
    [table] = [rows for rows in tables(DOCS / 'data' / f'{page}.md') if rows[0][0] == 'fault']
    listed = [fault for row in table[1:] for fault in re.findall('`([^`]+)`', row[0])]
    sources = [*(PACKAGE / 'tasks' / task).glob('*.py'), *(PACKAGE / 'datasets').rglob('*.py')]
    code = ''.join(path.read_text(encoding='utf-8') for path in sources)
    assert len(listed) > 5
    assert not [fault for fault in listed if f"'{fault}'" not in code]


def texts(node: ast.AST | None) -> list[str]:
    """Text of a constant or of an f-string, with `...` for what differs."""
    if isinstance(node, ast.JoinedStr):
        return [''.join(part.value if isinstance(part, ast.Constant) else '...' for part in node.values)]
    return [node.value] if isinstance(node, ast.Constant) and isinstance(node.value, str) else []


def repairs_in_code() -> set[str]:
    """What the package repairs: texts of calls, and of the tables of kinds of `tasks/detection`."""
    found: set[str] = set()
    for path in PACKAGE.rglob('*.py'):
        tree = ast.parse(path.read_text(encoding='utf-8'))
        for node in ast.walk(tree):
            if isinstance(node, ast.Call) and getattr(node.func, 'id', '') in ('repair', 'Repair'):
                found.update(text for argument in node.args[-3:2] for text in texts(argument) if ': ' in text)
            if path.name in ('repairing.py', 'file_names.py', 'fixing.py'):
                tables = node.keys if isinstance(node, ast.Dict) else []
                named = [node.value] if isinstance(getattr(node, 'value', None), ast.Constant) else []
                named = named if isinstance(node, ast.Assign) else []
                found.update(text for entry in (*tables, *named) for text in texts(entry) if ': ' in text)
    return found


def test_repairs_are_those_of_the_code() -> None:
    [table] = [rows for rows in tables(DOCS / 'data.md') if rows[0][-1] == 'repair']
    assert {row[-1] for row in table[1:]} == repairs_in_code()
