"""MMEngine's checkpoint hook, with whole files, exact states and checkpoints in between."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from mmengine.dist import is_main_process
from mmengine.hooks import CheckpointHook
from mmengine.runner import Runner

from resformer_mm.files import write_atomically
from resformer_mm.registry import HOOKS

from .whole_files import is_local

MARKER = 'last_checkpoint'
_INTERIM = 'interim_ckpt'


@HOOKS.register_module()
class ExactCheckpointHook(CheckpointHook):
    """:class:`mmengine.hooks.CheckpointHook` for runs that are continued exactly.

    ``tools/train.py`` uses it wherever a config says ``CheckpointHook``. What differs:

    - a checkpoint holds the states of all processes, see :class:`~resformer_mm.resuming.ExactResumeHook`;
    - older checkpoints are deleted after the new one is on the disk, not before;
    - checkpoints in between are saved every so many minutes, and when the run is stopped by a signal; each is
      deleted once a newer checkpoint is saved;
    - the best checkpoint of the run that a work dir was copied from is not deleted.

    Args:
        *args: see :class:`mmengine.hooks.CheckpointHook`.
        minutes: time between checkpoints, of which the regular ones count too; None saves none in between.
        **kwargs: see :class:`mmengine.hooks.CheckpointHook`.

    Raises:
        ValueError: ``minutes`` is not positive.
    """

    def __init__(self, *args: Any, minutes: float | None = None, **kwargs: Any) -> None:
        if minutes is not None and minutes <= 0:
            raise ValueError(f'default_hooks.checkpoint.minutes = {minutes} must be positive, or None')
        super().__init__(*args, **kwargs)
        self.minutes = minutes
        self.saved_iter = -1
        self._saved_at = time.monotonic()

    def before_train(self, runner: Runner) -> None:
        """Prepare the folder; see the base class."""
        super().before_train(runner)
        self._saved_at = time.monotonic()
        if not is_local(self.out_dir):
            return
        for leftover in Path(self.out_dir).glob('.*.partial.pth') if is_main_process() else ():
            leftover.unlink(missing_ok=True)  # of a run that was killed while it saved
        if self.save_best is None:
            return
        if len(self.key_indicators) == 1:
            best: str | None = self.best_ckpt_path  # type: ignore[has-type]
            self.best_ckpt_path = self._in_own_folder(best)
        else:
            for name, path in self.best_ckpt_path_dict.items():
                self.best_ckpt_path_dict[name] = self._in_own_folder(path)

    def _in_own_folder(self, path: str | None) -> str | None:
        """Return the path of a file of this run, in a folder that may have been moved or copied."""
        if path is None:
            return None
        moved = Path(self.out_dir, Path(path).name)
        return str(moved) if moved.is_file() else None

    @property
    def is_late(self) -> bool:
        """Whether the last checkpoint is older than ``minutes``."""
        return self.minutes is not None and time.monotonic() - self._saved_at > 60 * self.minutes

    def save_interim(self, runner: Runner, done: int) -> None:
        """Save a checkpoint in between.

        Args:
            runner: the runner.
            done: number of iterations that are done.
        """
        if self.saved_iter == done:
            return
        meta = {'epoch': runner.epoch, 'iter': done}
        if self.by_epoch:
            self._save(runner, f'iter_{done}.pth', meta, is_interim=True)
        else:
            self._save_checkpoint_with_step(runner, done, meta)

    def _save_checkpoint_with_step(self, runner: Runner, step: int, meta: dict) -> None:
        outdated = []
        if self.max_keep_ckpts > 0 and step not in self.keep_ckpt_ids:
            if len(self.keep_ckpt_ids) == self.max_keep_ckpts:
                outdated.append(self.filename_tmpl.format(self.keep_ckpt_ids[0]))
            self.keep_ckpt_ids.append(step)
            runner.message_hub.update_info('keep_ckpt_ids', list(self.keep_ckpt_ids))
        self._save(runner, self.filename_tmpl.format(step), meta)
        self._remove(outdated)

    def _save(self, runner: Runner, name: str, meta: dict, is_interim: bool = False) -> None:
        """Save a checkpoint, then the file that points to it, then delete the last one in between."""
        hub = runner.message_hub
        before = hub.get_info(_INTERIM) if _INTERIM in hub.runtime_info else None
        hub.update_info(_INTERIM, name if is_interim else None)
        self.last_ckpt = self.file_backend.join_path(self.out_dir, name)
        hub.update_info('last_ckpt', self.last_ckpt)
        runner.call_hook('collect_states')
        runner.save_checkpoint(
            self.out_dir,
            name,
            self.file_client_args,
            save_optimizer=self.save_optimizer,
            save_param_scheduler=self.save_param_scheduler,
            meta=meta,
            by_epoch=self.by_epoch,
            backend_args=self.backend_args,
            **self.args,
        )
        self.saved_iter, self._saved_at = meta['iter'], time.monotonic()
        if is_main_process():
            with write_atomically(Path(runner.work_dir, MARKER)) as partial:
                partial.write_text(str(self.last_ckpt))
        if before is not None and before != name:
            self._remove([before])

    def _remove(self, names: list[str]) -> None:
        for name in names if is_main_process() else []:
            path = self.file_backend.join_path(self.out_dir, name)
            if self.file_backend.isfile(path):
                self.file_backend.remove(path)
