"""Mask R-CNN on ResFormer-B-MR with the long schedule of ViTDet: large-scale jitter, 100 epochs.

    bash tools/dist_train.sh configs/detection/resformer-base_mr-224-160-128_mask-rcnn-lsj_8xb8-100e_coco-1024x1024.py 8

8 GPUs of 8 images each. No published figure: the published models are trained for 36 epochs. With this schedule,
ViTDet-B reaches 51.6 box AP and 45.9 mask AP from a backbone pretrained without labels (MAE). Not trained here.
"""

_base_ = [
    '_base_/models/mask-rcnn_resformer-base.py',
    '_base_/coco-lsj.py',
    '_base_/schedules/100e-lsj.py',
    '_base_/runtime.py',
]

pretrained = 'checkpoints/resformer-base_mr-224-160-128.pth'
model = dict(
    data_preprocessor=dict(batch_augments=[dict(type='BatchFixedSizePad', size=_base_.size, pad_mask=True)]),
    backbone=dict(init_cfg=dict(checkpoint=pretrained)),
)
default_hooks = dict(checkpoint=dict(by_epoch=False, interval=_base_.train_cfg.val_interval))
log_processor = dict(by_epoch=False)
