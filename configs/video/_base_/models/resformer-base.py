"""ResFormer-B with divided attention over time and space, and a linear classifier on the class token.

Stochastic depth up to 0.1, as mmaction2's TimeSformer has it. A config that inherits this one names the initial
weights, `model.backbone.init_cfg.checkpoint`.
"""

model = dict(
    _scope_='mmaction',  # get_model of MMEngine does not read default_scope
    type='resformer_mm.MultiResolutionRecognizer',
    data_preprocessor=dict(
        type='resformer_mm.MultiResolutionActionDataPreprocessor',
        # Those of the image model that the backbone starts from; decord gives RGB.
        mean=[123.675, 116.28, 103.53],
        std=[58.395, 57.12, 57.375],
    ),
    backbone=dict(
        type='resformer_mm.VideoResFormer',
        arch='base',
        num_frames=8,
        attention_type='divided_space_time',
        drop_path_rate=0.1,
        init_cfg=dict(type='resformer_mm.PretrainedResFormer'),
    ),
    cls_head=dict(type='TimeSformerHead', num_classes=400, in_channels=768, average_clips='prob'),
    consistency=dict(type='resformer_mm.SmoothL1Consistency', loss_weight=1.0),
    consistency_target='cls',
)
