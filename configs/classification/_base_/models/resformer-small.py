"""ResFormer-S with a linear classifier on the class token."""

model = dict(
    type='resformer_mm.MultiResolutionClassifier',
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
