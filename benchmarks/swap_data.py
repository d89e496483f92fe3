"""Random batches in the data samples of each library."""

from __future__ import annotations

from typing import Any

import torch
from mmengine.config import Config, ConfigDict
from mmengine.structures import InstanceData, PixelData
from swap_zoo import detector, type_name

HEIGHT, WIDTH = 128, 160
# Modules that need another size: anchors made for one, a pooling window of 49 positions, people, digits,
# 900 queries that are chosen among the positions.
# Deformable convolutions do not pad: the coarsest level, of stride 128, needs three positions.
SIZES = {
    'SSDNeck': (320, 320),
    'LRASPPHead': (800, 832),
    'DDODHead': (384, 416),
    'VFNetHead': (384, 416),
    'RepPointsHead': (384, 416),
    'TOODHead': (384, 416),
    'GARetinaHead': (384, 416),
    'GARPNHead': (384, 416),
    'FSAFHead': (384, 416),
    'BaseReID': (256, 128),
    'DINO': (192, 256),
    'LeNet5': (32, 32),
    'C3D': (112, 112),
}


def batch(library: str, cfg: Config) -> dict[str, Any]:
    """Return what the data loader of a config gives to its model: two samples of random pixels and labels."""
    return {
        'mmpretrain': _classification,
        'mmseg': _segmentation,
        'mmdet': _detection,
        'mmaction': _video,
    }[library](cfg)


def clip_length(cfg: Config) -> tuple[int, int]:
    """Return clips and frames per clip of a video, from the training pipeline; one clip if there is none."""
    training = cfg.get('train_pipeline')
    for step in training or cfg.get('test_pipeline'):
        if 'SampleFrames' in type_name(step) or 'SampleAVAFrames' in type_name(step):
            return step.get('num_clips', 1) if training else 1, step.clip_len
    return 1, 8


def num_classes(model: Any) -> int:
    """Return the smallest number of classes of the heads of a model."""
    if isinstance(model, (list, tuple)):
        return min((num_classes(item) for item in model), default=10**6)
    if not isinstance(model, dict):
        return 10**6
    own = model.get('num_classes')
    rest = min((num_classes(value) for value in model.values()), default=10**6)
    return min(own, rest) if isinstance(own, int) and own > 0 else rest


def image_size(cfg: Config) -> tuple[int, int]:
    """Return height and width of the images in a batch."""
    model = str(cfg.model)
    return next((size for name, size in SIZES.items() if name in model), (HEIGHT, WIDTH))


def image_channels(cfg: Config) -> int:
    """Return the channels of an image, of which the data preprocessor knows the means."""
    return len(preprocessor_of(cfg).get('mean') or (0, 0, 0))


def _image(channels: int = 3, size: tuple[int, int] = (HEIGHT, WIDTH)) -> torch.Tensor:
    return torch.randint(0, 256, (channels, *size), dtype=torch.uint8)


def _classification(cfg: Config) -> dict[str, Any]:
    from mmpretrain.models import BaseSelfSupervisor
    from mmpretrain.registry import MODELS
    from mmpretrain.structures import DataSample

    size = image_size(cfg)
    samples = [DataSample(metainfo=dict(num_classes=num_classes(cfg.model))) for _ in range(4)]
    if not issubclass(MODELS.get(type_name(cfg.model)), BaseSelfSupervisor):
        images = torch.stack([_image(image_channels(cfg), size) for _ in range(2)])
        return dict(inputs=images, data_samples=[sample.set_gt_label(1) for sample in samples[:2]])
    views = 2
    if type_name(cfg.model) == 'SwAV':
        views = sum(cfg.model.head.loss.num_crops)
    return dict(
        inputs=[torch.stack([_image() for _ in range(4)]) for _ in range(views)], data_samples=samples
    )


def _segmentation(cfg: Config) -> dict[str, Any]:
    from mmseg.structures import SegDataSample

    shape = image_size(cfg)

    def maps(high: int) -> PixelData:
        return PixelData(data=torch.randint(0, high, (1, *shape)))

    samples = []
    for _ in range(2):
        sample = SegDataSample(metainfo=dict(ori_shape=shape, img_shape=shape, pad_shape=shape))
        sample.gt_sem_seg = maps(num_classes(cfg.model))
        sample.gt_edge_map = maps(2)
        samples.append(sample)
    images = [torch.randint(0, 256, (3, *shape), dtype=torch.uint8) for _ in samples]
    return dict(inputs=images, data_samples=samples)


def _detection(cfg: Config) -> dict[str, Any]:
    from mmdet.testing import demo_mm_inputs, demo_mm_proposals
    from mmdet.testing._utils import demo_track_inputs

    kind, classes = type_name(cfg.model), num_classes(cfg.model)
    if kind == 'BaseReID':
        return _reid(cfg)
    if 'detector' in cfg.model or kind == 'Mask2FormerVideo':
        data = demo_track_inputs(
            image_shapes=(3, HEIGHT, WIDTH), num_classes=classes, key_frames_inds=[0], with_mask=True
        )
        return data
    model = detector(cfg.model)
    size = image_size(cfg)
    data = demo_mm_inputs(
        image_shapes=[(3, *size)] * 2,
        num_items=[3, 4],
        sem_seg_output_strides=8 if 'semantic_head' in str(model.get('roi_head')) else 1,
        with_mask='mask' in str(cfg.model).lower(),  # detectors that find masks learn from them
        with_semantic=True,
        use_box_type=True,
    )
    for sample in data['data_samples']:
        sample.gt_instances.labels %= classes
    if kind == 'FastRCNN':
        for sample, found in zip(data['data_samples'], demo_mm_proposals([(3, *size)] * 2, 50)):
            sample.proposals = found
    return data


def _reid(cfg: Config) -> dict[str, Any]:
    from mmdet.structures import ReIDDataSample

    # Images of two people, two each, as the triplet loss needs.
    samples = [ReIDDataSample().set_gt_label(index) for index in (0, 0, 1, 1)]
    return dict(inputs=[_image(size=image_size(cfg)) for _ in samples], data_samples=samples)


def _video(cfg: Config) -> dict[str, Any]:
    from mmaction.structures import ActionDataSample

    clips, frames = clip_length(cfg)
    boxes = type_name(cfg.model) == 'FastRCNN'
    layout = preprocessor_of(cfg).get('format_shape', 'NCHW')
    if boxes:
        shape: tuple[int, ...] = (3, frames, HEIGHT, WIDTH)
    elif layout == 'NCHW':
        shape = (clips * frames, 3, HEIGHT, WIDTH)
    else:
        shape = (clips, 3, frames, HEIGHT, WIDTH)
    samples = []
    for index in range(2):
        sample = ActionDataSample()
        if boxes:
            size = dict(img_shape=(HEIGHT, WIDTH), ori_shape=(HEIGHT, WIDTH), scale_factor=(1.0, 1.0))
            sample = ActionDataSample(metainfo=size)
            place = torch.tensor([[10.0, 12.0, 90.0, 100.0], [40.0, 20.0, 120.0, 110.0]])
            labels = torch.zeros(2, num_classes(cfg.model))
            labels[:, 1 + index] = 1
            sample.gt_instances = InstanceData(bboxes=place, labels=labels)
            sample.proposals = InstanceData(bboxes=place.clone(), scores=torch.ones(2))
        else:
            sample.set_gt_label(index)
        samples.append(sample)
    inputs = [torch.randint(0, 256, shape, dtype=torch.uint8) for _ in samples]
    return dict(inputs=inputs, data_samples=samples)


def omni_images() -> dict[str, Any]:
    """Return the images that a ``RecognizerOmni`` learns from, beside clips."""
    from mmaction.structures import ActionDataSample

    samples = [ActionDataSample().set_gt_label(index) for index in range(2)]
    return dict(inputs=[_image() for _ in samples], data_samples=samples)


def preprocessor_of(cfg: Config) -> ConfigDict:
    """Return the data preprocessor that the runner gives to the model of a config."""
    return cfg.model.get('data_preprocessor') or cfg.get('data_preprocessor') or ConfigDict()
