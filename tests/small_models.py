"""Configs of tiny models of every task, with random weights, and checkpoints of them."""

from __future__ import annotations

from pathlib import Path

import torch
from mmengine.config import Config

from resformer_mm.apis import load_model

MEAN, STD = [123.675, 116.28, 103.53], [58.395, 57.12, 57.375]
PATCH = 16


def backbone(**kwargs) -> dict:
    """Return the config of a ResFormer of width 32 with two blocks."""
    arch = dict(embed_dims=32, num_layers=2, num_heads=2, feedforward_channels=64)
    return dict(type='resformer_mm.ResFormer', arch=arch, patch_size=PATCH, **kwargs)


def featmaps() -> dict:
    """Return the config of a ResFormer for dense tasks, with two maps of the same scale."""
    return backbone(out_type='featmap', out_indices=(0, 1), final_norm=False)


def _config(scope: str, model: dict, dataset: dict) -> Config:
    test = dict(test_dataloader=dict(dataset=dataset), test_cfg=dict(), test_evaluator=[])
    return Config(dict(default_scope=scope, model=model, **test))


def classifier(num_classes: int = 7, pipeline: list | None = None, **dataset) -> Config:
    """Return the config of an mmpretrain classifier at 64 pixels."""
    preprocessor = dict(type='resformer_mm.MultiResolutionDataPreprocessor', mean=MEAN, std=STD, to_rgb=True)
    head = dict(type='LinearClsHead', num_classes=num_classes, in_channels=32)
    model = dict(type='ImageClassifier', data_preprocessor=preprocessor, backbone=backbone(), head=head)
    pipeline = pipeline or [
        dict(type='resformer_mm.LoadImage'),
        dict(type='resformer_mm.ResizeCenterCrop', resolution=64),
        dict(type='PackInputs'),
    ]
    return _config('mmpretrain', model, dict(type='resformer_mm.ImageFolder', pipeline=pipeline, **dataset))


def segmentor(num_classes: int = 5) -> Config:
    """Return the config of an mmseg segmentor on 64 pixels of the short side."""
    head = dict(
        type='FCNHead',
        in_channels=32,
        channels=16,
        in_index=1,
        num_convs=1,
        concat_input=False,
        num_classes=num_classes,
        norm_cfg=dict(type='BN'),
    )
    model = dict(
        type='EncoderDecoder',
        data_preprocessor=dict(type='SegDataPreProcessor', mean=MEAN, std=STD, bgr_to_rgb=True),
        backbone=featmaps(),
        decode_head=head,
        test_cfg=dict(mode='whole'),
    )
    pipeline = [
        dict(type='LoadImageFromFile'),
        dict(type='Resize', scale=(1024, 64), keep_ratio=True),
        dict(type='LoadAnnotations'),
        dict(type='PackSegInputs'),
    ]
    metainfo = dict(classes=[f'stuff {label}' for label in range(num_classes)])
    return _config('mmseg', model, dict(type='ADE20KDataset', metainfo=metainfo, pipeline=pipeline))


def detector() -> Config:
    """Return the config of an mmdet Mask R-CNN of three classes on 64 pixels of the short side."""

    def extractor(size: int) -> dict:
        layer = dict(type='RoIAlign', output_size=size, sampling_ratio=0)
        return dict(type='SingleRoIExtractor', roi_layer=layer, out_channels=32, featmap_strides=[16, 32])

    anchors = dict(type='AnchorGenerator', scales=[4], ratios=[1.0], strides=[16, 32])
    box_head = dict(
        type='Shared2FCBBoxHead', in_channels=32, fc_out_channels=32, roi_feat_size=7, num_classes=3
    )
    mask_head = dict(type='FCNMaskHead', num_convs=1, in_channels=32, conv_out_channels=32, num_classes=3)
    nms = dict(type='nms', iou_threshold=0.5)
    model = dict(
        type='MaskRCNN',
        data_preprocessor=dict(
            type='DetDataPreprocessor', mean=MEAN, std=STD, bgr_to_rgb=True, pad_size_divisor=16
        ),
        backbone=featmaps(),
        neck=dict(type='FPN', in_channels=[32, 32], out_channels=32, num_outs=2),
        rpn_head=dict(type='RPNHead', in_channels=32, feat_channels=32, anchor_generator=anchors),
        roi_head=dict(
            type='StandardRoIHead',
            bbox_roi_extractor=extractor(7),
            bbox_head=box_head,
            mask_roi_extractor=extractor(14),
            mask_head=mask_head,
        ),
        train_cfg=dict(rpn=None, rcnn=None),
        test_cfg=dict(
            rpn=dict(nms_pre=50, max_per_img=20, nms=nms, min_bbox_size=0),
            rcnn=dict(score_thr=0.0, nms=nms, max_per_img=6, mask_thr_binary=0.5),
        ),
    )
    meta = ('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor')
    pipeline = [
        dict(type='LoadImageFromFile'),
        dict(type='Resize', scale=(1024, 64), keep_ratio=True),
        dict(type='LoadAnnotations', with_bbox=True),
        dict(type='PackDetInputs', meta_keys=meta),
    ]
    metainfo = dict(classes=('cat', 'dog', 'owl'))
    return _config('mmdet', model, dict(type='CocoDataset', metainfo=metainfo, pipeline=pipeline))


def recognizer() -> Config:
    """Return the config of an mmaction recognizer of three classes on four frames of 64 pixels."""
    model = dict(
        type='Recognizer2D',
        data_preprocessor=dict(type='ActionDataPreprocessor', mean=MEAN, std=STD, format_shape='NCHW'),
        # With this prefix mmaction takes the only map out of the tuple.
        backbone={**backbone(out_type='featmap'), 'type': 'mmpretrain.resformer_mm.ResFormer'},
        cls_head=dict(type='TSNHead', num_classes=3, in_channels=32, average_clips='prob'),
    )
    pipeline = [
        dict(type='DecordInit'),
        dict(type='SampleFrames', clip_len=1, frame_interval=1, num_clips=4, test_mode=True),
        dict(type='DecordDecode'),
        dict(type='Resize', scale=(-1, 64)),
        dict(type='CenterCrop', crop_size=64),
        dict(type='FormatShape', input_format='NCHW'),
        dict(type='PackActionInputs'),
    ]
    return _config('mmaction', model, dict(type='VideoDataset', pipeline=pipeline))


def save_checkpoint(cfg: Config, path: Path, std: float | None = 0.2, **dataset_meta: object) -> Path:
    """Write random weights of a config's model, as a training run would.

    Args:
        cfg: the config.
        path: the file.
        std: of the weights, wide enough for predictions that differ from image to image; None leaves those
            that the layers start with.
        **dataset_meta: what the checkpoint says of its data set.
    """
    torch.manual_seed(0)
    model = load_model(cfg, device='cpu')
    for value in model.parameters() if std is not None else ():
        torch.nn.init.normal_(value, std=std)
    torch.save({'state_dict': model.state_dict(), 'meta': {'dataset_meta': dataset_meta}}, path)
    return path
