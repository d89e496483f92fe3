"""Fine-tuning on two resolutions of each crop at once, which the paper does not do because of its cost.

    bash tools/dist_train.sh configs/segmentation/resformer-small_mr-224-160-128_upernet-mr-512-384_8xb2-80k_ade20k-512x512.py 8

Every crop of 512 is shrunk to 384 as well; the smaller copy also learns to agree with the prediction of the larger
one, pixel by pixel. Back-propagating each resolution in turn keeps the memory at that of 512 alone. No published
figure. Not trained on ADE20K here; results on generated data: docs/experiments.md.
"""

_base_ = 'resformer-small_mr-224-160-128_upernet_8xb2-80k_ade20k-512x512.py'

resolutions = [_base_.crop, 384]
model = dict(
    type='resformer_mm.MultiResolutionSegmentor',
    data_preprocessor=dict(type='resformer_mm.MultiResolutionSegDataPreprocessor', resolutions=resolutions),
    consistency=dict(type='resformer_mm.KLConsistency', temperature=1.0, loss_weight=1.0),
)
train_cfg = dict(type='resformer_mm.TurnByTurnIterLoop')
