"""36 epochs of 16 images a step: 500 iterations of warm-up, a tenth of the rate after epochs 27 and 33 (3x).

The rate is for 8 GPUs * 2 images; for another total batch ``--auto-scale-lr``.
"""

_base_ = 'adamw.py'

max_epochs = 36

param_scheduler = [
    dict(type='LinearLR', start_factor=0.001, by_epoch=False, begin=0, end=500),
    dict(type='MultiStepLR', milestones=[27, 33], gamma=0.1, by_epoch=True, begin=0, end=max_epochs),
]
train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=max_epochs, val_interval=1)
auto_scale_lr = dict(enable=False, base_batch_size=16)
