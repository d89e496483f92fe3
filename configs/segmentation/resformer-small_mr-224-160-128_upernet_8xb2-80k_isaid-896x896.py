"""UPerNet on ResFormer-S-MR for iSAID, 8 GPUs of 2 crops each, 80,000 iterations.

    bash tools/dist_train.sh configs/segmentation/resformer-small_mr-224-160-128_upernet_8xb2-80k_isaid-896x896.py 8

No published figure. Not trained here; `_base_/isaid.py` says where the data is. `pretrained` is a classification checkpoint
of this project or a published one.
"""

_base_ = ['_base_/isaid.py', '_base_/schedules/80k.py', '_base_/runtime.py']

pretrained = 'checkpoints/resformer-small_mr-224-160-128.pth'
model = dict(backbone=dict(init_cfg=dict(checkpoint=pretrained)))
