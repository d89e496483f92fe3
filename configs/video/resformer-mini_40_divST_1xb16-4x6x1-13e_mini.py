"""The small recognizer on 4 frames of 40 pixels.

    python tools/train.py configs/video/resformer-mini_40_divST_1xb16-4x6x1-13e_mini.py

`_base_/mini.py` says where the data and the initial weights are. Measured figures: docs/experiments.md.
"""

_base_ = '_base_/mini.py'

resolutions = [40]
pipeline = [_base_.load, dict(_base_.copies, resolutions=resolutions), _base_.pack]
train_dataloader = dict(dataset=dict(pipeline=pipeline))
