"""Training resolutions: 160 alone."""

_base_ = '../imagenet.py'

resolutions = [160]
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
val_cfg = dict(type='resformer_mm.MultiResolutionValLoop', resolutions=resolutions)
