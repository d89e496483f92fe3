"""The small ResFormer on 96, 64 and 32 pixels, whose blocks process at most 8 x 8 tokens: a token merger.

    MINI_DATA_ROOT=path/to/data python tools/train.py configs/classification/resformer-mini_merger_mr-96-64-32_1xb64-30e_mini.py

The merger adds 198 k parameters and works on images above 64 pixels only. See docs/every_size.md.
"""

_base_ = '_base_/mini.py'

resolutions = [96, 64, 32]
model = dict(backbone=dict(token_merger=dict(type='resformer_mm.TokenMerger', grid=64 // _base_.patch)))
pipeline = [_base_.open_image, dict(_base_.copies, resolutions=resolutions), _base_.pack]
train_dataloader = dict(dataset=dict(pipeline=pipeline))
crop = dict(_base_.crop, resolution=resolutions[0])
val_dataloader = dict(dataset=dict(pipeline=[_base_.load, crop, _base_.pack]))
test_dataloader = val_dataloader
val_cfg = dict(resolutions=resolutions)
test_cfg = dict(resolutions=[16, 24, 32, 48, 64, 96, 128, 192, 256, 320])
