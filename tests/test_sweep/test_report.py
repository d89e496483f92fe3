"""Summary, tables, picture and page of a made-up sweep; the page in a real browser."""

from __future__ import annotations

import csv
import math
from pathlib import Path

import pytest
from browser import open_browser, requested_urls
from made_up import RESOLUTIONS, SAMPLES, made_up_record
from PIL import Image

from resformer_mm.cascade import apply_rule, load_outcomes
from resformer_mm.sweep import Point, SweepRecord, outcome_path, summarise
from resformer_mm.sweep.page import write_page
from resformer_mm.sweep.picture import draw_picture
from resformer_mm.sweep.tables import format_rows, table_rows, write_tables


@pytest.fixture(scope='module')
def swept(tmp_path_factory):
    folder = tmp_path_factory.mktemp('sweep')
    return folder, summarise(made_up_record(folder), folder)


def test_rows_say_what_was_measured(swept) -> None:
    _, summary = swept
    assert [(row.model, row.resolution) for row in summary.rows[:3]] == [
        ('<b>sure</b>', r) for r in RESOLUTIONS
    ]
    row = summary.rows[1]
    assert (row.trained, row.gflops, row.memory_mib, row.parameters) == (True, 4.0, 4.0, 1_000_000)
    assert [row.latency_ms, row.latency_low, row.latency_high] == pytest.approx([8.0, 7.2, 8.8])
    part = row.metrics['accuracy/top1'] / 100
    assert row.errors == {'accuracy/top1': pytest.approx(100 * math.sqrt(part * (1 - part) / SAMPLES))}
    assert summary.rows[4].errors == {}
    assert summary.metrics == ['accuracy/top1', 'accuracy/top5']


def test_cascades_stand_beside_the_model_with_outcomes(swept) -> None:
    folder, summary = swept
    assert {row.model for row in summary.cascades} == {'<b>sure</b>'}
    assert {row.cost_name for row in summary.cascades} == {'latency_ms', 'gflops'}
    assert any('plain: no cascade' in note for note in summary.notes)
    paths = {r: outcome_path(folder, '<b>sure</b>', r) for r in RESOLUTIONS}
    outcomes = load_outcomes(paths, dict(zip(RESOLUTIONS, (1.0, 4.0, 16.0))))
    for row in summary.cascades:
        if row.cost_name == 'gflops':
            operation = apply_rule(row.rule, outcomes)
            assert (row.value, row.cost) == pytest.approx(
                (100 * operation.accuracy, operation.cost), rel=0.15
            )
    # Confidence is perfect here: a cascade comes close to the largest resolution at a fraction of its cost.
    best = max(row.metrics['accuracy/top1'] for row in summary.rows)
    close = [row for row in summary.cascades if row.cost_name == 'gflops' and row.value >= best - 2]
    assert min(row.cost for row in close) < 14


def test_unfinished_points_are_left_out_and_named(tmp_path) -> None:
    record = made_up_record(tmp_path)
    record.models[1].points[256] = Point({'accuracy/top1': 1.0, 'accuracy/top5': 2.0})
    summary = summarise(record, tmp_path)
    assert 256 not in [row.resolution for row in summary.rows]
    assert any('plain: not measured completely at [256]' in note for note in summary.notes)


def test_choosing_the_metric(tmp_path) -> None:
    record = made_up_record(tmp_path)
    assert summarise(record, tmp_path, 'accuracy/top5').metrics[0] == 'accuracy/top5'
    with pytest.raises(ValueError, match=r'--metric mIoU.*accuracy/top1'):
        summarise(record, tmp_path, 'mIoU')


def with_errors(record: SweepRecord) -> SweepRecord:
    """Put an error first, which falls where the accuracy rises."""
    for model in record.models:
        for point in model.points.values():
            point.metrics = {'rmse': 100 - point.metrics['accuracy/top1'], **point.metrics}
    return record


def test_metrics_that_are_better_the_lower_they_are(tmp_path) -> None:
    record = with_errors(made_up_record(tmp_path))
    summary = summarise(record, tmp_path)
    assert summary.lower_is_better == ['rmse']
    for cost in ('latency_ms', 'gflops'):
        assert summary.front('rmse', cost) == summary.front('accuracy/top1', cost)
    assert len(summary.front('accuracy/top1', 'gflops')) == len(RESOLUTIONS)
    summary = summarise(record, tmp_path, lower_is_better=['*/top5'])
    assert summary.lower_is_better == ['rmse', 'accuracy/top5']
    assert summary.front('accuracy/top5', 'gflops') == [0]
    with pytest.raises(ValueError, match=r'--lower-is-better mIoU.*accuracy/top1'):
        summarise(record, tmp_path, lower_is_better=['mIoU'])


def test_tables(swept, tmp_path) -> None:
    _, summary = swept
    points, cascades = write_tables(summary, tmp_path)
    with open(points, newline='') as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 6
    assert (rows[1]['resolution'], rows[1]['gflops'], rows[1]['latency_ms']) == ('64', '4.0000', '8.000')
    assert rows[0]['device'] == 'abacus'
    with open(cascades, newline='') as file:
        assert len(list(csv.DictReader(file))) == len(summary.cascades)
    text = format_rows(summary).splitlines()
    assert len(text) == 7
    assert '1.000*' in text[1] and '*' not in text[5]  # the second model is beaten everywhere


@pytest.mark.slow
def test_picture(swept, tmp_path) -> None:
    draw_picture(swept[1], tmp_path / 'sweep.png')
    with Image.open(tmp_path / 'sweep.png') as image:
        colours = {colour for _, colour in image.convert('RGB').getcolors(maxcolors=1 << 20)}
    assert {(31, 119, 180), (255, 127, 14), (204, 204, 204)} <= colours  # two models and the front


@pytest.mark.slow
def test_the_page_recommends_for_a_budget(swept, tmp_path) -> None:
    from selenium.webdriver.common.by import By
    from selenium.webdriver.support.ui import Select

    summary = swept[1]
    path = tmp_path / 'sweep.html'
    write_page(summary, path, 'A </script> sweep')
    with open_browser() as browser:

        def advice(kind: str, value: str, model: str = '') -> str:
            Select(browser.find_element(By.ID, 'model')).select_by_value(model)
            Select(browser.find_element(By.ID, 'kind')).select_by_value(kind)
            field = browser.find_element(By.ID, 'value')
            field.clear()
            field.send_keys(value)
            return browser.find_element(By.ID, 'recommendation').text

        def chosen() -> list[str]:
            return [line.text for line in browser.find_elements(By.CSS_SELECTOR, 'tr.chosen')]

        def column(index: int) -> list[str]:
            cells = browser.find_elements(By.CSS_SELECTOR, f'#points tbody td:nth-child({index})')
            return [cell.text for cell in cells]

        browser.get(path.as_uri())
        assert browser.find_element(By.TAG_NAME, 'h1').text == 'A </script> sweep'
        assert browser.find_element(By.ID, 'recommendation').text == 'Type a budget.'
        assert len(browser.find_elements(By.CSS_SELECTOR, '.chart .main-svg')) >= 2

        # A memory budget: cascades have none of their own, so the best single resolution within it.
        text = advice('memory_mib', '5')
        assert text.startswith('Deploy <b>sure</b>, at 64 pixels: accuracy/top1')
        assert [line.split()[:2] for line in chosen()] == [['<b>sure</b>', '64']]
        assert advice('memory_mib', '5', model='plain').startswith('Deploy plain, at 64 pixels')
        assert advice('memory_mib', '0.5') == 'Nothing meets this budget: the cheapest needs 1.'

        # Operations: the best of all cascades and single resolutions within the budget.
        text = advice('gflops', '8')
        within = [row for row in summary.cascades if row.cost_name == 'gflops' and row.cost <= 8]
        best = max(within, key=lambda row: (row.value, -row.cost))
        assert 'cascade over ' + ', '.join(map(str, best.rule.resolutions)) in text
        assert f'accuracy/top1 {best.value:.4g}' in text
        assert browser.find_element(By.ID, 'cost').get_attribute('value') == 'gflops'  # the chart follows
        assert f'thresholds={best.rule.as_config()["thresholds"]}' in text
        assert 'Best single resolution: <b>sure</b>, at 64 pixels' in text

        # Accuracy: the cheapest that reaches it, by the chosen cost.
        target = summary.rows[4].metrics['accuracy/top1']
        text = advice('metric', f'{target}', model='plain')
        assert text.startswith('Deploy plain, at 64 pixels') and not chosen()[0].startswith('<b>')
        assert 'the best reaches' in advice('metric', '100.5')

        # The table sorts by any column, both ways.
        header = browser.find_elements(By.CSS_SELECTOR, '#points th button')[2]
        header.click()
        rising = [float(text) for text in column(3)]
        browser.find_elements(By.CSS_SELECTOR, '#points th button')[2].click()
        falling = [float(text) for text in column(3)]
        assert rising == sorted(rising) and falling == rising[::-1] and len(set(rising)) > 1

        assert requested_urls(browser, foreign=True) == []
        assert [entry for entry in browser.get_log('browser') if entry['level'] == 'SEVERE'] == []


@pytest.mark.slow
def test_the_page_recommends_the_lowest_error(tmp_path) -> None:
    from selenium.webdriver.common.by import By
    from selenium.webdriver.support.ui import Select

    summary = summarise(with_errors(made_up_record(tmp_path)), tmp_path)
    write_page(summary, tmp_path / 'sweep.html', 'Errors')
    rows = [row for row in summary.rows if row.model == 'plain']
    with open_browser() as browser:

        def advice(kind: str, value: float) -> str:
            Select(browser.find_element(By.ID, 'model')).select_by_value('plain')
            Select(browser.find_element(By.ID, 'kind')).select_by_value(kind)
            field = browser.find_element(By.ID, 'value')
            field.clear()
            field.send_keys(str(value))
            return browser.find_element(By.ID, 'recommendation').text

        browser.get((tmp_path / 'sweep.html').as_uri())
        assert Select(browser.find_element(By.ID, 'kind')).options[-1].text == 'metric, at most'
        # Within the cost the lowest error; for an error the cheapest that is no higher.
        assert advice('memory_mib', 5).startswith(
            f'Deploy plain, at 64 pixels: rmse {rows[1].metrics["rmse"]:.4g}'
        )
        assert advice('metric', rows[1].metrics['rmse']).startswith('Deploy plain, at 64 pixels')
        best = min(row.metrics['rmse'] for row in rows)
        assert f'the best reaches {best:.4g}' in advice('metric', best / 2)
        Select(browser.find_element(By.ID, 'metric')).select_by_value('accuracy/top1')
        assert Select(browser.find_element(By.ID, 'kind')).options[-1].text == 'metric, at least'


def test_files_without_a_figure_of_memory_are_left_out_of_its_front(tmp_path: Path) -> None:
    record = made_up_record(tmp_path)
    exported = record.models[1]
    exported.exported, exported.runtime, exported.file_size = 'a.onnx', 'runtime 1', 3 * 2**20
    for point in exported.points.values():
        point.metrics['accuracy/top1'] = 99.0
        point.peak_memory = None
    record.save(tmp_path / 'sweep.json')
    assert SweepRecord.load(tmp_path / 'sweep.json') == record
    summary = summarise(record, tmp_path)
    assert len(summary.rows) == 6 and [row.file_mib for row in summary.rows[3:]] == [3.0] * 3
    assert summary.front('accuracy/top1', 'memory_mib') == [0, 1, 2]
    assert summary.front('accuracy/top1', 'latency_ms') == [3]
    assert any('a.onnx in runtime 1' in note for note in summary.notes)
    rows = table_rows(summary)
    assert [row['peak_memory_mib'] == '' for row in rows] == [False] * 3 + [True] * 3
    assert [row['file_mib'] for row in rows] == [''] * 3 + ['3.00'] * 3
