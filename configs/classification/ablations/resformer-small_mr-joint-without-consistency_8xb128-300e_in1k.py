"""All resolutions in one step, without scale consistency (the paper's Table 7).

    bash tools/dist_train.sh configs/classification/ablations/resformer-small_mr-joint-without-consistency_8xb128-300e_in1k.py 8

Published top-1 at 128/160/224: 77.72/79.66/81.77 (with it 78.24/80.39/82.16). Not trained here.
"""

_base_ = '../resformer-small_mr-224-160-128_8xb128-300e_in1k.py'

model = dict(consistency=None)
