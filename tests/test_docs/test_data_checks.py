"""The faults that the data pages list are those that the checks report."""

from __future__ import annotations

import re

import pytest
from pages import DOCS, ROOT, tables

PACKAGE = ROOT / 'resformer_mm'


@pytest.mark.parametrize(
    ('page', 'task'), [('ade20k', 'segmentation'), ('coco', 'detection'), ('kinetics', 'video')]
)
def test_faults_are_those_of_the_check(page: str, task: str) -> None:
    [table] = [rows for rows in tables(DOCS / 'data' / f'{page}.md') if rows[0][0] == 'fault']
    listed = [fault for row in table[1:] for fault in re.findall('`([^`]+)`', row[0])]
    sources = [*(PACKAGE / 'tasks' / task).glob('*.py'), *(PACKAGE / 'datasets').rglob('*.py')]
    code = ''.join(path.read_text(encoding='utf-8') for path in sources)
    assert len(listed) > 5
    assert not [fault for fault in listed if f"'{fault}'" not in code]
