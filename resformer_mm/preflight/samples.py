"""First batches of a run: loaders that start, ranges of values, annotations."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from mmengine.device import get_device
from torch import Tensor, nn

from resformer_mm.datasets.batches import LabelError
from resformer_mm.datasets.checks.report import Finding
from resformer_mm.engine.classes import innermost, number_of_classes
from resformer_mm.engine.failures import explain_sizes

from .classes import check_heads, check_labels
from .subject import MOST_IN_BATCH, BuildError, Subject

NO_BATCH = 'no batch from the data loader'
SLOW = 'slow data loader'
REFUSED = 'batch that the data preprocessor refuses'
RANGE = 'range of the pixel values'
TIMEOUT = 120
DARK = 32
BRIGHT = 2 * 255  # photometric distortion of 8 bits in floating point exceeds 255, but not this


def check_loaders(subject: Subject) -> Iterator[Finding]:
    """Read samples of all splits, and make a batch of each, for the training in a worker process."""
    for _ in subject.each('loader'):
        pass
    for split, samples in subject.each('samples'):
        with contextlib.suppress(BuildError):  # among the errors of the subject
            if split == 'train':
                yield from _train_batch(subject)
            else:
                yield from _evaluation_batch(subject, split, samples)


def _train_batch(subject: Subject) -> Iterator[Finding]:
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
        batch = next(iter(loader))
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
    else:
        if (refusal := _refusal(subject, batch, training=True)) is not None:
            yield Finding(field, REFUSED, BuildError(field, refusal).reason, _is_certain(subject, refusal))


def _evaluation_batch(subject: Subject, split: str, samples: list) -> Iterator[Finding]:
    """Make a batch of the first samples, and one of samples that lie apart, which may differ in size."""
    field = f'{split}_dataloader'
    size = min(subject.cfg[field].get('batch_size') or 1, len(samples), MOST_IN_BATCH)
    batches = [(samples[:1], True)]
    if size > 1:
        batches = [(subject.first_samples(split, size), True), (samples, False)]
    for batch, is_first in batches:
        try:
            error = _refusal(subject, subject.loader(split).collate_fn(batch), training=False)
        except BuildError:
            raise
        except Exception as problem:  # samples that cannot be collated
            error = problem
        if error is not None:
            explain_sizes(error, images_of(batch), split)
            is_fault = is_first and subject.is_used(field) and _is_certain(subject, error)
            yield Finding(field, REFUSED, BuildError(field, error).reason, is_fault)
            return


def _refusal(subject: Subject, batch: Any, training: bool) -> Exception | None:
    """Return the error with which the data preprocessor refuses a batch."""
    try:
        subject.data_preprocessor(batch, training=training)
    except BuildError:
        raise
    except Exception as error:  # from its checks of labels and sizes, or because a batch has another form
        is_known = isinstance(error, LabelError) and (any(check_heads(subject)) or any(check_labels(subject)))
        return None if is_known else error
    return None


def _is_certain(subject: Subject, error: Exception) -> bool:
    """Whether the run will raise an error, too: it may use a GPU, and steps of other tasks are not known."""
    is_same_device = get_device() == 'cpu' or not isinstance(error, (NotImplementedError, RuntimeError))
    return is_same_device and subject.adapter is not None


def check_values(subject: Subject) -> Iterator[Finding]:
    """Compare the pixel values with what the data preprocessor expects."""
    images = images_of(subject.samples('train'))
    if images:
        low = min(float(image.min()) for image in images)
        high = max(float(image.max()) for image in images)
        problem = range_problem(low, high, *_statistics(subject.data_preprocessor))
        if problem:
            yield Finding(
                'train_dataloader.dataset.pipeline',
                RANGE,
                f'the first samples have values from {low:.4g} to {high:.4g}: {problem}',
                is_fault=False,
            )


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
    if high > BRIGHT:
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
    known = {error.reason for error in subject.errors}  # what the first samples showed
    for split, loaded in subject.each('dataset'):
        field = f'{split}_dataloader.dataset'
        for dataset in innermost(loaded):
            classes = number_of_classes(dataset) or heads[0][1]
            head = modules[heads[0][0]]
            for kind, problem, is_fault in look(dataset, head, classes, split == 'train'):
                if problem in known:
                    continue
                yield Finding(field, kind, problem, is_fault and subject.is_used(field))


def images_of(value: Any) -> list[Tensor]:
    """Return the images or clips of a batch: the tensors under `inputs`, of any nesting."""
    if isinstance(value, Mapping):
        return images_of(value.get('inputs', value.get('imgs')))
    if isinstance(value, Tensor):
        return [value] if value.numel() and value.ndim >= 3 else []
    if isinstance(value, (list, tuple)):
        return [image for entry in value for image in images_of(entry)]
    return []


def _statistics(preprocessor: nn.Module) -> tuple[list[float] | None, list[float] | None]:
    found = []
    for name in ('mean', 'std'):
        value = getattr(preprocessor, name, None)
        found.append(value.flatten().tolist() if isinstance(value, torch.Tensor) else None)
    return found[0], found[1]
