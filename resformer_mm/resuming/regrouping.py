"""Resumption with other parameter groups than those of the checkpoint."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mmengine.hooks import Hook
from mmengine.optim import OptimWrapper
from mmengine.runner import Runner

from resformer_mm.engine.merged_groups import MERGED_FROM, NOTES
from resformer_mm.registry import HOOKS

# What schedulers of MMEngine keep for every group.
_SCHEDULED = ('base_values', '_last_value', 'min_values')


@HOOKS.register_module()
class RegroupHook(Hook):
    """Translate the optimiser and the schedules of a checkpoint to the parameter groups of this run.

    One of them may have the groups of MMEngine, one per tensor, and the other those that
    :class:`resformer_mm.engine.MergedGroupsOptimWrapperConstructor` has merged. ``tools/train.py`` adds the
    hook to every run; ``default_hooks.regroup=None`` leaves it out.
    """

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Translate a checkpoint that the run resumes from.

        Raises:
            ValueError: groups of the checkpoint with different settings would become one.
        """
        wrapper: Any = runner.optim_wrapper
        if not runner._resume or not isinstance(wrapper, OptimWrapper):
            return
        saved, own = checkpoint.get('optimizer'), wrapper.optimizer.param_groups
        if not isinstance(saved, dict) or 'param_groups' not in saved:
            return
        number = len(saved['param_groups'])
        sources = regroup(saved, own)
        schedules = checkpoint.get('param_schedulers')
        if sources is not None and isinstance(schedules, list):
            for schedule in schedules:
                _regroup_schedule(schedule, sources, number)


def regroup(saved: dict, own: Sequence[dict]) -> list[int] | None:
    """Give the state of an optimiser other groups, in place, if both were made of the same ones.

    Whether the step is fused is a property of the run, not of the checkpoint.

    Args:
        saved: state of an optimiser.
        own: groups of the optimiser that is to take it.

    Returns:
        For every group, the index of the saved one that its settings are from; None if the groups stay.

    Raises:
        ValueError: groups with different settings would become one.
    """
    groups = saved['param_groups']
    for group in groups:
        # An optimiser that was built with a fused step fails with another one under loss scaling, and not
        # every version of PyTorch has it.
        if 'fused' in group and 'fused' in own[0]:
            group['fused'] = own[0]['fused']
    before, after = ([_origins(index, group) for index, group in enumerate(x)] for x in (groups, own))
    if before == after or sorted(sum(before, [])) != sorted(sum(after, [])):
        return None  # in the latter case, the optimiser tells that the parameters are others
    parts = {}
    for source, (group, origins) in enumerate(zip(groups, before)):
        start = 0
        for index, number in origins:
            parts[index] = (source, group['params'][start : start + number])
            start += number
    sources, regrouped = [], []
    for mine, origins in zip(own, after):
        source = parts[origins[0][0]][0]
        settings = _settings(groups[source])
        for index, _ in origins:
            _check_equal(settings, _settings(groups[parts[index][0]]))
        params = [parameter for index, _ in origins for parameter in parts[index][1]]
        notes = {name: mine[name] for name in (*NOTES, MERGED_FROM) if name in mine}
        regrouped.append({**settings, **notes, 'params': params})
        sources.append(source)
    saved['param_groups'] = regrouped
    return sources


def _origins(index: int, group: dict) -> list[tuple[int, int]]:
    return [(i, n) for i, n in group.get(MERGED_FROM, [(index, len(group['params']))])]


def _settings(group: dict) -> dict[str, Any]:
    return {name: value for name, value in group.items() if name not in ('params', MERGED_FROM, *NOTES)}


def _check_equal(settings: dict, others: dict) -> None:
    if settings != others:
        names = [name for name in settings if settings[name] != others.get(name)]
        raise ValueError(
            f'the checkpoint has different settings ({", ".join(names)}) for parameters that form one group '
            'in this run: resume with optim_wrapper.paramwise_cfg of the interrupted run'
        )


def _regroup_schedule(schedule: dict, sources: Sequence[int], number: int) -> None:
    """Give a schedule the values of other groups. MMEngine's base value may follow those of the groups."""
    for name in _SCHEDULED:
        values = schedule.get(name)
        if isinstance(values, list):
            schedule[name] = [values[source] for source in sources] + values[number:]
