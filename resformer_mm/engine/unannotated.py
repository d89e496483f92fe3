"""Tests on data without annotations."""

from __future__ import annotations

from typing import Any

from mmengine.evaluator import BaseMetric, DumpResults
from mmengine.hooks import Hook
from mmengine.runner import Runner

from resformer_mm.repairs import remark

from .classes import innermost
from .failures import loaders_of

# Fields of a sample that name its annotation file -> end of the names of the transforms that read it.
FILES = {'seg_map_path': ('LoadAnnotations', 'LoadSegMap')}


class UnannotatedTestHook(Hook):
    """Let a test predict where the data set has no annotations, and tell that nothing is compared.

    Metrics would end such a test with an error about a missing field, or return numbers that mean nothing.
    Only those that write predictions to a file are kept. Transforms that read label maps are left out where
    the data set names no label maps, as with ``data_prefix`` without ``seg_map_path``.
    """

    priority = 'VERY_HIGH'

    def before_test(self, runner: Runner) -> None:
        """Look at the first sample of every data set."""
        datasets = [one for loader in loaders_of(runner.test_loop) for one in innermost(loader.dataset)]
        for dataset in datasets:
            _leave_out_loading(dataset)
        if not datasets or not all(is_unannotated(dataset) for dataset in datasets):
            return
        evaluator = runner.test_loop.evaluator
        left_out = [metric for metric in evaluator.metrics if not _writes(metric)]
        evaluator.metrics = list(filter(_writes, evaluator.metrics))
        if left_out:
            names = ', '.join(type(metric).__name__ for metric in left_out)
            remark(
                'test_dataloader.dataset',
                f'the samples have no annotations{_ignored(datasets)}: there is nothing to compare with, and '
                f'{names} of test_evaluator is left out. Predictions are written with --out and drawn with '
                '--show-dir',
            )


def _writes(metric: BaseMetric) -> bool:
    """Whether a metric writes predictions to a file and compares nothing."""
    return isinstance(metric, DumpResults) or bool(getattr(metric, 'format_only', False))


def is_unannotated(dataset: Any) -> bool:
    """Whether a data set has nothing to compare with.

    Its first sample, as the model gets it, has no annotation; or none of its images has an object, except for
    ignored ones.
    """
    if not len(dataset):
        return False
    if hasattr(dataset, 'get_data_info') and 'instances' in dataset.get_data_info(0):
        infos = (dataset.get_data_info(index) for index in range(len(dataset)))
        return all(instance.get('ignore_flag') for info in infos for instance in info['instances'])
    sample = dataset[0]
    sample = sample.get('data_samples') if isinstance(sample, dict) else None
    while isinstance(sample, (list, tuple)) and sample:  # several views
        sample = sample[0]
    if not hasattr(sample, 'all_keys'):  # not a data element of MMEngine
        return False
    return not any(name.startswith('gt_') for name in sample.all_keys())


def _ignored(datasets: list) -> str:
    """Return what is said of annotations that are all ignored, '' if there are none."""
    infos = [
        dataset.get_data_info(index)
        for dataset in datasets
        if hasattr(dataset, 'get_data_info')
        for index in range(len(dataset))
    ]
    number = sum(len(info.get('instances', ())) for info in infos)
    return f' but {number} that are ignored, such as crowd regions (iscrowd 1)' if number else ''


def _leave_out_loading(dataset: Any) -> None:
    steps = getattr(getattr(dataset, 'pipeline', None), 'transforms', None)
    if not steps or not hasattr(dataset, 'get_data_info') or not len(dataset):
        return
    info = dataset.get_data_info(0)
    for field, names in FILES.items():
        if field in getattr(dataset, 'data_prefix', {}) or 'seg_fields' not in info or info.get(field):
            continue
        kept = [step for step in steps if not type(step).__name__.endswith(names)]
        dataset.pipeline.transforms = kept
