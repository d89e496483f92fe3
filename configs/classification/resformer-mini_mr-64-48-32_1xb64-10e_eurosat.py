"""EuroSAT: ten kinds of land use in satellite images of 64 pixels at 10 m each, by a small ResFormer on a CPU.

    python tools/train.py configs/classification/resformer-mini_mr-64-48-32_1xb64-10e_eurosat.py

The data is in `data/eurosat/{train,val}/CLASS`, or where the environment variable EUROSAT_ROOT says: docs/domains.md.
Tested at 16 to 128 pixels; 32 are those of a camera at 20 m a pixel. No published figure. Not trained here.
"""

_base_ = '_base_/mini.py'

data_root = '{{$EUROSAT_ROOT:data/eurosat}}'
max_epochs = 10

# Land looks alike from all sides, and its colours are what they are.
crop, jitter = _base_.train_transforms[0], _base_.train_transforms[2]
flip = dict(type='RandomFlip', prob=[0.25] * 3, direction=['horizontal', 'vertical', 'diagonal'])
train_transforms = [dict(crop, crop_ratio_range=(0.5, 1.0)), flip, jitter]
copies = dict(_base_.copies, resolutions=_base_.resolutions, transforms=train_transforms)
# Images are not cropped.
whole = dict(_base_.crop, crop_pct=1.0)
train_dataloader = dict(dataset=dict(data_root=data_root, pipeline=[_base_.open_image, copies, _base_.pack]))
val_dataloader = dict(dataset=dict(data_root=data_root, pipeline=[_base_.load, whole, _base_.pack]))
test_dataloader = val_dataloader
test_cfg = dict(resolutions=[16, 24, 32, 48, 64, 96, 128])

param_scheduler = [dict(_base_.warmup, end=100), dict(_base_.cosine, end=max_epochs, T_max=max_epochs)]
train_cfg = dict(max_epochs=max_epochs, val_interval=2)
