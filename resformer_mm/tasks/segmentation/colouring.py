"""Colour pictures of label maps, by a list of the colours of the classes."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
from PIL import Image

from resformer_mm.datasets.checks.images import BAD_IMAGE, IMAGE_ENDINGS
from resformer_mm.datasets.checks.report import CheckReport, Finding, check_each
from resformer_mm.datasets.regular_files import list_files, read_file
from resformer_mm.files import write_atomically
from resformer_mm.hidden_files import visible

from .colours import Colour, Legend
from .label_maps import MARK, NotALabelMapError, decode_label_map, value_counts

NO_COLOUR = 'values without a colour in the legend'


def colour_masks(
    source: str | Path,
    target: str | Path,
    legend: Legend,
    palette: bool = False,
    workers: int = 1,
    show_progress: bool = False,
) -> CheckReport:
    """Write a colour picture of every label map in a folder and its subfolders, under its name as PNG.

    A label map with values that have no colour is a fault and is not written. Ignored pixels (255) have the
    colour of the ignored name of the legend. :func:`~resformer_mm.tasks.segmentation.colours.convert_masks`
    is the way back.

    Args:
        source: folder of the label maps.
        target: folder of the pictures.
        legend: the colours.
        palette: write palette pictures, whose pixels keep their values and show the colours; else RGB.
        workers: number of threads.
        show_progress: show a progress bar on stderr.

    Raises:
        FileExistsError: a picture exists.
        FileNotFoundError: there is no such folder, or it has no label maps.
    """
    if not os.path.isdir(source):
        raise FileNotFoundError(f'there is no folder {source}')
    names = [
        name
        for name in visible(source, sorted(list_files(source)))
        if os.path.splitext(name)[1].lower() in IMAGE_ENDINGS
    ]
    if not names:
        raise FileNotFoundError(f'{source} has no label maps ({", ".join(IMAGE_ENDINGS)})')
    places = {name: Path(target, name).with_suffix('.png') for name in names}
    if exists := [path for path in places.values() if path.exists()]:
        raise FileExistsError(f'{exists[0]} exists: give a new folder, nothing is overwritten')
    table = _colours_of(legend)
    report = CheckReport()
    results = check_each(
        lambda name: _convert(Path(source, name), places[name], table, palette),
        names,
        workers,
        str(source) if show_progress else None,
    )
    for findings in results:
        report.findings += findings
    written = len(names) - len(report.findings)
    report.facts.append(f'{target}: {written} of {len(names)} pictures written')
    return report


def _colours_of(legend: Legend) -> dict[int, Colour]:
    """Return label -> colour; of several ignored names, the first one counts."""
    table: dict[int, Colour] = {}
    for colour, label in legend.colours.items():
        table.setdefault(label, colour)
    return table


def _convert(source: Path, target: Path, table: dict[int, Colour], palette: bool) -> list[Finding]:
    try:
        labels = decode_label_map(read_file(source))
    except NotALabelMapError as error:
        return [Finding(str(source), BAD_IMAGE, str(error))]
    except Exception as error:  # Pillow raises many types for bytes that are not an image
        return [Finding(str(source), BAD_IMAGE, f'{type(error).__name__}: {error}')]
    if unknown := [value for value in value_counts(labels) if value not in table]:
        shown = ', '.join(map(str, unknown[:6]))
        hint = f': name the class of ignored pixels with --ignore, for {MARK}' if MARK in unknown else ''
        return [Finding(str(source), NO_COLOUR, f'{shown}{hint or ": add them to the legend"}')]
    colours = np.zeros((256, 3), np.uint8)
    for label, colour in table.items():
        colours[label] = colour
    labels = labels.astype(np.uint8)
    if palette:
        picture = Image.fromarray(labels)
        picture.putpalette(colours.ravel().tolist())
    else:
        picture = Image.fromarray(colours[labels])
    with write_atomically(target) as path:
        picture.save(path, format='PNG')
    return []
