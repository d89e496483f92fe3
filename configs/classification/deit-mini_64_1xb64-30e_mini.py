"""A DeiT of the same shape, with a learned and interpolated position table, on 64 pixels alone: a baseline.

    MINI_DATA_ROOT=path/to/data python tools/train.py configs/classification/deit-mini_64_1xb64-30e_mini.py

Measured accuracies: docs/experiments.md.
"""

_base_ = 'resformer-mini_64_1xb64-30e_mini.py'

model = dict(
    backbone=dict(
        global_position=dict(type='resformer_mm.LearnedPositionEmbedding', grid_size=64 // 8),
        local_position=None,
    )
)
