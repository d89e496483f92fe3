"""ResFormer-S-MR with one backward pass per resolution: the same gradients in less memory.

    bash tools/dist_train.sh configs/classification/resformer-small_mr-224-160-128_turn-by-turn_8xb128-300e_in1k.py 8

Otherwise as in `resformer-small_mr-224-160-128_8xb128-300e_in1k.py`, with its published figures. The memory
that it saves: benchmarks/results/turn_by_turn_memory_cpu.csv.
"""

_base_ = 'resformer-small_mr-224-160-128_8xb128-300e_in1k.py'

train_cfg = dict(type='resformer_mm.TurnByTurnEpochLoop')
