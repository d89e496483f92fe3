"""ResFormer-S for detection: windows in all blocks but four, no class token, a pyramid from the last map.

The windows are 14 x 14 tokens, as many as a classifier sees at 224 pixels; blocks 3, 6, 9 and 12 attend over the whole map.
"""

model = dict(
    # Here rather than beside the model, because mmdet.apis.init_detector builds the model alone.
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
    ),
    neck=dict(type='resformer_mm.SimpleFeaturePyramid', in_channels=384),
)
