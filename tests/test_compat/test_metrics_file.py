"""Only the first process writes the metrics of a test."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import pytest
from mmengine.hooks import Hook, LoggerHook

from resformer_mm.compat.metrics_file import write_metrics_once


class OwnLoggerHook(LoggerHook):
    def after_test_epoch(self, runner, metrics=None) -> None:
        Path(runner.log_dir, 'own.txt').touch()


def finish_test(folder: Path, *hooks: Hook) -> SimpleNamespace:
    runner = SimpleNamespace(
        hooks=list(hooks),
        log_dir=str(folder),
        test_dataloader=[],
        logger=SimpleNamespace(info=lambda text: None),
        log_processor=SimpleNamespace(get_log_after_epoch=lambda *_, **__: ({'mIoU': 0.5}, 'text')),
    )
    write_metrics_once(runner)
    for hook in hooks:
        hook.json_log_path = 'metrics.json'
        hook.after_test_epoch(runner)
    return runner


@pytest.mark.parametrize('rank', [0, 1])
def test_the_first_process_writes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rank: int) -> None:
    monkeypatch.setattr('mmengine.dist.utils.get_rank', lambda group=None: rank)
    finish_test(tmp_path, LoggerHook())
    assert [path.name for path in tmp_path.iterdir()] == ['metrics.json'] * (rank == 0)
    if rank == 0:
        assert json.loads((tmp_path / 'metrics.json').read_text()) == {'mIoU': 0.5}


def test_other_hooks_are_not_changed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr('mmengine.dist.utils.get_rank', lambda group=None: 1)
    hooks = finish_test(tmp_path, OwnLoggerHook(), Hook()).hooks
    assert [type(hook) for hook in hooks] == [OwnLoggerHook, Hook]
    assert (tmp_path / 'own.txt').exists()
