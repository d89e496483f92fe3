"""ResFormer-S-MR with colour jitter and random erasing on the GPU instead of in the loader: the same distribution.

    bash tools/dist_train.sh configs/classification/resformer-small_mr-224-160-128_device-augment_8xb128-300e_in1k.py 8

Otherwise as in `resformer-small_mr-224-160-128_8xb128-300e_in1k.py`, with its published figures. For machines whose
CPU cores do not keep up with the GPUs (docs/multi_resolution_training.md, "Speed").
"""

_base_ = 'resformer-small_mr-224-160-128_8xb128-300e_in1k.py'

model = dict(
    data_preprocessor=dict(
        augment=dict(
            color_jitter=dict(brightness=0.4, contrast=0.4, saturation=0.4),
            erasing=dict(
                erase_prob=0.25,
                mode='rand',
                min_area_ratio=0.02,
                max_area_ratio=1 / 3,
                fill_color=_base_.bgr_mean,
                fill_std=_base_.bgr_std,
            ),
        )
    )
)

# Crop, flip and RandAugment stay in the loader.
copies = dict(_base_.copies, transforms=_base_.train_transforms[:3], resolutions=_base_.resolutions)
train_dataloader = dict(dataset=dict(pipeline=[_base_.open_image, copies, _base_.pack]))
