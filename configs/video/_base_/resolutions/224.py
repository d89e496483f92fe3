"""Training resolutions: 224 alone."""

_base_ = '../kinetics400.py'

resolutions = [224]
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
val_cfg = dict(type='resformer_mm.MultiResolutionValLoop', resolutions=resolutions)
