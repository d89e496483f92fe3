"""Training resolutions: 384, 224 and 128, for larger test images."""

_base_ = '../imagenet.py'

resolutions = [384, 224, 128]
pipeline = [_base_.open_image, dict(_base_.copies, resolutions=resolutions), _base_.pack]
train_dataloader = dict(dataset=dict(pipeline=pipeline))
val_cfg = dict(resolutions=resolutions)
