"""The pre-flight of a training run, in its first process."""

from __future__ import annotations

import sys
import traceback
from copy import deepcopy

from mmengine.config import Config
from mmengine.dist import broadcast_object_list

from resformer_mm import preflight
from resformer_mm.datasets.checks.report import CheckReport
from resformer_mm.preflight.run import TOLD

from .launch import start_processes
from .launchers import place
from .settling import replace_norms, settle_loaders

MAX_LINES = 20


def check_config(cfg: Config, world_size: int = 1) -> CheckReport:
    """Check a training run before it starts; see :func:`resformer_mm.preflight.check_config`.

    Args:
        cfg: config of the run, as :func:`make_train_config` returns it; it is not changed.
        world_size: number of processes that will train.

    Raises:
        ImportError: a library of the config is missing.
    """
    cfg = deepcopy(cfg)
    settle_loaders(cfg)
    if world_size > 1:  # this layer cannot be built before the processes are connected
        replace_norms(cfg.model, ('MMSyncBN',), 'SyncBN')
    return preflight.check_config(cfg, world_size)


def exit_if_unsound(cfg: Config) -> str:
    """Check a training run in the first process; end all processes with status 2 if it has a fault.

    Args:
        cfg: config of the run, as :func:`make_train_config` returns it.

    Returns:
        The notes as text, '' if there are none, for the log of the run.

    Raises:
        ImportError: a library of the config is missing.
        ValueError: the launcher needs GPUs, but there are none.
    """
    report: CheckReport | None = None
    failure: Exception | None = None
    # Before the processes are connected, since what is built here must not wait for the others.
    rank, world_size = place(cfg.launcher)
    if rank == 0:
        try:
            report = check_config(cfg, world_size)
        except Exception as error:  # the other processes must not wait for ever
            failure = error
    start_processes(cfg)
    # Before the others know: a launcher ends all processes once the first one has failed.
    if failure is not None and world_size > 1:
        traceback.print_exception(failure)
    if report is not None:
        # What is told, the run tells as well.
        report.findings = [finding for finding in report.findings if finding.kind != TOLD]
        if not report.is_sound:
            remedy = 'Nothing was trained. Correct the faults, or skip this check with --no-check'
            print(f'{report.text(MAX_LINES)}\n{remedy}', file=sys.stderr, flush=True)
    outcome = [report]
    broadcast_object_list(outcome)
    report = outcome[0]
    if failure is not None:
        raise failure
    if report is None or not report.is_sound:
        sys.exit(2)
    return report.text(MAX_LINES) if report.findings else ''
