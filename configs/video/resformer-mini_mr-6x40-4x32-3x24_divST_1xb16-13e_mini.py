"""The small recognizer on copies that differ in space and time: 6 frames of 40 pixels, 4 of 32 and 3 of 24.

    python tools/train.py configs/video/resformer-mini_mr-6x40-4x32-3x24_divST_1xb16-13e_mini.py

All copies stretch over the same 24 frames of the clip. Three are the fewest that tell the two ways around a circle. Tested
on 4 frames like the others, which see the table of temporal embeddings, as long as the first copy, interpolated.
`_base_/mini.py` says where the data and the initial weights are. Measured figures stand in docs/video.md.
"""

_base_ = '_base_/mini.py'

resolutions = [40, 32, 24]
num_frames = [6, 4, 3]
frame_interval = [4, 6, 8]
model = dict(backbone=dict(num_frames=num_frames[0]))
train_dataloader = dict(
    dataset=dict(
        pipeline=[
            dict(type='resformer_mm.ClipInit'),
            dict(
                type='resformer_mm.MultiResolutionClips',
                resolutions=resolutions,
                num_frames=num_frames,
                frame_interval=frame_interval,
                transforms={{_base_.train_transforms}},
            ),
            dict(type='resformer_mm.PackClips'),
        ]
    )
)
