"""Trainings that a launcher starts again after a process or a machine was lost."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.dist import broadcast_object_list, get_world_size, is_main_process

from resformer_mm.processes import any_restarted, launch_name
from resformer_mm.repairs import remark

from .finding import find_resumable, keep_total_batch

# File in the work dir: name of the launch that trains there, and when it began.
LAUNCH = '.launch'


def agree_on_start(cfg: Config) -> None:
    """Let all processes start from the same checkpoint, which the first of them chooses.

    A launch that was restarted goes on from the newest checkpoint that it has saved, as with ``--resume``. If
    it has saved none, it starts as its command line says. Checkpoints of earlier runs in the work dir are not
    used for this.

    Raises:
        CheckpointError: the checkpoint to go on from cannot be used.
        FileNotFoundError: it is not on the machine of this process.
    """
    is_restarted = any_restarted()
    choice: list[Any] = [None]
    if is_main_process():
        began = _began(cfg)
        if is_restarted and began is not None:
            _resume_from_own(cfg, began)
        else:
            _note_launch(cfg)
        choice[0] = cfg.get('resume', False), cfg.get('load_from'), _batch_size(cfg)
    broadcast_object_list(choice)
    cfg.resume, cfg.load_from, batch_size = choice[0]
    if batch_size is not None:
        cfg.train_dataloader.batch_size = batch_size
    path = cfg.load_from if cfg.resume else None
    if path is not None and '://' not in path and not Path(path).is_file():
        raise FileNotFoundError(
            f'the first process resumes from {path}, which is not on this machine: let the work dir be on a '
            'disk that all machines share'
        )


def _resume_from_own(cfg: Config, began: float) -> None:
    found = find_resumable(cfg, began)
    if found is None:
        return
    path, content = found
    keep_total_batch(cfg, content, get_world_size(), is_restart=True)
    cfg.resume, cfg.load_from = True, str(path)
    remark('restarted', f'the training goes on from {path}')


def _began(cfg: Config) -> float | None:
    """Return when this launch began to train in its work dir; None if it did not."""
    path = Path(cfg.work_dir, LAUNCH)
    is_own = path.is_file() and path.read_text() == launch_name()
    return path.stat().st_mtime if is_own else None


def _note_launch(cfg: Config) -> None:
    path = Path(cfg.work_dir, LAUNCH)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(launch_name())


def _batch_size(cfg: Config) -> int | None:
    loader = cfg.get('train_dataloader')
    return loader.get('batch_size') if isinstance(loader, dict) else None
