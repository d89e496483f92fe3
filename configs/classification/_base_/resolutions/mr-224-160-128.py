"""Training resolutions: 224, 160 and 128, the paper's default."""

_base_ = '../imagenet.py'

resolutions = [224, 160, 128]
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
