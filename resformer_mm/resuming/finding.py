"""The checkpoint that an interrupted training goes on from."""

from __future__ import annotations

import logging
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.logging import print_log

from resformer_mm.checkpoints.reading import CheckpointError, read_content

from .checkpoint_hook import MARKER
from .exact_resume import ENTRY


def checkpoint_folder(cfg: Config) -> Path:
    """Return the folder that a run saves its checkpoints in."""
    work_dir = Path(cfg.work_dir)
    hook = (cfg.get('default_hooks') or {}).get('checkpoint') or {}
    out_dir = hook.get('out_dir')
    return work_dir if out_dir is None else Path(out_dir, work_dir.absolute().name)


def find_resumable(cfg: Config, since: float = 0) -> tuple[Path, Any] | None:
    """Return the newest checkpoint of a run that is whole, with its content; None if the run saved none.

    The folder may have been moved or copied: a checkpoint in it is preferred to the one whose path was noted.

    Args:
        cfg: config of the run.
        since: time of modification that a checkpoint must have at least.

    Raises:
        CheckpointError: there are checkpoints, but none can be read.
    """
    refused = []
    for path in _candidates(cfg):
        if path.stat().st_mtime < since:
            continue
        try:
            content = read_whole(path)
            check_resumable(path, content)
        except CheckpointError as error:
            refused.append(error)
            print_log(f'Resuming: {error}. The checkpoint before it is tried', 'current', logging.ERROR)
            continue
        return path, content
    if refused:
        raise CheckpointError(
            f'none of the {len(refused)} checkpoints in {checkpoint_folder(cfg)} can be read. The newest: '
            f'{refused[0]}'
        )
    return None


def read_whole(path: Path) -> Any:
    """Return the content of a checkpoint after comparing its check sums, which PyTorch does not.

    Raises:
        CheckpointError: the file cannot be read, or its content was changed.
    """
    content = read_content(path)
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()
        if damaged is not None:
            raise CheckpointError(f'{path} is damaged: the check sum of {damaged} is wrong. Copy it again')
    return content


def _candidates(cfg: Config) -> Iterator[Path]:
    """Yield the files, the newest first."""
    folder, marker = checkpoint_folder(cfg), Path(cfg.work_dir, MARKER)
    first = None
    if marker.is_file():
        noted = Path(marker.read_text().strip())
        first = next((path for path in (folder / noted.name, noted) if path.is_file()), None)
        if first is not None:
            yield first
    others = [path for path in folder.glob('*.pth') if not path.name.startswith(('.', 'best_'))]
    others.sort(key=lambda path: path.stat().st_mtime, reverse=True)
    yield from (path for path in others if path != first)


def check_resumable(path: str | Path, content: Any) -> None:
    """Check that a training can go on from the content of a checkpoint.

    Raises:
        CheckpointError: it has no state of an optimiser or no position.
    """
    missing = [
        name for name in ('meta', 'optimizer') if not isinstance(content, Mapping) or name not in content
    ]
    if missing:
        raise CheckpointError(
            f'{path} has no {" and no ".join(missing)}, like files of the best epoch, of published models or '
            'of `save_optimizer=False`: training cannot go on from it. Take another checkpoint, or start a '
            f'new training from its weights: --cfg-options load_from={path}, without --resume'
        )


def keep_total_batch(cfg: Config, content: Mapping, world_size: int, is_restart: bool = False) -> None:
    """Change the samples per process, so that with another number of processes a batch has as many in all.

    Args:
        cfg: config of the run, which is changed.
        content: content of the checkpoint.
        world_size: number of processes.
        is_restart: whether the config is that of the launch which saved the checkpoint. Otherwise, a size
            that differs from that of the checkpoint was chosen for this number of processes.
    """
    saved, loader = content.get(ENTRY), cfg.get('train_dataloader')
    if not isinstance(saved, Mapping) or not isinstance(loader, dict):
        return
    before = len(saved['ranks'])
    is_chosen = loader.get('batch_size') != saved['batch_size'] and not is_restart
    if is_chosen or before == world_size and not is_restart:
        return
    total = saved['batch_size'] * before
    if total % world_size == 0:
        loader['batch_size'] = total // world_size
