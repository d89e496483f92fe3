"""EfficientNet-B3 on 64, 48 and 32 pixels at once: a convolutional baseline for the small ResFormer.

    MINI_DATA_ROOT=path/to/data python tools/train.py configs/classification/efficientnet-b3_mr-64-48-32_1xb64-30e_mini.py

Of the EfficientNets, this one is the nearest to the small ResFormer in multiply-adds at 64 pixels, with nine times its
parameters. Its last map has a stride of 32 pixels. What is compared between resolutions is the mean of this map, by its
direction. Measured accuracies: docs/experiments.md.
"""

_base_ = '_base_/mini.py'

model = dict(
    backbone=dict(_delete_=True, type='EfficientNet', arch='b3', drop_path_rate=0.05),
    neck=dict(type='GlobalAveragePooling'),
    head=dict(in_channels=1536),
    consistency=dict(_delete_=True, type='resformer_mm.CosineConsistency'),
    consistency_target='gap',
)
