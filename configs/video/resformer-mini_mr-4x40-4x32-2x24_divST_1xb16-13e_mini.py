"""The small recognizer on copies that differ in space and time: 4 frames of 40 and 32 pixels, and 2 of 24.

    python tools/train.py configs/video/resformer-mini_mr-4x40-4x32-2x24_divST_1xb16-13e_mini.py

All copies stretch over the same part of the clip. `_base_/mini.py` says where the data and the initial weights are.
"""

_base_ = '_base_/mini.py'

train_dataloader = dict(
    dataset=dict(
        pipeline=[
            dict(type='resformer_mm.ClipInit'),
            dict(
                type='resformer_mm.MultiResolutionClips',
                resolutions=[40, 32, 24],
                num_frames=[4, 4, 2],
                frame_interval=[6, 6, 12],
                transforms={{_base_.train_transforms}},
            ),
            dict(type='resformer_mm.PackClips'),
        ]
    )
)
