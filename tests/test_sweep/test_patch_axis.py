"""Sweeps over two axes: pixels and patch sizes."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path

import pytest
from made_up import RESOLUTIONS, made_up_record

from resformer_mm.sweep import Sweep, SweepError, SweepRecord, summarise
from resformer_mm.sweep.page import write_page
from resformer_mm.sweep.tables import format_by_patches, format_rows, table_rows, write_tables

CONFIG = 'configs/classification/resformer-mini_mr-64-48-32_1xb64-30e_mini.py'


def with_patches(record: SweepRecord) -> SweepRecord:
    """The first model at two patch sizes, the smaller one with four times the tokens; not at 32 pixels."""
    first, plain = record.models
    models = []
    for size in (8, 16):
        points = {
            side: replace(point, flops=point.flops / size, tokens=float(side * side // size**2))
            for side, point in first.points.items()
            if (side, size) != (32, 16)
        }
        patches = dict(patches={'patch_size': size}, of_model='sure', points=points)
        models.append(replace(first, name=f'sure, patch {size}', **patches))
    return SweepRecord(record.conditions, [*models, plain])


def test_a_record_with_patches_is_read_again(tmp_path: Path) -> None:
    record = with_patches(made_up_record(tmp_path))
    record.save(tmp_path / 'sweep.json')
    assert SweepRecord.load(tmp_path / 'sweep.json') == record


def test_a_sweep_over_one_axis_is_written_as_before(tmp_path: Path) -> None:
    record = made_up_record(tmp_path)
    record.save(tmp_path / 'sweep.json')
    models = json.loads((tmp_path / 'sweep.json').read_text())['models']
    keys = (
        'name config checkpoint fingerprint trained_on parameters samples points exported runtime file_size'
    )
    assert all(list(model) == keys.split() for model in models)
    points = [point for model in models for point in model['points'].values()]
    assert all(list(point) == ['metrics', 'flops', 'peak_memory', 'latency'] for point in points)
    summary = summarise(record, tmp_path)
    assert not summary.has_patches and format_by_patches(summary) == ''
    assert 'tokens' not in table_rows(summary)[0]
    assert all('patches' not in row for row in summary.as_json()['rows'])
    write_page(summary, tmp_path / 'sweep.html', 'One axis')
    page = (tmp_path / 'sweep.html').read_text()
    assert 'by-patches' not in page and 'fillGrids' not in page and 'has_patches' not in page


def test_tables_by_patches(tmp_path: Path) -> None:
    summary = summarise(with_patches(made_up_record(tmp_path)), tmp_path)
    assert summary.has_patches and len(summary.rows) == 2 * len(RESOLUTIONS) - 1 + len(RESOLUTIONS)
    file, *_ = write_tables(summary, tmp_path)
    with open(file, newline='') as text:
        rows = {(row['model'], row['resolution']): row for row in csv.DictReader(text)}
    row = rows['sure, patch 8', '64']
    assert (row['patch_size'], row['wanted_tokens'], row['tokens']) == ('8', '', '64')
    assert rows['plain', '64']['patch_size'] == '' and float(row['gflops']) == 0.5
    title, head, *lines = format_by_patches(summary).splitlines()
    assert title.startswith('sure: accuracy/top1') and head.split() == 'resolution patch 8 patch 16'.split()
    cells = [line.split() for line in lines]
    assert [line[0] for line in cells] == ['32', '64', '128'] and [len(line) for line in cells] == [4, 7, 7]
    metric = summary.rows[1].metrics['accuracy/top1']
    assert cells[1][1:4] == [f'{metric:.2f}', '(64,', '0.500)']
    assert 'sure, patch 16' in format_rows(summary)


def test_numbers_of_tokens_are_columns_too(tmp_path: Path) -> None:
    record = with_patches(made_up_record(tmp_path))
    for model, tokens in zip(record.models, (64, 16)):
        model.patches = {'tokens': tokens}
    summary = summarise(record, tmp_path)
    assert '64 tokens' in format_by_patches(summary)
    assert table_rows(summary)[0]['wanted_tokens'] == 64 and table_rows(summary)[0]['patch_size'] == ''


@pytest.mark.parametrize(
    ('arguments', 'words'),
    [
        (dict(patch_sizes=[4], tokens=[16]), 'give one of them'),
        (dict(patch_sizes=[4, 4]), '--patch-sizes: different positive'),
        (dict(tokens=[0]), '--tokens: different positive'),
        (dict(patch_sizes=[4, 128]), 'patch 128 is larger than every resolution'),
        (dict(patch_sizes=[4], exported=['a.onnx']), 'does not go with --exported'),
    ],
)
def test_bad_axes(arguments: dict, words: str, tmp_path: Path) -> None:
    with pytest.raises(SweepError, match=words):
        Sweep([(CONFIG, 'a.pth')], tmp_path, resolutions=[32, 64], **arguments)


def test_only_the_first_model_is_measured_at_every_patch_size(tmp_path: Path) -> None:
    models = [(CONFIG, 'a.pth'), (CONFIG, 'b.pth')]
    sweep = Sweep(models, tmp_path, [16, 64], names=['a', 'b'], patch_sizes=[32, 4])
    assert list(sweep.files) == ['a, patch 4', 'a, patch 32', 'b']
    assert sweep.files['a, patch 32'].patches == {'patch_size': 32} and not sweep.files['b'].patches
    assert sweep._resolutions_of == {'a, patch 4': [16, 64], 'a, patch 32': [64], 'b': [16, 64]}


@pytest.mark.slow
def test_the_page_shows_both_axes(tmp_path: Path) -> None:
    from browser import open_browser
    from selenium.webdriver.common.by import By

    summary = summarise(with_patches(made_up_record(tmp_path)), tmp_path)
    write_page(summary, tmp_path / 'sweep.html', 'Two axes')
    with open_browser() as browser:
        browser.get((tmp_path / 'sweep.html').as_uri())
        table = browser.find_element(By.CSS_SELECTOR, '.by-patches')
        rows = [
            [cell.text for cell in row.find_elements(By.TAG_NAME, 'td')]
            for row in table.find_elements(By.CSS_SELECTOR, 'tbody tr')
        ]
        assert [row[0] for row in rows] == ['32', '64', '128']
        assert rows[0][2] == '' and '64' in rows[1][1]
        assert [entry for entry in browser.get_log('browser') if entry['level'] == 'SEVERE'] == []
