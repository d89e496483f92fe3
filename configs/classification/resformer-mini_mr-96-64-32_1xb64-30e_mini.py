"""The same small ResFormer on 96, 64 and 32 pixels at once, for the high end of the tested sizes.

    MINI_DATA_ROOT=path/to/data python tools/train.py configs/classification/resformer-mini_mr-96-64-32_1xb64-30e_mini.py

Measured accuracies: docs/every_size.md.
"""

_base_ = '_base_/mini.py'

resolutions = [96, 64, 32]
copies = dict(_base_.copies, transforms=_base_.train_transforms, resolutions=resolutions)
train_dataloader = dict(dataset=dict(pipeline=[_base_.open_image, copies, _base_.pack]))
crop = dict(_base_.crop, resolution=resolutions[0])
val_dataloader = dict(dataset=dict(pipeline=[_base_.load, crop, _base_.pack]))
test_dataloader = val_dataloader
val_cfg = dict(resolutions=resolutions)
test_cfg = dict(resolutions=[16, 24, 32, 48, 64, 96, 128, 192, 256, 320])
