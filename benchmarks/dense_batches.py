"""Random training batches for detectors and segmentors, as their pipelines pack them."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from mmengine.structures import InstanceData, PixelData

from resformer_mm.models.layers import Grid

OBJECTS = 10
CLASSES = 150


def detection_batch(sizes: Sequence[Grid]) -> dict:
    """Return images of these heights and widths with ten objects each, their boxes and masks."""
    from mmdet.structures import DetDataSample
    from mmdet.structures.mask import BitmapMasks

    torch.manual_seed(0)
    samples, images = [], []
    for index, (height, width) in enumerate(sizes):
        extent = torch.tensor([width, height])
        corners = torch.rand(OBJECTS, 2) * extent * 0.6
        boxes = torch.cat((corners, corners + extent * (0.05 + 0.3 * torch.rand(OBJECTS, 2))), dim=1)
        masks = torch.zeros(OBJECTS, height, width, dtype=torch.uint8)
        for mask, (left, top, right, bottom) in zip(masks, boxes.long().tolist()):
            mask[top:bottom, left:right] = 1
        objects = InstanceData(bboxes=boxes, labels=torch.arange(OBJECTS))
        objects.masks = BitmapMasks(masks.numpy(), height, width)
        nothing = InstanceData(bboxes=torch.zeros(0, 4), labels=torch.zeros(0, dtype=torch.long))
        nothing.masks = BitmapMasks([], height, width)
        shape = dict(img_shape=(height, width), ori_shape=(height, width), scale_factor=(1.0, 1.0))
        sample = DetDataSample(metainfo=dict(**shape, img_id=index, img_path='random'))
        sample.gt_instances, sample.ignored_instances = objects, nothing
        samples.append(sample)
        images.append(torch.randint(0, 256, (3, height, width), dtype=torch.uint8))
    return dict(inputs=images, data_samples=samples)


def segmentation_batch(images: int, size: Grid) -> dict:
    """Return crops of this height and width with random labels."""
    from mmseg.structures import SegDataSample

    torch.manual_seed(0)
    pixels = [torch.randint(0, 256, (3, *size), dtype=torch.uint8) for _ in range(images)]
    labels = [PixelData(data=torch.randint(0, CLASSES, (1, *size))) for _ in range(images)]
    metainfo = dict(img_shape=size, ori_shape=size, img_path='random')
    return dict(inputs=pixels, data_samples=[SegDataSample(metainfo=metainfo, gt_sem_seg=x) for x in labels])
