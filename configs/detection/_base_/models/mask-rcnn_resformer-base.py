"""Mask R-CNN on ResFormer-B: 115.3 M parameters."""

_base_ = 'mask-rcnn_resformer-small.py'

model = dict(backbone=dict(arch='base'), neck=dict(in_channels=768))
