"""ResFormer-S for detection: windows in all blocks but four, no class token, a pyramid from the last map.

The windows are 14 x 14 tokens, as many as a classifier sees at 224 pixels; blocks 3, 6, 9 and 12 attend over the whole
map. A config that inherits this one names the initial weights, `model.backbone.init_cfg.checkpoint`.
"""

# Of a plain ViT, in place of GPE and LPE: a learned table, resized to every image.
learned_position = dict(
    global_position=dict(type='resformer_mm.LearnedPositionEmbedding', grid_size=224 // 16),
    local_position=None,
)

model = dict(
    _scope_='mmdet',  # get_model of MMEngine does not read default_scope
    data_preprocessor=dict(
        type='DetDataPreprocessor',
        mean=[123.675, 116.28, 103.53],
        std=[58.395, 57.12, 57.375],
        bgr_to_rgb=True,
        pad_mask=True,
        pad_size_divisor=32,
    ),
    backbone=dict(
        type='resformer_mm.ResFormer',
        arch='small',
        out_type='featmap',
        with_cls_token=False,
        final_norm=False,
        window_size=224 // 16,
        window_block_indices=(0, 1, 3, 4, 6, 7, 9, 10),
        drop_path_rate=0.1,
        init_cfg=dict(type='resformer_mm.PretrainedResFormer'),
    ),
    neck=dict(type='resformer_mm.SimpleFeaturePyramid', in_channels=384),
)
