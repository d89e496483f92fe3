"""The small Mask R-CNN from the classifier of the quickstart that was trained at 64 pixels alone.

    python tools/train.py configs/detection/resformer-mini_64_mask-rcnn_1xb8-8e_mini.py

`_base_/mini.py` says where the data are. Measured figures: docs/experiments.md.
"""

_base_ = '_base_/mini.py'

pretrained = 'work_dirs/quickstart/resformer-mini_64_1xb64-30e_mini/epoch_14.pth'
model = dict(backbone=dict(init_cfg=dict(checkpoint=pretrained)))
