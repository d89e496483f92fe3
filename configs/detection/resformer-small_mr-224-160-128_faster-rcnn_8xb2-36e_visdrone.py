"""Faster R-CNN on ResFormer-S-MR for VisDrone, 8 GPUs of 2 images each, 36 epochs.

    bash tools/dist_train.sh configs/detection/resformer-small_mr-224-160-128_faster-rcnn_8xb2-36e_visdrone.py 8

No published figure. Not trained here; `_base_/visdrone.py` says where the data is. The smallest anchors are squares of 16
pixels, and an image may have 500 objects.
"""

_base_ = [
    '_base_/models/faster-rcnn_resformer-small.py',
    '_base_/visdrone.py',
    '_base_/schedules/36e.py',
    '_base_/runtime.py',
]

num_classes = 10
pretrained = 'checkpoints/resformer-small_mr-224-160-128.pth'
# What is in regions that VisDrone ignores is not learned as background.
assigner = dict(ignore_iof_thr=0.5)
model = dict(
    backbone=dict(init_cfg=dict(checkpoint=pretrained)),
    rpn_head=dict(anchor_generator=dict(scales=[4])),
    roi_head=dict(bbox_head=dict(num_classes=num_classes)),
    train_cfg=dict(rpn=dict(assigner=assigner), rcnn=dict(assigner=assigner)),
    test_cfg=dict(rcnn=dict(max_per_img=500)),
)
