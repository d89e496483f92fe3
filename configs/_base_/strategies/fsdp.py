"""FSDP through MMEngine's FlexibleRunner; needs a launcher. See docs/scaling.md.

SHARD_GRAD_OP keeps the weights gathered within a step. FULL_SHARD holds less, but gathers every block again for
each copy of the batch, and for the backward pass.
"""

runner_type = 'FlexibleRunner'
strategy = dict(type='FSDPStrategy', model_wrapper=dict(sharding_strategy='SHARD_GRAD_OP'))
