"""Metrics of the evaluation, and the names that hooks and schedulers wait for."""

from __future__ import annotations

import contextlib
import difflib
from collections.abc import Iterator, Mapping
from typing import Any

from mmengine.evaluator import Evaluator
from mmengine.hooks import CheckpointHook, EarlyStoppingHook
from mmengine.optim.scheduler.param_scheduler import ReduceOnPlateauParamScheduler
from mmengine.registry import HOOKS, PARAM_SCHEDULERS
from mmengine.runner import ValLoop

from resformer_mm.config_types import find_type, type_field
from resformer_mm.datasets.checks.report import Finding
from resformer_mm.engine.classes import innermost
from resformer_mm.engine.loops import MultiResolutionValLoop
from resformer_mm.text import shorten_list

from .subject import BuildError, Subject

UNFIT = 'metric does not fit'
UNKNOWN = 'metric that will not exist'
NO_VALIDATION = 'metric without validation'
BAD_RULE = 'hook cannot be built'
MOST_NAMES = 12


def check_metrics(subject: Subject) -> Iterator[Finding]:
    """Check that every metric can be built, and computed for the model and the data."""
    problems_of, fits = subject.known('metric_problems'), subject.known('metric_data_problems')
    number = _number_of_classes(subject)
    seen = []
    for split, evaluator in subject.each('evaluator', _evaluated(subject)):
        for index, metric in enumerate(evaluator.metrics):
            problems = []
            if problems_of is not None and number is not None:
                problems += problems_of(metric, number)
            if fits is not None:
                for _, dataset in subject.each('dataset', [split]):
                    problems += fits(metric, list(innermost(dataset)))
            for option, problem, is_fault in problems:
                field = f'{_field_of(subject, f"{split}_evaluator", index)}.{option}'
                is_used = is_fault and subject.is_used(field)
                if (type(metric), problem) not in seen:
                    seen.append((type(metric), problem))
                    yield Finding(field, UNFIT, problem, is_used)


def check_monitored(subject: Subject) -> Iterator[Finding]:
    """Check that the metrics that hooks and schedulers wait for will exist, and whether more is better."""
    monitored = list(_monitored(subject))
    is_evaluated = (
        subject.cfg.get('val_dataloader') is not None and subject.cfg.get('val_evaluator') is not None
    )
    names = None
    if monitored and is_evaluated:
        with contextlib.suppress(BuildError):  # among the errors of the subject
            names = metric_names(subject)
    for field, hook, kind in _hooks_that_wait(subject):
        hook = {**hook, 'type': kind}
        if hook.get('save_best') == 'auto' and names:
            hook['save_best'] = names[0]  # as MMEngine chooses it after the first validation
        try:
            HOOKS.build(hook)
        except (AssertionError, KeyError, TypeError, ValueError) as error:
            yield Finding(field, BAD_RULE, f'{type(error).__name__}: {error}')
    for field, name in monitored:
        if not is_evaluated:
            yield Finding(
                field, NO_VALIDATION, f'waits for {name!r}, but nothing is evaluated while training', False
            )
        elif names is not None and name != 'auto' and name not in names:
            yield Finding(field, UNKNOWN, _explain(name, names))


def metric_names(subject: Subject) -> list[str] | None:
    """Return the names of the metrics of the validation; None if one of them is not known before it is run.

    Raises:
        BuildError: the evaluator cannot be built.
    """
    names_of = subject.known('metric_names')
    evaluator = subject.evaluator('val')
    loop = subject.loop_class('val') or ValLoop
    if names_of is None or type(evaluator) is not Evaluator or loop not in (ValLoop, MultiResolutionValLoop):
        return None
    number = _number_of_classes(subject)
    found: list[str] = []
    for metric in evaluator.metrics:
        own = names_of(metric, number, subject.model) if number is not None else None
        if own is None:
            return None
        found += [f'{metric.prefix}/{name}' if metric.prefix else name for name in own]
    if loop is MultiResolutionValLoop:
        resolutions = [*subject.cfg.val_cfg.get('resolutions', []), 'mean']
        found = [f'{resolution}/{name}' for resolution in resolutions for name in found]
    return found


def _explain(name: str, names: list[str]) -> str:
    if not names:
        return f'waits for {name!r}, but val_evaluator yields no number: add a metric'
    similar = sorted((other for other in names if other.endswith(f'/{name}')), key=_mean_first)
    similar += sorted(
        (other for other in names if other.rpartition('/')[2] == name.rpartition('/')[2]), key=_mean_first
    )
    similar += difflib.get_close_matches(name, names, 1)
    ordered = list(dict.fromkeys([*similar, *names]))
    shown = shorten_list(ordered[:MOST_NAMES])
    more = f' and {len(ordered) - MOST_NAMES} more' if len(ordered) > MOST_NAMES else ''
    remedy = f'. Set it to {similar[0]!r}' if similar else '. Set it to one of them'
    return f'{name!r} is not among the metrics of the validation, which are {shown}{more}{remedy}'


def _mean_first(name: str) -> bool:
    return not name.startswith('mean/')


def _monitored(subject: Subject) -> Iterator[tuple[str, str]]:
    """Yield config field and name of every metric that something waits for."""
    for field, hook, kind in _hooks_that_wait(subject):
        key = 'save_best' if issubclass(kind, CheckpointHook) else 'monitor'
        names = hook.get(key) or []
        for name in [names] if isinstance(names, str) else names:
            yield f'{field}.{key}', name
    for field, scheduler in subject.items('param_scheduler'):
        kind = find_type(type_field(scheduler), PARAM_SCHEDULERS)
        if isinstance(kind, type) and issubclass(kind, ReduceOnPlateauParamScheduler):
            yield f'{field}.monitor', scheduler.get('monitor', 'loss')


def _hooks_that_wait(subject: Subject) -> Iterator[tuple[str, Mapping, type]]:
    for field, hook in subject.hooks():
        kind = find_type(type_field(hook), HOOKS)
        if isinstance(kind, type) and issubclass(kind, (CheckpointHook, EarlyStoppingHook)):
            yield field, hook, kind


def _evaluated(subject: Subject) -> list[str]:
    """Return the splits with an evaluator and data."""
    return [
        split
        for split in ('val', 'test')
        if subject.cfg.get(f'{split}_dataloader') is not None
        and subject.cfg.get(f'{split}_evaluator') is not None
    ]


def _field_of(subject: Subject, field: str, index: int) -> str:
    settings: Any = subject.cfg[field]
    if isinstance(settings, Mapping):
        return f'{field}.metrics.{index}' if isinstance(settings.get('metrics'), list) else field
    return f'{field}.{index}'


def _number_of_classes(subject: Subject) -> int | None:
    """Return the number of classes that the model predicts, of the first of several heads."""
    return subject.heads[0][1] if subject.heads else None
