"""Training resolutions: 384, 224 and 128, for larger test images."""

_base_ = '../imagenet.py'

resolutions = [384, 224, 128]
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
