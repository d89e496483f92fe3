"""Patch kernels of 6, 4 and 2 pixels for the small multi-resolution ResFormer, whose other weights are frozen.

    MINI_DATA_ROOT=path/to/data python tools/train.py configs/classification/resformer-mini_mspe_mr-48-32-16_1xb64-5e_mini.py

First, tools/model_converters/add_patch_kernels.py adds the kernels (`--kernels 6 4 2`) to a checkpoint of
resformer-mini_mr-64-48-32_1xb64-30e_mini.py, and writes `load_from`. Every resolution then has about the tokens of
64 pixels: 48 pixels in patches of 6, 32 in patches of 4, 16 in patches of 2. At 64 pixels, the model is unchanged.
MSPE (https://arxiv.org/abs/2405.18240) trains its kernels for 5 epochs, too.
"""

_base_ = '_base_/mini.py'

load_from = 'work_dirs/resformer-mini_more-kernels.pth'
max_epochs = 5
resolutions = [48, 32, 16]

model = dict(
    backbone=dict(
        drop_path_rate=0.0,
        patch_embed=dict(type='MultiKernelPatchEmbed', kernel_sizes=[6, 4, 2], tokens=64),
    ),
    trained=['backbone.patch_embed.kernels'],
)
pipeline = [_base_.open_image, dict(_base_.copies, resolutions=resolutions), _base_.pack]
train_dataloader = dict(dataset=dict(pipeline=pipeline))
param_scheduler = [dict(_base_.cosine, end=max_epochs, T_max=max_epochs)]
train_cfg = dict(max_epochs=max_epochs, val_interval=max_epochs)
val_cfg = dict(resolutions=resolutions)
test_cfg = dict(resolutions=[16, 24, 32, 48, 64, 96, 128])
