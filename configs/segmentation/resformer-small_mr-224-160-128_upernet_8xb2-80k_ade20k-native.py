"""UPerNet on ResFormer-S-MR, tested on whole images at their own size and aspect.

    python tools/test.py configs/segmentation/resformer-small_mr-224-160-128_upernet_8xb2-80k_ade20k-native.py CHECKPOINT

Images are neither resized nor cropped, and predictions are not merged from windows. Training is that of
resformer-small_mr-224-160-128_upernet_8xb2-80k_ade20k-512x512. No published figure. Not trained here.
"""

_base_ = 'resformer-small_mr-224-160-128_upernet_8xb2-80k_ade20k-512x512.py'

test_dataloader = dict(dataset=dict(pipeline=[_base_.load, _base_.load_labels, _base_.pack]))
