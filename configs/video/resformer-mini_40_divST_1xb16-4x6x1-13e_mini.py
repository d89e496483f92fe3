"""The small recognizer on 4 frames of 40 pixels.

    python tools/train.py configs/video/resformer-mini_40_divST_1xb16-4x6x1-13e_mini.py

`_base_/mini.py` says where the data and the initial weights are. Measured figures stand in docs/video.md.
"""

_base_ = '_base_/mini.py'

resolutions = [40]
train_dataloader = dict(
    dataset=dict(
        pipeline=[
            dict(type='resformer_mm.ClipInit'),
            dict(
                type='resformer_mm.MultiResolutionClips',
                resolutions=resolutions,
                num_frames={{_base_.num_frames}},
                frame_interval={{_base_.frame_interval}},
                transforms={{_base_.train_transforms}},
            ),
            dict(type='resformer_mm.PackClips'),
        ]
    )
)
