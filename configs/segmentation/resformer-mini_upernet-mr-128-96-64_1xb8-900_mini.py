"""The small UPerNet, fine-tuned on every crop at 128, 96 and 64 pixels at once, each back-propagated in turn.

    python tools/train.py configs/segmentation/resformer-mini_upernet-mr-128-96-64_1xb8-900_mini.py

`_base_/mini.py` says where the data and the initial weights are. Measured figures: docs/experiments.md.
"""

_base_ = '_base_/mini.py'

resolutions = [_base_.crop, 96, 64]
model = dict(
    type='resformer_mm.MultiResolutionSegmentor',
    data_preprocessor=dict(type='resformer_mm.MultiResolutionSegDataPreprocessor', resolutions=resolutions),
    consistency=dict(type='resformer_mm.KLConsistency', temperature=1.0, loss_weight=1.0),
)
train_cfg = dict(type='resformer_mm.TurnByTurnIterLoop')
