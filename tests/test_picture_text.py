"""Names in pictures: one line, literal, in a font that has the characters."""

from __future__ import annotations

from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib import font_manager

from resformer_mm import picture_text, repairs
from resformer_mm.analysis.browsing import BrowsedSample
from resformer_mm.analysis.sample_pictures import draw_copies
from resformer_mm.picture_text import font, font_file, literal_figure, literal_text, one_line

CHINESE = '\u72d7'


@pytest.fixture(autouse=True)
def told(monkeypatch) -> list[str]:
    """What is told, with no font searched before."""
    texts: list[str] = []
    monkeypatch.setattr(repairs, '_told', set())
    monkeypatch.setattr(repairs, 'print_log', lambda text, **kwargs: texts.append(text))
    picture_text._best_font.cache_clear()
    yield texts
    picture_text._best_font.cache_clear()


@pytest.fixture
def chinese_font(tmp_path: Path, monkeypatch) -> str:
    """A font with the letter x and one Chinese character, a square."""
    fonts = pytest.importorskip('fontTools.fontBuilder')
    pens = pytest.importorskip('fontTools.pens.ttGlyphPen')
    pen = pens.TTGlyphPen(None)
    for number, point in enumerate(((0, 0), (0, 900), (900, 900), (900, 0))):
        (pen.lineTo if number else pen.moveTo)(point)
    pen.closePath()
    square = pen.glyph()
    names = ['.notdef', 'x', 'dog']
    builder = fonts.FontBuilder(1000, isTTF=True)
    builder.setupGlyphOrder(names)
    builder.setupCharacterMap({ord('x'): 'x', ord(CHINESE): 'dog'})
    builder.setupGlyf(dict.fromkeys(names, square))
    builder.setupHorizontalMetrics(dict.fromkeys(names, (1000, 0)))
    builder.setupHorizontalHeader(ascent=900, descent=-100)
    builder.setupNameTable(dict(familyName='Made Up', styleName='Regular'))
    builder.setupOS2()
    builder.setupPost()
    path = tmp_path / 'made_up.ttf'
    builder.save(path)
    entries = [*font_manager.fontManager.ttflist, font_manager.FontEntry(fname=str(path), name='Made Up')]
    monkeypatch.setattr(font_manager.fontManager, 'ttflist', entries)
    return str(path)


def drawn(text: str) -> np.ndarray:
    figure = plt.figure(figsize=(4, 1))
    figure.text(0.1, 0.5, text, fontsize=20, family='sans-serif')
    figure.canvas.draw()
    pixels = np.asarray(figure.canvas.buffer_rgba()).copy()
    plt.close(figure)
    return pixels


def test_a_name_is_one_line() -> None:
    assert one_line('two\nlines\tand\x00\x1b more') == 'two lines and more'
    assert one_line('x' * 61) == 'x' * 59 + '…' and len(one_line('x' * 60)) == 60
    assert one_line(7) == '7'


@pytest.mark.parametrize('text', ['cost $5 to $9', r'$\frac$', '$'])
def test_dollars_are_characters(text: str) -> None:
    with literal_text(text):
        pixels = drawn(text)
    assert np.array_equal(pixels, drawn(text.replace('$', r'\$')) if '\\' not in text else pixels)
    assert (pixels < 128).any()


def test_missing_characters_are_told_once(told: list[str], recwarn) -> None:
    private = '\ue0ff'  # which no font has a meaning for
    for _ in range(2):
        with literal_text(private, 'a'):
            drawn(private)
        assert font(private, 12).getbbox(private)
    assert len(told) == 1 and "no installed font has the characters '\\ue0ff'" in told[0]
    assert not [warning for warning in recwarn if 'Glyph' in str(warning.message)]


def test_a_font_with_the_characters_is_used(chinese_font: str, told: list[str]) -> None:
    assert font_file('x') is None
    assert font_file(f'x {CHINESE}') == chinese_font
    assert font(CHINESE, 20).getbbox(CHINESE)[2] == 20
    with literal_text(CHINESE):
        pixels = drawn(CHINESE)
    dark = (pixels[..., 0] < 128).any(axis=0)
    assert (
        20 < dark.sum() < 30 and (pixels[..., 0] < 128)[:, np.flatnonzero(dark)[5]].sum() > 20
    )  # a full square
    assert not told


def test_figures_keep_the_numbers_of_logarithmic_axes() -> None:
    figure, axes = plt.subplots()
    axes.plot([1, 1000], [1, 1000], label='costs $5 to $9')
    axes.set(xscale='log', title=r'$\frac$')
    axes.legend()
    with literal_figure(figure):
        figure.canvas.draw()
    assert not axes.title.get_parse_math() and not axes.get_legend().get_texts()[0].get_parse_math()
    assert all(label.get_parse_math() for label in axes.get_xticklabels())
    plt.close(figure)


def test_drawn_samples_take_any_name() -> None:
    copies = [np.zeros((8, 8, 3), np.uint8)]
    names = ['cost $5 to $9', r'$\frac$', CHINESE, 'two\nlines']
    pictures = [draw_copies(BrowsedSample(name, copies, [name], object())) for name in names]
    assert all((picture < 128).any() for picture in pictures)
    assert not np.array_equal(pictures[0], pictures[1])
