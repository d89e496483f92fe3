"""Label maps from colour pictures of masks, by a list of the colours of the classes."""

from __future__ import annotations

import csv
import json
import os
import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from resformer_mm.datasets.checks.images import BAD_IMAGE, IMAGE_ENDINGS
from resformer_mm.datasets.checks.report import CheckReport, Finding, check_each
from resformer_mm.datasets.image_files import opened_image
from resformer_mm.datasets.label_lists import read_lines
from resformer_mm.datasets.regular_files import list_files, read_file
from resformer_mm.files import write_atomically
from resformer_mm.hidden_files import visible

from .label_maps import MARK

UNKNOWN_COLOURS = 'colours that are not in the legend'
MOST_COLOURS = 6

Colour = tuple[int, int, int]


class LegendError(ValueError):
    """A file that is not a list of colours and names. The message names the file, the place and the "
    "reason."""


@dataclass(frozen=True)
class Legend:
    """Colours of the classes.

    Args:
        names: names of the classes, in the order of their labels.
        colours: colour -> label, or 255 for ignored pixels.
    """

    names: tuple[str, ...]
    colours: dict[Colour, int]

    def apply(self, pixels: np.ndarray) -> tuple[np.ndarray, dict[Colour, int]]:
        """Return the labels ``(H, W)`` of a picture ``(H, W, 3)``, and the pixel counts of unknown colours.

        Pixels of unknown colours have the label 255.
        """
        codes = _codes(pixels)
        present, where, counts = np.unique(codes, return_inverse=True, return_counts=True)
        known = {int(_codes(np.array(colour))): label for colour, label in self.colours.items()}
        labels = np.array([known.get(int(code), MARK) for code in present], np.uint8)
        unknown = {
            (int(code) >> 16, int(code) >> 8 & 255, int(code) & 255): int(count)
            for code, count in zip(present, counts)
            if int(code) not in known
        }
        return labels[where.reshape(codes.shape)], unknown


def read_legend(path: str | Path, ignored: Collection[str] = ()) -> Legend:
    """Read colours and names, in the order of the labels.

    A JSON file has ``{name: [R, G, B], ...}`` or a list of objects with ``name`` and ``color``. A CSV file
    has the columns name, R, G, B in this order, or in the order that its first line names. In any other text
    file, a line is ``R G B NAME``, or ``NAME:R,G,B::`` as in ``labelmap.txt`` of CVAT. A colour may also be
    ``#RRGGBB``.

    Args:
        path: the file.
        ignored: names whose pixels are ignored.

    Raises:
        FileNotFoundError: there is no such file.
        LegendError: an entry is not a name with a colour, a colour or name occurs twice, no class is left, or
            an ignored name does not occur.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f'there is no legend {path}')
    readers = {'.json': _read_json, '.csv': _read_csv}
    entries = list(readers.get(Path(path).suffix.lower(), _read_text)(str(path)))
    for column, what in ((0, 'name'), (1, 'colour')):
        values = [entry[column] for entry in entries]
        if repeated := {value for value in values if values.count(value) > 1}:
            raise LegendError(f'{path}: the {what} {sorted(repeated)[0]} occurs twice')
    if absent := [name for name in ignored if name not in dict(entries)]:
        raise LegendError(f'{path} has no {", ".join(absent)}, which is to be ignored')
    names = tuple(name for name, _ in entries if name not in ignored)
    if not names or len(names) > MARK:
        raise LegendError(f'{path} has {len(names)} classes: a mask can have 1 to {MARK}')
    labels = {name: label for label, name in enumerate(names)}
    return Legend(names, {colour: labels.get(name, MARK) for name, colour in entries})


def convert_masks(
    source: str | Path,
    target: str | Path,
    legend: Legend,
    ignore_unknown: bool = False,
    workers: int = 1,
    show_progress: bool = False,
) -> CheckReport:
    """Write a label map of every picture in a folder and its subfolders, under the same name as PNG.

    A picture with colours that are not in the legend is a fault and is not written, unless these colours are
    ignored. The names of the classes are written to ``classes.txt``.

    Args:
        source: folder of the pictures.
        target: folder of the label maps.
        legend: the colours.
        ignore_unknown: give pixels of unknown colours the label of ignored pixels.
        workers: number of threads.
        show_progress: show a progress bar on stderr.

    Raises:
        FileNotFoundError: there is no such folder, or it has no pictures.
        ValueError: both folders are the same, or names differ in their suffix alone.
    """
    if not os.path.isdir(source):
        raise FileNotFoundError(f'there is no folder {source}')
    if os.path.realpath(source) == os.path.realpath(target):
        raise ValueError(
            f'{target} is the folder of the colour masks: choose another, they are not overwritten'
        )
    names = [
        name
        for name in visible(source, sorted(list_files(source)))
        if os.path.splitext(name)[1].lower() in IMAGE_ENDINGS
    ]
    if not names:
        raise FileNotFoundError(f'{source} has no pictures ({", ".join(IMAGE_ENDINGS)})')
    targets = [os.path.splitext(name)[0] for name in names]
    if twice := sorted({name for name in targets if targets.count(name) > 1}):
        raise ValueError(
            f'{source} has several pictures called {twice[0]}, of which one mask would be written'
        )
    report = CheckReport()
    results = check_each(
        lambda name: _convert(
            Path(source, name), Path(target, name).with_suffix('.png'), legend, ignore_unknown
        ),
        names,
        workers,
        str(source) if show_progress else None,
    )
    pixels = np.zeros(256, np.int64)
    written = 0
    for findings, counts in results:
        report.findings += findings
        pixels += counts
        written += bool(counts.any())
    if written:
        with write_atomically(Path(target, 'classes.txt')) as path:
            path.write_text(''.join(f'{name}\n' for name in legend.names), encoding='utf-8')
    report.facts.append(
        f'{target}: {written} of {len(names)} masks written, {np.count_nonzero(pixels[:-1])} of '
        f'{len(legend.names)} classes occur, {100 * pixels[-1] / max(pixels.sum(), 1):.1f} % of the pixels '
        'are ignored'
    )
    return report


def _convert(
    source: Path, target: Path, legend: Legend, ignore_unknown: bool
) -> tuple[list[Finding], np.ndarray]:
    """Convert one picture; return the findings and the number of pixels of each label, ``(256,)``."""
    nothing = np.zeros(256, np.int64)
    try:
        with opened_image(read_file(source)) as image:
            image.load()
            pixels = np.array(image.convert('RGB'))
    except Exception as error:  # Pillow raises many types for bytes that are not an image
        return [Finding(str(source), BAD_IMAGE, f'{type(error).__name__}: {error}')], nothing
    labels, unknown = legend.apply(pixels)
    findings = []
    if unknown:
        largest = sorted(unknown, key=lambda colour: -unknown[colour])
        shown = ', '.join(f'{colour} ({unknown[colour]} pixels)' for colour in largest[:MOST_COLOURS])
        more = f' and {len(unknown) - MOST_COLOURS} more' if len(unknown) > MOST_COLOURS else ''
        edges = '. So many colours are soft edges of a JPEG file or a resized picture' if more else ''
        findings.append(Finding(str(source), UNKNOWN_COLOURS, f'{shown}{more}{edges}', not ignore_unknown))
        if not ignore_unknown:
            return findings, nothing
    with write_atomically(target) as path:
        Image.fromarray(labels).save(path, format='PNG')
    return findings, np.bincount(labels.ravel(), minlength=256)


def _codes(pixels: np.ndarray) -> np.ndarray:
    """Return one number per colour: ``(..., 3)`` -> ``(...)``."""
    return pixels.astype(np.uint32) @ np.array([1 << 16, 1 << 8, 1], np.uint32)


def _read_json(path: str) -> Iterator[tuple[str, Colour]]:
    try:
        content = json.loads('\n'.join(read_lines(path)))
    except ValueError as error:
        raise LegendError(f'{path} is not valid JSON ({error})') from error
    entries: list = []
    if isinstance(content, dict):
        entries = list(content.items())
    elif isinstance(content, list):
        entries = [
            (entry.get('name'), entry.get('color', entry.get('colour')))
            if isinstance(entry, dict)
            else (None, entry)
            for entry in content
        ]
    for name, colour in entries:
        yield _entry(path, repr(name), name, colour if isinstance(colour, (list, tuple)) else [colour])
    if not entries:
        raise LegendError(f'{path} has neither {{name: [R, G, B]}} nor a list of objects with name and color')


def _read_csv(path: str) -> Iterator[tuple[str, Colour]]:
    rows = [[cell.strip() for cell in row] for row in csv.reader(read_lines(path)) if any(row)]
    columns = [0, 1, 2, 3]
    if rows and not any(cell.isdigit() or cell.startswith('#') for cell in rows[0]):
        header = [cell.lower() for cell in rows.pop(0)]
        short = {'red': 'r', 'green': 'g', 'blue': 'b', 'class': 'name', 'label': 'name'}
        header = [short.get(cell, cell) for cell in header]
        if {'name', 'r', 'g', 'b'} <= set(header):
            columns = [header.index(key) for key in ('name', 'r', 'g', 'b')]
    for row in rows:
        cells = [row[column] for column in columns if column < len(row)]
        yield _entry(path, ','.join(row), cells[0] if cells else None, cells[1:])


def _read_text(path: str) -> Iterator[tuple[str, Colour]]:
    for line in read_lines(path):
        if not line.strip() or line.lstrip().startswith(('//', ';', '# ')):
            continue
        listed = re.fullmatch(r'(.+?):(\d+),(\d+),(\d+):[^:]*:[^:]*', line.strip())
        if listed is not None:  # of CVAT: NAME:R,G,B:PARTS:ACTIONS
            yield _entry(path, line.strip(), listed[1].strip(), listed.groups()[1:])
            continue
        found = re.fullmatch(r'\s*(#[0-9a-fA-F]{6}|\d+[\s,]+\d+[\s,]+\d+)[\s,:]+(.+?)\s*', line)
        if found is None:
            raise LegendError(f'{path}: {line.strip()!r} is not `R G B NAME`')
        yield _entry(path, line.strip(), found[2], re.split(r'[\s,]+', found[1]))


def _entry(path: str, where: str, name: object, colour: Sequence[object]) -> tuple[str, Colour]:
    """Return a name and its colour, from numbers or ``#RRGGBB``."""
    cells = [str(cell).strip() for cell in colour]
    if len(cells) == 1 and re.fullmatch('#?[0-9a-fA-F]{6}', cells[0]):
        digits = cells[0].lstrip('#')
        cells = [str(int(digits[start : start + 2], 16)) for start in (0, 2, 4)]
    numbers = [int(cell) for cell in cells if re.fullmatch(r'\d{1,3}', cell)]
    if not isinstance(name, str) or not name or len(cells) != 3 or len(numbers) != 3 or max(numbers) > 255:
        raise LegendError(f'{path}: {where} is not a name with a colour of three numbers from 0 to 255')
    return name, (numbers[0], numbers[1], numbers[2])
