"""One resolution per epoch, drawn at random, the same on all ranks (the paper's Table 7).

    bash tools/dist_train.sh configs/classification/ablations/resformer-small_mr-one-per-epoch_8xb128-300e_in1k.py 8

Published top-1 at 128/160/224: 75.18/78.05/80.26. Not trained here.
"""

_base_ = '../resformer-small_mr-224-160-128_8xb128-300e_in1k.py'

train_dataloader = dict(batch_sampler=dict(type='resformer_mm.EpochResolutionBatchSampler'))
