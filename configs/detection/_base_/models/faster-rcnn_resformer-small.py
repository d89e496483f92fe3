"""Faster R-CNN on ResFormer-S: the Mask R-CNN without masks, for data with boxes alone; 42.9 M parameters."""

_base_ = 'mask-rcnn_resformer-small.py'

model = dict(
    type='resformer_mm.FasterRCNN',
    roi_head=dict(mask_roi_extractor=None, mask_head=None),
)
