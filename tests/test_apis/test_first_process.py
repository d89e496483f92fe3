"""Only the first process speaks, before the processes are connected."""

from __future__ import annotations

import logging

import pytest
from mmengine.logging import MMLogger

from resformer_mm.apis.launchers import PLACES, let_first_process_speak


@pytest.mark.parametrize('rank', ['0', '1'])
@pytest.mark.parametrize('launcher', [*PLACES, 'none'])
def test_other_processes_log_errors_alone(launcher: str, rank: str, monkeypatch, capsys) -> None:
    monkeypatch.setattr(MMLogger, '_instance_dict', {})
    for name, value in zip(PLACES.get(launcher, PLACES['pytorch']), (rank, '2')):
        monkeypatch.setenv(name, value)
    let_first_process_speak(launcher)
    logger = MMLogger.get_current_instance()
    logger.warning('told')
    logger.log(logging.ERROR, 'wrong')
    said = [line.rpartition(' ')[2] for line in capsys.readouterr().out.splitlines()]
    # Without a launcher, runs are independent of each other.
    assert said == (['wrong'] if rank == '1' and launcher != 'none' else ['told', 'wrong'])
