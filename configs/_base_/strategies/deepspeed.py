"""DeepSpeed, ZeRO stage 2, in bfloat16, through MMEngine's FlexibleRunner; needs a launcher. See docs/scaling.md.

A config that takes it also needs `optim_wrapper = dict(type='DeepSpeedOptimWrapper', clip_grad=None)`, and no hook that
averages weights, whose steps bfloat16 cannot hold.
"""

runner_type = 'FlexibleRunner'
strategy = dict(
    type='DeepSpeedStrategy',
    bf16=dict(enabled=True),
    inputs_to_half=['inputs'],
    gradient_clipping=5.0,
    zero_optimization=dict(stage=2, overlap_comm=True, contiguous_gradients=True),
)
