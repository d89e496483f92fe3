"""Text in pictures: names as one line, literal dollar signs, and fonts that have the characters.

Matplotlib and Pillow are imported on first use.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from resformer_mm.repairs import remark

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from PIL.ImageFont import FreeTypeFont

MOST_CHARACTERS = 60
DEFAULT_FAMILY = 'DejaVu Sans'  # part of Matplotlib


def one_line(name: object, most: int = MOST_CHARACTERS) -> str:
    """Return a name as one line of printable characters, shortened if it is longer than ``most``."""
    words = ''.join(character if character.isprintable() else ' ' for character in str(name)).split()
    line = ' '.join(words)
    return line if len(line) <= most else line[: most - 1].rstrip() + '…'


@contextmanager
def literal_text(*texts: object) -> Iterator[None]:
    """Let Matplotlib write texts as they are, inside a ``with`` statement or in a decorated function.

    ``$`` does not start a formula. If the default font lacks characters of ``texts``, the installed font with
    most of them is used; without one, that is told once instead of a warning for each character and picture.

    Args:
        *texts: the texts that will be drawn, as far as they are known.
    """
    import matplotlib

    settings: dict = {'text.parse_math': False}
    path = font_file(''.join(map(str, texts)))
    if path is not None:
        from matplotlib.font_manager import FontProperties, fontManager

        fontManager.addfont(path)  # also one that was installed after the list of fonts was made
        family = FontProperties(fname=path).get_name()
        generic = {f'font.{kind}': [family] for kind in ('sans-serif', 'monospace', 'serif')}
        settings |= {'font.family': [DEFAULT_FAMILY, family], **generic}
    with warnings.catch_warnings(), matplotlib.rc_context(settings):
        warnings.filterwarnings('ignore', message='Glyph .* missing from')
        yield


@contextmanager
def literal_figure(figure: Figure) -> Iterator[None]:
    """Let a figure of Matplotlib write its texts as :func:`literal_text` does, inside a ``with`` statement.

    Numbers at the ticks of axes stay as they are, because those of logarithmic axes are formulas.
    """
    from matplotlib.font_manager import FontProperties, fontManager
    from matplotlib.text import Text

    ticks = {
        label
        for axes in figure.axes
        for axis in (axes.xaxis, axes.yaxis)
        for tick in (*axis.get_major_ticks(), *axis.get_minor_ticks())
        for label in (tick.label1, tick.label2)
    }
    for text in set(figure.findobj(Text)) - ticks:
        text.set_parse_math(False)
        if (path := font_file(text.get_text())) is not None:
            fontManager.addfont(path)
            text.set_fontfamily([DEFAULT_FAMILY, FontProperties(fname=path).get_name()])
    with warnings.catch_warnings():
        warnings.filterwarnings('ignore', message='Glyph .* missing from')
        yield


def font(text: str, size: int) -> FreeTypeFont:
    """Return a font of Pillow that has the characters of a text, see :func:`literal_text`.

    Args:
        text: the text.
        size: in pixels.
    """
    return _load_font(font_file(text) or _default_file(), size)


def font_file(text: str) -> str | None:
    """Return the file of the installed font that has most characters of a text.

    None means the default font, which has all of them, or no other has more.
    """
    missing = frozenset(ord(character) for character in text if not character.isspace()) - _characters(
        _default_file()
    )
    return _best_font(missing) if missing else None


@cache
def _best_font(missing: frozenset[int]) -> str | None:
    from matplotlib.font_manager import fontManager

    best, most = None, 0
    ascii_letters = set(range(ord('0'), ord('z')))
    # The last resort of Matplotlib has a box with a number for every character.
    paths = {entry.fname for entry in fontManager.ttflist if not entry.name.startswith('Last Resort')}
    for path in sorted(paths):
        found = _characters(path)
        # A font of symbols alone would lose the letters around them.
        number = len(missing & found) if ascii_letters & found else 0
        if number > most:
            best, most = path, number
    lacking = missing - (_characters(best) if best else frozenset())
    if lacking:
        sample = ''.join(map(chr, sorted(lacking)[:8]))
        remark(
            'names in pictures',
            f'no installed font has the characters {sample!r}, so they are drawn as boxes: install a font '
            'that has them, such as Noto Sans CJK (fonts-noto-cjk)',
        )
    return best


@cache
def _characters(path: str) -> frozenset[int]:
    """Return the characters of a font; empty if it cannot be drawn in any size, as bitmaps of emoji."""
    from matplotlib.ft2font import FT2Font

    try:
        face = FT2Font(path)
        return frozenset(face.get_charmap()) if face.scalable else frozenset()
    except (OSError, RuntimeError):
        return frozenset()


@cache
def _default_file() -> str:
    from matplotlib import get_data_path

    return str(Path(get_data_path(), 'fonts', 'ttf', 'DejaVuSans.ttf'))


@cache
def _load_font(path: str, size: int) -> FreeTypeFont:
    from PIL import ImageFont

    return ImageFont.truetype(path, size)
