"""15 epochs of SGD, the recipe of mmaction2's TimeSformer.

lr = 0.005 for 8 GPUs * 8 clips = 64 clips a step, for another number of clips ``--auto-scale-lr``; a tenth of it from
epoch 5 on, a hundredth from epoch 10 on. Nesterov momentum 0.9, weight decay 1e-4, gradient norm clipped at 40.
"""

_base_ = '../../../_base_/no_decay.py'

max_epochs = 15

optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='SGD', lr=0.005, momentum=0.9, weight_decay=1e-4, nesterov=True),
    clip_grad=dict(max_norm=40, norm_type=2),
)
param_scheduler = [
    dict(type='MultiStepLR', begin=0, end=max_epochs, by_epoch=True, milestones=[5, 10], gamma=0.1)
]
train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=max_epochs, val_begin=1, val_interval=1)
auto_scale_lr = dict(enable=False, base_batch_size=64)
