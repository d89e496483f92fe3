"""The same small ResFormer on 64 pixels alone: a baseline for the multi-resolution one.

    MINI_DATA_ROOT=path/to/data python tools/train.py configs/classification/resformer-mini_64_1xb64-30e_mini.py

Measured accuracies stand in docs/multi_resolution_training.md.
"""

_base_ = '_base_/mini.py'

resolutions = [64]
train_dataloader = dict(
    dataset=dict(
        pipeline=[
            dict(type='resformer_mm.LoadImage'),
            dict(
                type='resformer_mm.MultiResolution',
                resolutions=resolutions,
                transforms={{_base_.train_transforms}},
            ),
            dict(type='PackInputs'),
        ]
    )
)
