"""Detectors of the detection configs, made tiny, and batches for them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from mmengine.config import Config
from mmengine.structures import InstanceData
from torch import Tensor, nn

from resformer_mm.apis import enter_scope, load_model, read_config

FOLDER = Path(__file__).parents[1] / 'configs' / 'detection'
MASK_RCNN = 'resformer-small_mr-224-160-128_mask-rcnn_8xb2-36e_coco.py'
ARCH = dict(embed_dims=24, num_layers=2, num_heads=2, feedforward_channels=48)
NUM_CLASSES = 3


def read(name: str) -> Config:
    """Return a detection config, with its scope entered."""
    cfg = read_config(FOLDER / name)
    enter_scope(cfg)
    return cfg


def shrink(cfg: Config, arch: dict = ARCH, channels: int = 16, **backbone) -> Config:
    """Make the model of a detection config tiny: width 24, two blocks, 16 channels, 3 classes."""
    cfg.model.backbone.update(
        {'arch': arch, 'init_cfg': None, 'window_size': 3, 'window_block_indices': (0,), **backbone}
    )
    cfg.model.neck.update(in_channels=arch['embed_dims'], out_channels=channels)
    _shrink_heads(cfg.model, channels)
    return cfg


def _shrink_heads(part: object, channels: int) -> None:
    """Set the sizes of heads, and of what is trained and tested, in place."""
    sizes = dict(
        in_channels=channels,
        out_channels=channels,
        feat_channels=channels,
        conv_out_channels=channels,
        fc_out_channels=32,
        num_classes=NUM_CLASSES,
        # Few proposals and detections, for speed.
        nms_pre=30,
        max_per_img=10,
        num=16,
    )
    if isinstance(part, dict):
        for key, value in part.items():
            if key in ('backbone', 'neck'):
                continue
            if key in sizes:
                part[key] = sizes[key]
            elif key == 'type' and value == 'FCOSHead':
                part.setdefault('norm_cfg', dict(type='GN', num_groups=4))
            else:
                _shrink_heads(value, channels)
    elif isinstance(part, (list, tuple)):
        for value in part:
            _shrink_heads(value, channels)


def tiny(name: str = MASK_RCNN, **backbone) -> nn.Module:
    """Return the tiny detector of a config on the CPU, with LPE at work, the same numbers every time."""
    cfg = shrink(read(name), **backbone)
    torch.manual_seed(0)
    model = load_model(cfg, device='cpu')
    for key, parameter in model.backbone.named_parameters():
        if 'local_position' in key:
            nn.init.normal_(parameter, std=0.3)
    return model


def samples(sizes: Sequence[tuple[int, int]], num_boxes: Sequence[int], num_ignored: int = 0) -> dict:
    """Return a batch as the pipeline packs it: random images with boxes and masks, some ignored (crowd)."""
    from mmdet.structures import DetDataSample
    from mmdet.structures.mask import BitmapMasks

    generator = torch.Generator().manual_seed(2)
    inputs, data_samples = [], []
    for (height, width), number in zip(sizes, num_boxes, strict=True):
        inputs.append(torch.randint(0, 256, (3, height, width), generator=generator, dtype=torch.uint8))
        shape = dict(img_shape=(height, width), ori_shape=(height, width), scale_factor=(1.0, 1.0))
        sample = DetDataSample(metainfo=dict(**shape, img_id=len(inputs), img_path='made up'))
        for name, count in (('gt_instances', number), ('ignored_instances', num_ignored)):
            corners = torch.rand(count, 2, generator=generator) * 0.4
            boxes = torch.cat((corners, corners + 0.3 + 0.2 * torch.rand(count, 2, generator=generator)), 1)
            boxes = boxes * torch.tensor([width, height] * 2)
            setattr(sample, name, InstanceData(bboxes=boxes, labels=torch.arange(count) % NUM_CLASSES))
            masks = torch.zeros(count, height, width, dtype=torch.uint8)
            for mask, (left, top, right, bottom) in zip(masks, boxes.long().tolist()):
                mask[top:bottom, left:right] = 1
            getattr(sample, name).masks = BitmapMasks(masks.numpy(), height, width)
        data_samples.append(sample)
    return dict(inputs=inputs, data_samples=data_samples)


def losses(model: nn.Module, batch: dict) -> tuple[Tensor, dict]:
    """Return the loss of a training batch and its parts; the samplers of mmdet draw the same every time."""
    torch.manual_seed(0)
    data = model.data_preprocessor(batch, training=True)
    return model.parse_losses(model(**data, mode='loss'))
