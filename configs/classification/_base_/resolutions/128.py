"""Training resolutions: 128 alone."""

_base_ = '../imagenet.py'

resolutions = [128]
pipeline = [_base_.open_image, dict(_base_.copies, resolutions=resolutions), _base_.pack]
train_dataloader = dict(dataset=dict(pipeline=pipeline))
val_cfg = dict(resolutions=resolutions)
