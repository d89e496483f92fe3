"""The model zoo agrees with the configs and with the index of MIM."""

from __future__ import annotations

import ast
import re

import pytest
import yaml
from pages import DOCS, ROOT, prose, tables

ZOO = DOCS / 'model_zoo.md'
INDEX = [
    model
    for path in sorted((ROOT / 'configs').glob('*/metafile.yml'))
    for model in yaml.safe_load(path.read_text(encoding='utf-8'))['Models']
]
CONFIGS = {path.stem: path for path in (ROOT / 'configs').rglob('*.py') if '_base_' not in path.parts}
ROWS = [row for table in tables(ZOO) for row in table[1:]]


def config_name(row: list[str]) -> str:
    return re.match(r'`([^`]+)`', row[0])[1]


def millions(parameters: str) -> float:
    """Parameters in millions, of '5,689,192' or '51.7 M'."""
    if parameters.endswith(' M'):
        return float(parameters.removesuffix(' M'))
    return int(parameters.replace(',', '')) / 1e6


def test_every_config_is_listed_and_every_name_is_a_config() -> None:
    listed = set(re.findall(r'`([\w.-]+_8xb[\w.-]+)`', prose(ZOO)))
    assert listed == {name for name in CONFIGS if 'mini' not in name}


@pytest.mark.parametrize('row', ROWS, ids=config_name)
def test_published_figures_are_those_of_the_docstring(row: list[str]) -> None:
    docstring = ast.get_docstring(ast.parse(CONFIGS[config_name(row)].read_text(encoding='utf-8')))
    figures = [cell for cell in row[2:] if cell]
    missing = [figure for figure in figures if not re.search(rf'(?<![\d.]){figure}(?!\d)', docstring)]
    assert not missing
    assert figures or 'no published figure' in docstring.lower()


@pytest.mark.parametrize('entry', INDEX, ids=lambda entry: entry['Name'])
def test_parameters_are_those_of_the_index(entry: dict) -> None:
    assert CONFIGS[entry['Name']] == ROOT / entry['Config']
    [row] = [row for row in ROWS if config_name(row) == entry['Name']]
    assert millions(row[1]) == pytest.approx(entry['Metadata']['Parameters'] / 1e6, abs=0.051)
