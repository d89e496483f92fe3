"""The same narrow ResNet-18 on 64 pixels alone.

    MINI_DATA_ROOT=path/to/data python tools/train.py configs/classification/resnet-mini_64_1xb64-30e_mini.py

Measured accuracies: docs/experiments.md.
"""

_base_ = 'resnet-mini_mr-64-48-32_1xb64-30e_mini.py'

resolutions = [64]
pipeline = [_base_.open_image, dict(_base_.copies, resolutions=resolutions), _base_.pack]
train_dataloader = dict(dataset=dict(pipeline=pipeline))
