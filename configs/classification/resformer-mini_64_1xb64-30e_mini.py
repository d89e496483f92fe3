"""The same small ResFormer on 64 pixels alone: a baseline for the multi-resolution one.

    MINI_DATA_ROOT=path/to/data python tools/train.py configs/classification/resformer-mini_64_1xb64-30e_mini.py

Measured accuracies: docs/experiments.md.
"""

_base_ = '_base_/mini.py'

resolutions = [64]
pipeline = [_base_.open_image, dict(_base_.copies, resolutions=resolutions), _base_.pack]
train_dataloader = dict(dataset=dict(pipeline=pipeline))
