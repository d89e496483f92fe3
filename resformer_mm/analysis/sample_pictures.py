"""Images that show samples as a model receives them."""

from __future__ import annotations

import tempfile
import textwrap
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from mmengine.registry import VISUALIZERS
from mmengine.visualization import Visualizer
from PIL import Image

from resformer_mm.config_types import find_type
from resformer_mm.datasets.label_resizing import labels_at
from resformer_mm.libraries import drawing_type, library_of_config, task_of
from resformer_mm.picture_text import literal_figure

from .browsing import BrowsedSample, SampleBrowser
from .figures import new_figure

DPI = 100
MARGIN = 20  # pixels around and between the copies
LINE = 22  # height of a line of text in pixels
CHARACTER = 8  # width of all but the widest characters in pixels
SMALLEST = 256  # side in pixels up to which the largest copy is enlarged


def draw_copies(sample: BrowsedSample) -> np.ndarray:
    """Draw all copies of a sample side by side, with the label above and their sizes below.

    All copies are enlarged by the same integer factor, by repeating pixels. Any visible difference is
    therefore a difference in the model's input.

    Returns:
        RGB uint8 ``(H, W, 3)``.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    zoom = max(1, SMALLEST // max(max(image.shape[:2]) for image in sample.copies))
    label_each = len(sample.labels) > 1
    captions = []
    for index, image in enumerate(sample.copies):
        height, width = image.shape[:2]
        lines = [sample.sizes[index] if sample.sizes else f'{width} × {height} px']
        captions.append(lines + (sample.labels[index].split(' + ') if label_each else []))
    columns = [
        max(image.shape[1] * zoom, CHARACTER * max(map(len, lines)))
        for image, lines in zip(sample.copies, captions)
    ]
    width = max(sum(columns) + MARGIN * (len(columns) + 1), 480)
    title = [sample.name, *([] if label_each else sample.labels)]
    title = [part for line in title for part in textwrap.wrap(line, (width - 2 * MARGIN) // CHARACTER)]
    floor = MARGIN + LINE * max(map(len, captions))  # lower edge of the copies, from the bottom
    tallest = max(image.shape[0] for image in sample.copies) * zoom
    height = floor + tallest + MARGIN + LINE * len(title)

    figure = new_figure(width / DPI, height / DPI)
    figure.set_dpi(DPI)
    figure.set_layout_engine('none')  # all positions are given in pixels
    text: dict[str, Any] = dict(fontsize=9, ha='center', va='top', linespacing=1.2)
    figure.text(0.5, 1 - MARGIN / 4 / height, '\n'.join(title), **text)
    left = MARGIN
    for image, lines, column in zip(sample.copies, captions, columns):
        enlarged = image.repeat(zoom, axis=0).repeat(zoom, axis=1)
        start = left + (column - enlarged.shape[1]) // 2
        figure.figimage(enlarged, start, floor, origin='upper')  # axes would interpolate some sizes
        figure.text((left + column / 2) / width, (floor - 4) / height, '\n'.join(lines), **text)
        left += column + MARGIN
    canvas = FigureCanvasAgg(figure)
    with literal_figure(figure):
        canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()


def sample_drawer(browser: SampleBrowser) -> Callable[[BrowsedSample], np.ndarray]:
    """Return a function that draws the samples of a browser, with annotations for dense tasks.

    Raises:
        ValueError: annotations must be drawn, but the config has no ``visualizer``.
    """
    if not task_of(browser.model.cfg).is_dense:
        return draw_copies
    visualizer = build_visualizer(browser)

    def draw(sample: BrowsedSample) -> np.ndarray:
        copies = [annotate(image, sample, visualizer) for image in sample.copies]
        return draw_copies(replace(sample, copies=copies))

    return draw


def build_visualizer(browser: SampleBrowser) -> Visualizer:
    """Return the visualizer of a browser's config, set up for the classes of its data set.

    Raises:
        ValueError: the config has no ``visualizer``.
    """
    cfg = browser.model.cfg
    if cfg.get('visualizer') is None:
        kinds = ' or '.join(f'dict(type={kind!r})' for kind in library_of_config(cfg).visualizer_types)
        raise ValueError(
            f'{cfg.filename or "the config"} has no `visualizer`, which is needed to draw annotations: set it'
            f'{f" to {kinds}" if kinds else ""}'
        )
    settings = dict(cfg.visualizer, vis_backends=None)
    kind = find_type(drawing_type(cfg.visualizer) or settings['type'], VISUALIZERS)
    del settings['type']
    visualizer = kind(**settings)  # a new instance: `build` would return the one of a runner
    visualizer.dataset_meta = browser.dataset_meta
    return visualizer


def annotate(image: np.ndarray, sample: BrowsedSample, visualizer: Visualizer) -> np.ndarray:
    """Return a copy of a segmentation or detection sample with its annotations, as the library draws them.

    Args:
        image: one of the copies, RGB uint8 ``(h, w, 3)``.
        sample: the sample.
        visualizer: visualizer of the library, with the ``dataset_meta`` of the data set.

    Raises:
        ValueError: the annotations do not have the size of the copy.
    """
    data_sample = sample.data_sample.cpu()
    size, annotated = image.shape[:2], sample.copies[0].shape[:2]
    if size != annotated:
        if 'gt_instances' in data_sample or 'gt_sem_seg' not in data_sample:
            raise ValueError(f'annotations of {annotated} pixels cannot be drawn on a copy of {size} pixels')
        data_sample = labels_at(data_sample, size)
    if 'gt_instances' in data_sample and 'masks' in data_sample.gt_instances:
        from mmdet.models.utils import mask2ndarray

        data_sample.gt_instances.masks = mask2ndarray(data_sample.gt_instances.masks).astype(bool)
    with tempfile.TemporaryDirectory() as folder:  # all visualizers support only files as output
        path = Path(folder, 'picture.png')
        # Contiguous, because mmsegmentation 1.2.2 draws names with OpenCV on an array of the same layout.
        image = np.ascontiguousarray(image)
        visualizer.add_datasample(sample.name, image, data_sample, draw_pred=False, out_file=str(path))
        with Image.open(path) as picture:
            return np.asarray(picture.convert('RGB'))
