"""AdamW 1e-4 with layer-wise decay of the learning rate.

Every block of the backbone learns at 0.7 times the rate of the next one; the patch embedding, before the first of
twelve blocks, at 0.7 ** 13 = 0.0097 times that of neck and heads. The paper names no factor: 0.7 is ViTDet's for ViT-B.
"""

_base_ = '../../../_base_/no_decay.py'

optim_wrapper = dict(
    type='OptimWrapper',
    optimizer=dict(type='AdamW', lr=1e-4, betas=(0.9, 0.999), weight_decay=0.05),
    constructor='resformer_mm.LayerDecayOptimWrapperConstructor',
    paramwise_cfg=dict(layer_decay_rate=0.7, norm_decay_mult=0.0, bias_decay_mult=0.0),
)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
