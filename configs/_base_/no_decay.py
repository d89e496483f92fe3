"""No weight decay on the class token, registers, position embeddings and attention scales.

The optimiser gets one group of parameters for each pair of learning rate and weight decay, not one per tensor.
"""

optim_wrapper = dict(
    constructor='resformer_mm.MergedGroupsOptimWrapperConstructor',
    paramwise_cfg=dict(
        custom_keys={
            '.cls_token': dict(decay_mult=0.0),
            '.registers': dict(decay_mult=0.0),
            '.attention_scale': dict(decay_mult=0.0),
            '.global_position': dict(decay_mult=0.0),
            '.local_position': dict(decay_mult=0.0),
            '.temporal_position': dict(decay_mult=0.0),
        }
    ),
)
