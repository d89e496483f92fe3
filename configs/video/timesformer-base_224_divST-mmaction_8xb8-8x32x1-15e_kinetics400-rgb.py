"""mmaction2's own TimeSformer-B with its own recipe, on the data pipeline of the others; 8 GPUs of 8 clips each.

    bash tools/dist_train.sh configs/video/timesformer-base_224_divST-mmaction_8xb8-8x32x1-15e_kinetics400-rgb.py 8

Published by mmaction2: top-1 77.69 at 224, from weights of ImageNet-21k. It works at 224 alone. mmaction2's config
intends no weight decay on the class token and the positions, but its keys start with '.backbone', which matches no
name; here they do not decay. Not trained here.
Kinetics-400 in `data/kinetics400` (docs/data/kinetics.md).
"""

_base_ = [
    '_base_/resolutions/224.py',
    '_base_/schedules/15e.py',
    '_base_/runtime.py',
]

pretrained = 'https://download.openmmlab.com/mmaction/recognition/timesformer/vit_base_patch16_224.pth'
model = dict(
    _scope_='mmaction',  # get_model of MMEngine does not read default_scope
    type='Recognizer3D',
    data_preprocessor=dict(
        type='ActionDataPreprocessor', mean=[127.5] * 3, std=[127.5] * 3, format_shape='NCTHW'
    ),
    backbone=dict(
        type='TimeSformer',
        pretrained=pretrained,
        num_frames=_base_.num_frames,
        img_size=_base_.crop,
        patch_size=16,
        embed_dims=768,
        in_channels=3,
        attention_type='divided_space_time',
    ),
    cls_head=dict(type='TimeSformerHead', num_classes=400, in_channels=768, average_clips='prob'),
)
optim_wrapper = dict(
    paramwise_cfg=dict(custom_keys={'.pos_embed': dict(decay_mult=0.0), '.time_embed': dict(decay_mult=0.0)})
)
# One resolution: the transforms of a copy, but for its resize.
transforms = [step for step in _base_.train_transforms if step.type != 'Resize']
pipeline = [_base_.load, dict(_base_.sample, test_mode=False), _base_.decode, *transforms, _base_.pack]
# ActionDataPreprocessor stacks the clips itself.
train_dataloader = dict(collate_fn=dict(type='pseudo_collate'), dataset=dict(pipeline=pipeline))
val_cfg = dict(_delete_=True, type='ValLoop')
test_cfg = dict(_delete_=True, type='TestLoop')
