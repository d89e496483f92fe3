import csv
import json

import pytest
from PIL import Image

from resformer_mm.analysis import ResolutionCurve, format_table, plot_curves, read_curve, write_curves
from resformer_mm.analysis.figures import new_figure
from resformer_mm.analysis.resolution_curves import draw_curves

CURVES = [
    ResolutionCurve('multi', {32: 50.0, 64: 60.25}, trained_on=(64, 32)),
    ResolutionCurve('single', {64: 58.0, 128: 40.0}, trained_on=(64,)),
]


def test_read_curve_takes_one_metric_in_order_of_resolution(tmp_path):
    path = tmp_path / 'metrics.json'
    metrics = {'64/accuracy/top1': 60.0, '32/accuracy/top1': 50, '32/accuracy/top5': 90.0}
    path.write_text(json.dumps({**metrics, 'mean/accuracy/top1': 55.0, 'time': 0.1}))
    curve = read_curve(path, 'model', 'accuracy/top1', (64,))
    assert list(curve.values.items()) == [(32, 50.0), (64, 60.0)]
    assert curve.trained_on == (64,)


def test_read_curve_names_the_file_and_what_it_has(tmp_path):
    path = tmp_path / 'metrics.json'
    path.write_text('{"accuracy/top1": 1.0}')
    with pytest.raises(ValueError, match=r'metrics\.json has no metric RESOLUTION/accuracy/top1; its'):
        read_curve(path, 'model', 'accuracy/top1')


def test_format_table_aligns_and_marks_what_was_trained_on():
    lines = format_table(CURVES).splitlines()
    assert [cell.strip() for cell in lines[0].strip('|').split('|')] == ['model', '32', '64', '128']
    assert [cell.strip() for cell in lines[2].strip('|').split('|')] == ['multi', '50.0*', '60.2*', '']
    assert [cell.strip() for cell in lines[3].strip('|').split('|')] == ['single', '', '58.0*', '40.0']
    assert len({len(line) for line in lines}) == 1


def test_write_csv_has_a_line_per_value(tmp_path):
    write_curves(CURVES, tmp_path / 'out.csv', 'top1')
    with open(tmp_path / 'out.csv', newline='') as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 4
    assert rows[1] == {'model': 'multi', 'trained_on': '64 32', 'test_resolution': '64', 'top1': '60.25'}


def test_plot_curves_writes_a_picture_with_both_lines(tmp_path):
    plot_curves(CURVES, tmp_path / 'out.png', 'top-1 (%)')
    with Image.open(tmp_path / 'out.png') as image:
        colours = {colour for _, colour in image.convert('RGB').getcolors(maxcolors=1 << 20)}
        assert image.width >= 1000
    assert {(31, 119, 180), (255, 127, 14)} <= colours  # the first two of matplotlib's cycle


def test_error_bars():
    figure = new_figure(4, 3)
    axes = figure.add_subplot()
    curves = [ResolutionCurve('a', {32: 10.0, 64: 20.0, 96: 30.0}, (64,), {32: 1.0, 96: 2.5}), CURVES[0]]
    draw_curves(curves, axes, 'top-1 (%)')
    [bars] = axes.containers
    [lines] = bars[2]
    drawn = [[list(end) for end in segment] for segment in lines.get_segments()]
    assert drawn == [[[32, 9], [32, 11]], [[96, 27.5], [96, 32.5]]]
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ['a', CURVES[0].name]
