"""The small data set of ten classes without its labels, for models of the size of the small classifiers.

Two of the sizes are drawn for every batch. There is nothing to validate.
"""

_base_ = '../../classification/_base_/mini.py'

resolutions = _base_.resolutions
views = [
    dict(_base_.train_transforms[0], crop_ratio_range=(0.2, 1.0)),
    dict(type='RandomFlip', prob=0.5, direction='horizontal'),
    dict(
        type='RandomApply',
        prob=0.8,
        transforms=[dict(type='resformer_mm.ColorJitter', brightness=0.4, contrast=0.4, saturation=0.4)],
    ),
    dict(type='RandomGrayscale', prob=0.2, keep_channels=True),
]
copies = dict(_base_.copies, transforms=views, resolutions=resolutions)
train_dataloader = dict(
    batch_sampler=dict(type='resformer_mm.MultiResolutionBatchSampler', number=2, drop_last=True),
    dataset=dict(pipeline=[_base_.open_image, copies, _base_.pack]),
)
preprocessor = dict(
    type='SelfSupDataPreprocessor',
    mean=_base_.model.data_preprocessor.mean,  # RGB
    std=_base_.model.data_preprocessor.std,
    to_rgb=True,
)
encoder = dict(type='resformer_mm.ResFormer', arch=_base_.arch, patch_size=_base_.patch)

val_dataloader = None
val_evaluator = None
val_cfg = None
test_dataloader = None
test_evaluator = None
test_cfg = None
