"""Visualizer of detection and instance segmentation."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from mmdet.structures import DetDataSample
from mmdet.structures.bbox import BaseBoxes
from mmdet.structures.mask import BaseInstanceMasks
from mmdet.visualization import DetLocalVisualizer
from mmdet.visualization.palette import get_palette
from mmengine.dist import master_only
from mmengine.structures import InstanceData
from pycocotools import mask as coco_mask

from resformer_mm.engine.pictures import PicturePerSample
from resformer_mm.inference.drawing import draw_box, draw_mask, draw_text, text_size
from resformer_mm.picture_text import literal_text, one_line
from resformer_mm.registry import VISUALIZERS


@VISUALIZERS.register_module()
class ObjectVisualizer(PicturePerSample, DetLocalVisualizer):
    """Visualizer of mmdetection with bounded memory, names in any script, and one picture per sample.

    Masks are drawn one by one. They may also be in COCO's run-length encoding.
    """

    @master_only
    def add_datasample(
        self,
        name: str,
        image: np.ndarray,
        data_sample: DetDataSample | None = None,
        *args,
        out_file: str | None = None,
        **kwargs,
    ) -> None:
        """Draw annotation and prediction side by side; see the base class."""
        with literal_text(*map(one_line, self.dataset_meta.get('classes') or ())):
            inspect.unwrap(DetLocalVisualizer.add_datasample)(
                self,
                name,
                image,
                data_sample,
                *args,
                out_file=self.picture_file(out_file, data_sample),
                **kwargs,
            )

    def _draw_instances(
        self,
        image: np.ndarray,
        instances: InstanceData,
        classes: Sequence[str] | None,
        palette: list[tuple] | None,
    ) -> np.ndarray:
        drawn = self.draw_objects(image, instances, classes, palette)
        self.set_image(drawn)
        return drawn

    def draw_objects(
        self,
        image: np.ndarray,
        instances: InstanceData,
        classes: Sequence[str] | None,
        palette: list[tuple] | None,
    ) -> np.ndarray:
        """Return the image with masks, boxes, names and scores.

        Args:
            image: RGB uint8 ``(H, W, 3)``.
            instances: objects on the CPU, with ``labels`` and ``bboxes`` or ``masks`` or both.
            classes: class names; None uses numbers.
            palette: RGB of each class; None chooses random colours.
        """
        drawn = np.ascontiguousarray(image).copy()
        labels = [int(label) for label in instances.labels]
        most = max(labels, default=0) + 1
        boxes = _boxes(instances)
        shades = np.random.default_rng(0).integers(-40, 41, (len(labels), 3))  # one per object
        mask_colours = get_palette(palette if self.mask_color is None else self.mask_color, most)
        places = []
        for number, mask in enumerate(_masks(instances)):
            colour = np.clip(np.asarray(mask_colours[labels[number]]) + shades[number], 0, 255)
            draw_mask(drawn, mask, colour.tolist(), self.alpha)
            if boxes is None:
                rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
                places.append((columns.mean(), rows.mean()) if len(rows) else None)
        size = text_size(drawn)
        box_colours = get_palette(palette if self.bbox_color is None else self.bbox_color, most)
        text_colours = get_palette(self.text_color, most)
        for number, label in enumerate(labels):
            if boxes is not None:
                draw_box(drawn, boxes[number], box_colours[label], int(self.line_width))
            place = places[number] if boxes is None and places else None
            if boxes is not None:
                place = boxes[number][0] + self.line_width, boxes[number][1] + self.line_width
            if place is not None:
                text = _name(instances, number, label, classes)
                draw_text(drawn, text, place, size, text_colours[label], is_centred=boxes is None)
        return drawn


def _name(instances: InstanceData, number: int, label: int, classes: Sequence[str] | None) -> str:
    if 'label_names' in instances:
        name = instances.label_names[number]
    else:
        name = f'class {label}' if classes is None else classes[label]
    score = f': {100 * float(instances.scores[number]):.1f}' if 'scores' in instances else ''
    return f'{one_line(name)}{score}'


def _boxes(instances: InstanceData) -> np.ndarray | None:
    """Return the boxes ``(N, 4)``; None if there are none, or all are empty, as those of mask-only models."""
    boxes: Any = instances.get('bboxes')
    if isinstance(boxes, BaseBoxes):
        boxes = boxes.tensor
    if boxes is None or not len(boxes):
        return None
    values = np.asarray(boxes.detach().cpu() if isinstance(boxes, torch.Tensor) else boxes)
    return values if values.any() else None


def _masks(instances: InstanceData) -> Iterator[np.ndarray]:
    """Yield the masks ``(H, W)``, bool or uint8, of any representation, one at a time."""
    masks: Any = instances.get('masks')
    if isinstance(masks, BaseInstanceMasks):
        for number in range(len(masks)):
            yield masks[number].to_ndarray()[0]
    elif masks is not None:
        for mask in masks:
            if isinstance(mask, dict):
                yield coco_mask.decode(mask)
            else:
                yield np.asarray(mask.detach().cpu() if isinstance(mask, torch.Tensor) else mask).astype(bool)
