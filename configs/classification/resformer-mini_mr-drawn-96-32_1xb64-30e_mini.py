"""The same small ResFormer on three sizes that are drawn for every batch: 96 pixels, and two of 88, 80, ..., 32.

    MINI_DATA_ROOT=path/to/data python tools/train.py configs/classification/resformer-mini_mr-drawn-96-32_1xb64-30e_mini.py

Measured accuracies: docs/every_size.md.
"""

_base_ = '_base_/mini.py'

resolutions = list(range(96, 31, -8))  # multiples of the patch
copies = dict(_base_.copies, transforms=_base_.train_transforms, resolutions=resolutions)
train_dataloader = dict(
    batch_sampler=dict(type='resformer_mm.MultiResolutionBatchSampler', number=3, keep=resolutions[:1]),
    dataset=dict(pipeline=[_base_.open_image, copies, _base_.pack]),
)
crop = dict(_base_.crop, resolution=resolutions[0])
val_dataloader = dict(dataset=dict(pipeline=[_base_.load, crop, _base_.pack]))
test_dataloader = val_dataloader
val_cfg = dict(resolutions=[96, 64, 32])
test_cfg = dict(resolutions=[16, 24, 32, 48, 64, 96, 128, 192, 256, 320])
