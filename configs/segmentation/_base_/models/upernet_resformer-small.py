"""UPerNet on ResFormer-S: four raw stride-16 maps, after blocks 3, 6, 9 and 12, no neck; 51.7 M parameters.

A config that inherits this one names the initial weights, `model.backbone.init_cfg.checkpoint`.
"""

_base_ = '../ade20k.py'

num_classes = 150
width = 384
norm_cfg = dict(type='SyncBN', requires_grad=True)
# Of a plain ViT, in place of GPE and LPE: a learned table as large as the crop.
learned_position = dict(
    global_position=dict(type='resformer_mm.LearnedPositionEmbedding', grid_size=_base_.crop // 16),
    local_position=None,
)

model = dict(
    _scope_='mmseg',  # get_model of MMEngine does not read default_scope
    type='EncoderDecoder',
    data_preprocessor=dict(
        type='SegDataPreProcessor',
        mean=[123.675, 116.28, 103.53],
        std=[58.395, 57.12, 57.375],
        bgr_to_rgb=True,
        size=(_base_.crop, _base_.crop),
        pad_val=0,
        seg_pad_val=255,
        # The backbone pads to whole patches; knowing it, the segmentor crops its map instead of shrinking it.
        test_cfg=dict(size_divisor=16),
    ),
    backbone=dict(
        type='resformer_mm.ResFormer',
        arch='small',
        out_indices=(2, 5, 8, 11),
        out_type='featmap',
        final_norm=False,
        drop_path_rate=0.1,
        init_cfg=dict(type='resformer_mm.PretrainedResFormer'),
    ),
    decode_head=dict(
        type='UPerHead',
        in_channels=[width] * 4,
        in_index=[0, 1, 2, 3],
        pool_scales=(1, 2, 3, 6),
        channels=512,
        dropout_ratio=0.1,
        num_classes=num_classes,
        norm_cfg=norm_cfg,
        align_corners=False,
        loss_decode=dict(type='CrossEntropyLoss', loss_weight=1.0),
    ),
    auxiliary_head=dict(
        type='FCNHead',
        in_channels=width,
        in_index=3,
        channels=256,
        num_convs=1,
        concat_input=False,
        dropout_ratio=0.1,
        num_classes=num_classes,
        norm_cfg=norm_cfg,
        align_corners=False,
        loss_decode=dict(type='CrossEntropyLoss', loss_weight=0.4),
    ),
    train_cfg=dict(),
    test_cfg=dict(mode='whole'),
)
