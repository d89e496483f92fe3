"""No weight decay on the class token and on the position embeddings."""

optim_wrapper = dict(
    paramwise_cfg=dict(
        custom_keys={
            '.cls_token': dict(decay_mult=0.0),
            '.global_position': dict(decay_mult=0.0),
            '.local_position': dict(decay_mult=0.0),
            '.temporal_position': dict(decay_mult=0.0),
        }
    )
)
