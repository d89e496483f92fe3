"""All checks of a training run, and their report."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from copy import deepcopy

from mmengine.config import Config

from resformer_mm.compat.lazy_configs import make_writable
from resformer_mm.config.files import enter_scope
from resformer_mm.datasets.checks.report import CheckReport, Finding
from resformer_mm.datasets.image_files import lift_pixel_limit
from resformer_mm.libraries import settle_config
from resformer_mm.repairs import overheard

from . import (
    augmentation,
    batch_norm,
    classes,
    initial_weights,
    losses,
    merged_strides,
    metrics,
    narrow_images,
    samples,
    schedule,
    storage,
    work_dir,
)
from .isolation import isolated
from .subject import BuildError, Subject

Check = Callable[[Subject], Iterator[Finding]]

NOT_BUILT = 'cannot be built'
NOT_CHECKED = 'not checked'
TOLD = 'what reading the data tells'
CHECKS: tuple[Check, ...] = (
    schedule.check_end,
    work_dir.check_owner,
    work_dir.check_resumed,
    initial_weights.check_start,
    samples.check_loaders,
    augmentation.check_augmentation,
    classes.check_heads,
    classes.check_splits,
    classes.check_labels,
    losses.check_class_weights,
    merged_strides.check_merged_strides,
    metrics.check_metrics,
    metrics.check_monitored,
    samples.check_values,
    samples.check_annotations,
    narrow_images.check_narrow_images,
    batch_norm.check_batch_norm,
    storage.check_space,
)


def check_config(cfg: Config, world_size: int = 1) -> CheckReport:
    """Check a training run before it starts; it takes seconds.

    Nothing is trained or written, and a bounded number of samples is read. The run that follows is the same
    as without the check.

    Args:
        cfg: config of the run, as :func:`~resformer_mm.apis.make_train_config` returns it; it is not changed.
        world_size: number of processes that will train.

    Returns:
        The findings, by config field. A fault would stop the run later, or spoil its results; a note is
        unusual, but legal. Notes of the kind :data:`TOLD` are what the run tells by itself.

    Raises:
        ImportError: a library of the config is missing.
    """
    with isolated(), overheard() as told:
        cfg = deepcopy(cfg)
        enter_scope(cfg)
        lift_pixel_limit()
        settled = _settle(cfg)
        make_writable(cfg)
        subject = Subject(cfg, world_size)
        findings = list(dict.fromkeys(finding for check in CHECKS for finding in _findings(check, subject)))
        findings += settled
        findings += [
            Finding(
                error.field, NOT_BUILT, error.reason + subject.advice(error), subject.is_used(error.field)
            )
            for error in subject.errors
        ]
        findings += [Finding(text, TOLD, is_fault=False) for text in told]
    return CheckReport(findings)


def _settle(cfg: Config) -> list[Finding]:
    try:
        settle_config(cfg)
    except ValueError as error:
        return [Finding('config', NOT_BUILT, str(error))]
    return []


def _findings(check: Check, subject: Subject) -> list[Finding]:
    """Run one check, as far as the parts that it needs can be built; its own failure is a note."""
    found: list[Finding] = []
    try:
        for finding in check(subject):
            found.append(finding)
    except BuildError:
        pass  # among the errors of the subject
    except Exception as error:  # a config that the check does not understand must not be refused
        if str(error) in (str(known.error) for known in subject.errors):
            return found
        name = check.__name__.replace('_', ' ')
        found.append(Finding(name, NOT_CHECKED, f'{type(error).__name__}: {error}', is_fault=False))
    return found
