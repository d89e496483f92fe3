"""A narrow ResNet-18 on 64, 48 and 32 pixels at once: a convolutional baseline for the small ResFormer.

    MINI_DATA_ROOT=path/to/data python tools/train.py configs/classification/resnet-mini_mr-64-48-32_1xb64-30e_mini.py

With 23 channels in its first stage and a stem that keeps the size of the image, it has the multiply-adds of the small
ResFormer at 64 pixels. What is compared between resolutions is the mean of the last map, by its direction: behind a
ReLU it has no negative values, which a whitened teacher has. Measured accuracies: docs/experiments.md.
"""

_base_ = '_base_/mini.py'

width = 23
model = dict(
    backbone=dict(
        _delete_=True,
        type='ResNet_CIFAR',
        depth=18,
        stem_channels=width,
        base_channels=width,
        strides=(2, 2, 2, 2),
        drop_path_rate=0.05,
    ),
    neck=dict(type='GlobalAveragePooling'),
    head=dict(in_channels=8 * width),
    consistency=dict(_delete_=True, type='resformer_mm.CosineConsistency'),
    consistency_target='gap',
)
