"""Which lists of clips a config trains and evaluates on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from mmengine.config import Config
from mmengine.registry import DATASETS, TRANSFORMS

from .configured import configured_sources
from .video import ClipList

SAMPLERS = ('SampleFrames', 'MultiResolutionClips')


def configured_lists(cfg: Config) -> list[ClipList]:
    """Return the lists of the data sets of all data loaders of a recognizer's config, each once.

    The default scope must be that of the config.

    Raises:
        ValueError: a data set reads no list of video files; or there is no data set.
    """
    return configured_sources(cfg, _list_of)


def _list_of(config: Mapping, loader: str) -> ClipList:
    dataset = DATASETS.build({**config, 'lazy_init': True, 'pipeline': []})
    prefix = getattr(dataset, 'data_prefix', {}).get('video')
    if not dataset.ann_file or prefix is None:
        raise ValueError(
            f'{loader}.dataset reads no list of video files (ann_file and data_prefix.video): there is '
            f'nothing to check, leave it out with --cfg-options {loader}=None'
        )
    # mmaction's own data set splits at single spaces.
    delimiter = getattr(dataset, 'delimiter', None)
    return ClipList(
        dataset.ann_file,
        prefix,
        dataset.num_classes,
        None if delimiter == ' ' else delimiter,
        sampling_window(config.get('pipeline', ())),
    )


def sampling_window(pipeline: Sequence[Mapping]) -> int | None:
    """Return how many frames of a video one sample stretches over; None if the pipeline does not say."""
    widths = []
    for step in pipeline:
        if str(step['type']).rpartition('.')[2] in SAMPLERS:
            sampler = TRANSFORMS.build(step)
            # That of all copies, where there are several.
            sampler = getattr(sampler, 'window', sampler)
            widths.append(int(sampler._get_ori_clip_len(1.0)))
    return max(widths, default=None)
