"""ResFormer-S with a linear classifier on the class token.

Trained with mixup 0.8, CutMix 1.0, one draw for all copies of a batch, and label smoothing 0.1.
"""

model = dict(
    _scope_='mmpretrain',  # get_model of MMEngine does not read default_scope
    type='resformer_mm.MultiResolutionClassifier',
    data_preprocessor=dict(
        type='resformer_mm.MultiResolutionDataPreprocessor',
        mean=[123.675, 116.28, 103.53],  # RGB
        std=[58.395, 57.12, 57.375],
        to_rgb=True,
        mix=dict(mixup_alpha=0.8, cutmix_alpha=1.0, switch_prob=0.5, shared=True),
    ),
    backbone=dict(type='resformer_mm.ResFormer', arch='small', drop_path_rate=0.1),
    head=dict(
        type='LinearClsHead',
        num_classes=1000,
        in_channels=384,
        loss=dict(type='LabelSmoothLoss', label_smooth_val=0.1, mode='original'),
        init_cfg=dict(type='TruncNormal', layer='Linear', std=0.02),
    ),
    consistency=dict(type='resformer_mm.SmoothL1Consistency', loss_weight=1.0),
    consistency_target='cls',
)
