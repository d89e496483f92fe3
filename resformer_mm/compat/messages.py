"""Messages of dependencies that mislead the users of our tools, or that they cannot act on.

This is the one list of what :mod:`resformer_mm.compat.quiet` keeps back. A message belongs here only if it is
wrong, or says nothing about the user's data, config or environment that could be changed for the better.
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ['LOGGED', 'PRINTED', 'WARNED', 'Message']


@dataclass(frozen=True)
class Message:
    """A message, recognised by its beginning.

    Attributes:
        text: regular expression for the beginning of the text.
        source: module that says it.
        seen: versions that say it.
        reason: why it is of no use.
        category: category, if it is a warning of Python.
        module: regular expression for the module that Python names; empty for any.
    """

    text: str
    source: str
    seen: str
    reason: str
    category: type[Warning] = UserWarning
    module: str = ''


WARNED = (
    Message(
        'pkg_resources is deprecated as an API',
        'pkg_resources',
        'setuptools 80 and 81, with MMEngine 0.10.7',
        'about an import of MMEngine, which its later versions do not have',
    ),
    Message(
        'Fail to import ``MultiScaleDeformableAttention``',
        'mmcv.cnn.bricks.transformer',
        'mmcv 2.1 and onedl-mmcv 2.3 without operators',
        'said to every classifier; models that need operators are refused by `resformer_mm.operators`',
    ),
    Message(
        'faster_coco_eval is not installed, metrics will not be computed',
        'mmdet.evaluation.metrics.faster_coco_metric',
        'onedl-mmdetection 3.5',
        'the metrics are computed by pycocotools; a config with `FasterCocoMetric` is refused without it',
    ),
    Message(
        'Default ``avg_non_ignore`` is False',
        'mmseg.models.losses.cross_entropy_loss',
        'mmsegmentation 1.2 and onedl-mmsegmentation 1.4',
        'said of every loss that has the default, also if it is set on purpose, and to who only predicts',
    ),
    Message(
        'The draw is False',
        'mmseg.engine.hooks.visualization_hook',
        'mmsegmentation 1.2 and onedl-mmsegmentation 1.4',
        'nobody asked for drawings: --show and --show-dir do',
    ),
    Message(
        '`broadcast_buffers` is deprecated',
        'torch.nn.parallel.distributed',
        'PyTorch 2.13',
        'about a call of MMEngine, in every process',
        FutureWarning,
    ),
    Message(
        r'FSDP\.state_dict_type\(\) and FSDP\.set_state_dict_type\(\) are being deprecated',
        'torch.distributed.fsdp.fully_sharded_data_parallel',
        'PyTorch 2.13',
        'about calls of MMEngine and of PyTorch itself, at every checkpoint',
        FutureWarning,
    ),
    Message(
        'Setting MKL_NUM_THREADS environment variable',
        'mmengine.utils.dl_utils.setup_env',
        'MMEngine 0.10',
        'in every process; the same is said of OMP_NUM_THREADS, which MKL follows',
    ),
    Message(
        'torch.meshgrid: in an upcoming release',
        'torch.functional',
        'PyTorch 1.10 to 2.15',
        'about calls in mmdet, mmseg and mmpretrain',
    ),
    Message(
        r'`torch\.cuda\.amp\.(GradScaler|autocast)\(args\.\.\.\)` is deprecated',
        'torch.cuda.amp',
        'PyTorch 2.4 and later, with MMEngine 0.10.7 and mmdet 3.3',
        'about calls in these libraries',
        FutureWarning,
    ),
    Message(
        'The shape of value will convert from',
        'mmengine.structures.pixel_data',
        'MMEngine 0.10',
        'for every image that mmseg tests with augmentation; a dimension of length 1 is added, as is meant',
    ),
    Message(
        'Truncated File Read|(Possibly c|C)orrupt EXIF data|Metadata Warning, tag',
        'PIL.TiffImagePlugin',
        'Pillow 9 to 13',
        'in every loader worker, without the name of the file; the metadata is damaged, not the pixels',
        module=r'PIL\.TiffImagePlugin$',
    ),
    Message(
        "Only use 'alpha' for pillow backend",
        'mmcv.image.photometric',
        'mmcv 2.1 and onedl-mmcv 2.3',
        'in every loader worker, about a call in the `ColorJitter` of mmpretrain, which gives nothing else',
    ),
)
"""Warnings of Python."""

LOGGED = (
    Message(
        'The prefix is not set in metric class',
        'mmengine.evaluator.metric',
        'MMEngine 0.10',
        'names of metrics without a prefix are usual, and two of the same name are an error',
    ),
    Message(
        '"FileClient" will be deprecated',
        'mmengine.fileio.file_client',
        'MMEngine 0.10',
        "about a call in MMEngine's own hook for checkpoints",
    ),
    Message(
        '"HardDiskBackend" is the alias',
        'mmengine.fileio.file_client',
        'MMEngine 0.10',
        "about a call in MMEngine's own hook for checkpoints",
    ),
    Message(
        'Failed to search registry with scope "[^"]*" in the "(strategy|function)" registry tree',
        'mmengine.registry.registry',
        'MMEngine 0.10',
        'the libraries have no strategies or functions of their own; those of MMEngine are meant',
    ),
    Message(
        'Resumed iteration number is not divisible by `_accumulative_counts`',
        'mmengine.optim.optimizer.optimizer_wrapper',
        'MMEngine 0.10',
        'the gradients are in the checkpoint; `ExactResumeHook` says so if they are not',
    ),
    Message(
        'Line NMS is not compiled',
        'mmdet.models.dense_heads.clr_head.clr_head',
        'onedl-mmdetection 3.5, with mmcv without operators or without CUDA',
        '"this model" is CLRNet, a detector of lanes; said to users of all models',
    ),
    Message(
        'Please make sure that the mlflow server is running',
        'mmengine.visualization.vis_backend',
        'MMEngine 0.10',
        'said of files as well, which need no server; a server that does not answer is an error',
    ),
)
"""Records of MMEngine's loggers."""

PRINTED = (
    Message(
        'Could not import OneDL',
        'mmpretrain.datasets, mmseg.datasets, mmdet.datasets and their transforms',
        'onedl-mmpretrain 1.3, onedl-mmsegmentation 1.4, onedl-mmdetection 3.5',
        'OneDL is a product for data sets; nothing of it is used or missing',
    ),
    Message(
        'Loads checkpoint by .* backend from path',
        'mmengine.runner.checkpoint',
        'MMEngine 0.10',
        'in every process; the runner logs the path as well',
    ),
)
"""What MMEngine's ``print_log`` prints because no logger is given."""
