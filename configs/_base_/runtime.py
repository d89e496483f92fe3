"""Runtime of all tasks: hooks, environment, log."""

default_hooks = dict(
    timer=dict(type='IterTimerHook'),
    logger=dict(type='LoggerHook'),
    param_scheduler=dict(type='ParamSchedulerHook'),
    checkpoint=dict(type='CheckpointHook', interval=1, max_keep_ckpts=3),
    sampler_seed=dict(type='DistSamplerSeedHook'),
    # These stop a broken run, or report its damage.
    num_classes=dict(type='resformer_mm.CheckNumClassesHook'),
    invalid_loss=dict(type='resformer_mm.InvalidLossHook'),
    skipped_images=dict(type='resformer_mm.SkippedImagesHook'),
)
env_cfg = dict(
    cudnn_benchmark=False,
    mp_cfg=dict(mp_start_method='fork', opencv_num_threads=0),
    dist_cfg=dict(backend='nccl', timeout=1800),  # seconds that processes wait for each other
)
vis_backends = [dict(type='LocalVisBackend')]
compile = dict(disable=True)  # `compile=True` compiles the backbone; a dict: arguments of torch.compile
inference_dtype = 'float32'  # of tests and predictions; 'bfloat16', or 'float16' on a GPU
log_level = 'INFO'
load_from = None
resume = False
randomness = dict(seed=None, deterministic=False)
