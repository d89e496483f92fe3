"""LoveDA, fine-tuned on every crop at 512, 384 and 256 pixels at once, for land at 0.3 to 0.6 m a pixel.

    bash tools/dist_train.sh configs/segmentation/resformer-small_mr-224-160-128_upernet-mr-512-384-256_8xb2-80k_loveda-512x512.py 8

The smaller copies also learn to agree with the prediction of the next larger one, pixel by pixel. Back-propagating each
in turn keeps the memory at that of 512 alone. No published figure. Not trained here.
"""

_base_ = 'resformer-small_mr-224-160-128_upernet_8xb2-80k_loveda-512x512.py'

resolutions = [_base_.crop, 384, 256]
model = dict(
    type='resformer_mm.MultiResolutionSegmentor',
    data_preprocessor=dict(type='resformer_mm.MultiResolutionSegDataPreprocessor', resolutions=resolutions),
    consistency=dict(type='resformer_mm.KLConsistency', temperature=1.0, loss_weight=1.0),
)
train_cfg = dict(type='resformer_mm.TurnByTurnIterLoop')
