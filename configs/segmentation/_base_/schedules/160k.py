"""160,000 iterations; the rest as for 80,000."""

_base_ = '80k.py'

max_iters = 160000

warm_up, decay = _base_.param_scheduler
param_scheduler = [warm_up, dict(decay, end=max_iters)]
train_cfg = dict(max_iters=max_iters)
