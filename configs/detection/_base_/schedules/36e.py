"""36 epochs of 16 images a step: AdamW 1e-4, 500 iterations of warm-up, a tenth of the rate after epochs 27 and 33.

Every block of the backbone learns at 0.7 times the rate of the next one; the patch embedding, before the first of twelve blocks,
at 0.7 ** 13 = 0.0097 times that of the heads. The paper names no factor: 0.7 is ViTDet's for ViT-B. The rate is for 8
GPUs * 2 images; for another total batch ``--auto-scale-lr``.
"""

max_epochs = 36

optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='AdamW', lr=1e-4, betas=(0.9, 0.999), weight_decay=0.05),
    constructor='mmpretrain.LearningRateDecayOptimWrapperConstructor',
    # No decay on norms, biases and whatever is about position.
    paramwise_cfg=dict(
        layer_decay_rate=0.7,
        norm_decay_mult=0.0,
        bias_decay_mult=0.0,
        custom_keys={
            '.global_position': dict(decay_mult=0.0),
            '.local_position': dict(decay_mult=0.0),
        },
    ),
)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.001, by_epoch=False, begin=0, end=500),
    dict(type='MultiStepLR', milestones=[27, 33], gamma=0.1, by_epoch=True, begin=0, end=max_epochs),
]
train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=max_epochs, val_interval=1)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
auto_scale_lr = dict(enable=False, base_batch_size=16)
