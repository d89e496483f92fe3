"""Objects of a large image from the detections on its slices."""

from __future__ import annotations

import numpy as np
import torch
from mmdet.structures import DetDataSample
from mmengine.model import BaseModel
from mmengine.structures import InstanceData
from pycocotools import mask as coco_mask

from resformer_mm.inference.slicing import Region, SliceGrid, SliceMerger

from .compact_masks import place_mask
from .seams import Detections, border_margin, find_objects


class ObjectMerger(SliceMerger):
    """Merger of detections: an object that several slices show is listed once.

    :mod:`resformer_mm.tasks.detection.seams` has the rule. Masks stay encoded, in the size of the image;
    where boxes are united, masks are, too. The number of objects is limited as that of one image is, by
    ``max_per_img`` of the model.

    Args:
        grid: the slices.
        model: a detector.
    """

    def __init__(self, grid: SliceGrid, model: BaseModel) -> None:
        self.grid = grid
        self.limit = max_per_image(model)
        self._regions: list[Region] = []
        self._found: list[InstanceData] = []

    def add(self, region: Region, sample: DetDataSample) -> None:
        """Take over the objects of a slice, with boxes in pixels of the slice and encoded masks."""
        found = sample.pred_instances.cpu()
        offset = torch.tensor([region.left, region.top] * 2)
        moved = InstanceData(bboxes=found.bboxes + offset, labels=found.labels, scores=found.scores)
        if 'masks' in found:
            moved.masks = found.masks
        self._regions.append(region)
        self._found.append(moved)

    def merged(self) -> DetDataSample:
        """Return a data sample with ``pred_instances``, on the CPU, best score first."""
        found = InstanceData.cat(self._found)
        size = border_margin(self.grid.size, self.grid.overlap)
        slices = np.repeat(np.arange(len(self._found)), [len(one) for one in self._found])
        boxes = found.bboxes.double().numpy()
        seen = Detections(boxes, found.labels.numpy(), found.scores.double().numpy(), slices)
        extent = np.array([0, 0, self.grid.width, self.grid.height])
        masks = (
            _SliceMasks(found.masks, [self._regions[number] for number in slices])
            if 'masks' in found
            else None
        )
        compare = None if masks is None else masks.compare
        objects = find_objects(seen, np.array(self._regions), extent, size, compare)[: self.limit]
        merged = found[torch.tensor([entry.parts[0] for entry in objects], dtype=torch.long)]
        merged.scores = torch.tensor([entry.score for entry in objects], dtype=found.scores.dtype)
        for number, entry in enumerate(objects):
            if len(entry.parts) > 1:
                parts = found.bboxes[entry.parts]
                merged.bboxes[number] = torch.cat([parts[:, :2].amin(0), parts[:, 2:].amax(0)])
            if masks is not None:
                merged.masks[number] = masks.united(entry.parts, (self.grid.height, self.grid.width))
        return DetDataSample(pred_instances=merged)


class _SliceMasks:
    """Masks in the size of slices, as codes.

    Args:
        codes: COCO's run-length encodings.
        regions: the slice of each.
    """

    def __init__(self, codes: list[dict], regions: list[Region]) -> None:
        self._codes, self._regions = codes, regions

    def compare(self, one: int, other: int) -> tuple[float, float] | None:
        """Return what two masks have in common where both slices show the image; see :func:`find_objects`."""
        first, second = (np.array(self._regions[number]) for number in (one, other))
        left, top = np.maximum(first[:2], second[:2])
        right, bottom = np.minimum(first[2:], second[2:])
        parts = []
        for number, (x, y) in ((one, first[:2]), (other, second[:2])):
            mask = coco_mask.decode(self._codes[number]).astype(bool)
            parts.append(mask[top - y : max(top, bottom) - y, left - x : max(left, right) - x])
        sizes = [int(part.sum()) for part in parts]
        if not min(sizes):
            return None
        common = int((parts[0] & parts[1]).sum())
        return common / min(sizes), common / (sum(sizes) - common)

    def united(self, numbers: list[int], size: tuple[int, int]) -> dict:
        """Return the code of the union of masks, in an image of a height and width."""
        placed = [
            place_mask(self._codes[number], self._regions[number].left, self._regions[number].top, size)
            for number in numbers
        ]
        return placed[0] if len(placed) == 1 else coco_mask.merge(placed)


def max_per_image(model: BaseModel) -> int | None:
    """Return the largest number of objects that a detector predicts on one image; None if it has no limit."""
    settings = getattr(model, 'test_cfg', None) or {}
    settings = settings.get('rcnn') or settings
    limit = settings.get('max_per_img', settings.get('max_per_image'))
    return limit if isinstance(limit, int) and limit > 0 else None
