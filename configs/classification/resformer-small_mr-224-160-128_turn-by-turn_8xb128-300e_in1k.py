"""ResFormer-S-MR with one backward pass per resolution: the same gradients in less memory.

    bash tools/dist_train.sh configs/classification/resformer-small_mr-224-160-128_turn-by-turn_8xb128-300e_in1k.py 8

Otherwise `resformer-small_mr-224-160-128_8xb128-300e_in1k.py`, with its published figures. `benchmarks/results` has the
memory that it saves.
"""

_base_ = 'resformer-small_mr-224-160-128_8xb128-300e_in1k.py'

train_cfg = dict(type='resformer_mm.TurnByTurnEpochLoop')
