"""Blood cells: the small FCOS on images of one size, from a classifier that was trained at 64 pixels alone.

    python tools/train.py configs/detection/resformer-mini_64_fcos_1xb8-12e_bccd.py

`_base_/blood-cells.py` says where the data is. Measured figures: docs/experiments.md.
"""

_base_ = 'resformer-mini_mr-64-48-32_fcos_1xb8-12e_bccd.py'

pretrained = 'work_dirs/resformer-mini_64_1xb64-30e_mini/epoch_30.pth'
model = dict(backbone=dict(init_cfg=dict(checkpoint=pretrained)))

load, load_annotations, resize, flip, pack = _base_.train_pipeline
train_pipeline = [load, load_annotations, dict(resize, scales=_base_.scales[-1:]), flip, pack]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
