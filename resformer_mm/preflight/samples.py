"""First batches of a run: loaders that start, ranges of values, annotations."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from resformer_mm.datasets.checks.report import Finding
from resformer_mm.engine.classes import innermost, number_of_classes

from .subject import BuildError, Subject

NO_BATCH = 'no batch from the data loader'
SLOW = 'slow data loader'
REFUSED = 'data preprocessor refuses the samples'
RANGE = 'range of the pixel values'
TIMEOUT = 120
DARK = 32


def check_loaders(subject: Subject) -> Iterator[Finding]:
    """Read samples of all splits, and let a worker process of the training make one batch."""
    for _ in subject.each('loader'):
        pass
    for split, _ in subject.each('samples'):
        if split == 'train':
            yield from _first_batch(subject)


def _first_batch(subject: Subject) -> Iterator[Finding]:
    field = 'train_dataloader'
    loader = subject.loader('train')
    if loader.num_workers:
        loader.num_workers = 1
        # As MMEngine sets it for the run; a process that is not forked would import the libraries anew.
        processes = (subject.cfg.get('env_cfg') or {}).get('mp_cfg') or {}
        if loader.multiprocessing_context is None:
            loader.multiprocessing_context = processes.get('mp_start_method', 'fork')
        loader.prefetch_factor = 1
        loader.timeout = loader.timeout or TIMEOUT
    try:
        next(iter(loader))
    except StopIteration:
        yield Finding(
            field,
            NO_BATCH,
            f'{subject.samples_per_process} samples make no batch: lower batch_size, or set drop_last=False',
        )
    except Exception as error:  # from the sampler, the worker process or the collation
        slow = 'timed out' in str(error)
        reason = f'a worker gave no sample within {TIMEOUT} s' if slow else BuildError(field, error).reason
        yield Finding(field, SLOW if slow else NO_BATCH, reason, is_fault=not slow)


def check_values(subject: Subject) -> Iterator[Finding]:
    """Compare the pixel values with what the data preprocessor expects."""
    loader, preprocessor = subject.loader('train'), subject.data_preprocessor
    batch = loader.collate_fn(subject.samples('train')[:4])
    images = _images(batch)
    if images:
        low = min(float(image.min()) for image in images)
        high = max(float(image.max()) for image in images)
        problem = range_problem(low, high, *_statistics(preprocessor))
        if problem:
            yield Finding(
                'train_dataloader.dataset.pipeline',
                RANGE,
                f'the first samples have values from {low:.4g} to {high:.4g}: {problem}',
                is_fault=False,
            )
    try:
        preprocessor(batch, training=True)
    except ValueError as error:  # the checks of labels and sizes
        yield Finding('train_dataloader.dataset', REFUSED, str(error))


def range_problem(
    low: float, high: float, mean: Sequence[float] | None, std: Sequence[float] | None
) -> str | None:
    """Return what is unusual about pixel values before the data preprocessor.

    Args:
        low: smallest value of the first samples.
        high: largest value.
        mean: means that the data preprocessor subtracts, per channel; None if it does not normalise.
        std: what it divides by.
    """
    if high > 255.5:
        return (
            'images of 8 bits end at 255. Map the values of 16 bits to this range in the pipeline, or give '
            'the data preprocessor a mean and std for their range'
        )
    if mean is None or std is None:
        return None
    if max(mean) > 1.5:  # for 0 to 255
        if high <= 8 and (low < 0 or high <= 1.0):
            return (
                f'the data preprocessor subtracts a mean of {max(mean):.4g}, for values of 0 to 255. They '
                'seem to be normalised already: leave that out of the pipeline, or mean and std out of '
                'model.data_preprocessor'
            )
        if 0 <= low and high < DARK:
            return (
                'they are nearly black. Images of 12 bits in 16, which are read as the upper 8 bits, look '
                'like that: convert them to the full range'
            )
    elif 0 < max(mean) <= 1.0 and max(std) <= 1.0 and high > 8:
        return (
            f'the data preprocessor subtracts a mean of {max(mean):.4g}, for values of 0 to 1: give mean and '
            'std for 0 to 255'
        )
    return None


def check_annotations(subject: Subject) -> Iterator[Finding]:
    """Look at the annotations of the first samples, as only the library of the task can."""
    look = subject.known('annotation_problems')
    heads = subject.heads
    if look is None or not heads:
        return
    modules = dict(subject.model.named_modules())
    for split, loaded in subject.each('dataset'):
        field = f'{split}_dataloader.dataset'
        for dataset in innermost(loaded):
            classes = number_of_classes(dataset) or heads[0][1]
            head = modules[heads[0][0]]
            for kind, problem, is_fault in look(dataset, head, classes, split == 'train'):
                yield Finding(field, kind, problem, is_fault and subject.is_used(field))


def _images(value: Any) -> list[Tensor]:
    """Return the images or clips of a batch: the tensors under `inputs`, of any nesting."""
    if isinstance(value, Mapping):
        return _images(value.get('inputs', value.get('imgs')))
    if isinstance(value, Tensor):
        return [value] if value.numel() and value.ndim >= 3 else []
    if isinstance(value, (list, tuple)):
        return [image for entry in value for image in _images(entry)]
    return []


def _statistics(preprocessor: nn.Module) -> tuple[list[float] | None, list[float] | None]:
    found = []
    for name in ('mean', 'std'):
        value = getattr(preprocessor, name, None)
        found.append(value.flatten().tolist() if isinstance(value, torch.Tensor) else None)
    return found[0], found[1]
