"""Only the first process speaks, before the processes are connected."""

from __future__ import annotations

import logging

import pytest
from mmengine.logging import MMLogger

from resformer_mm.apis.processes import let_first_process_speak


@pytest.mark.parametrize(
    ('launcher', 'variable', 'rank', 'says'),
    [
        ('pytorch', 'RANK', '0', ['told', 'wrong']),
        ('pytorch', 'RANK', '1', ['wrong']),
        ('slurm', 'SLURM_PROCID', '3', ['wrong']),
        ('mpi', 'OMPI_COMM_WORLD_RANK', '1', ['wrong']),
        ('none', 'RANK', '1', ['told', 'wrong']),  # independent runs
    ],
)
def test_other_processes_log_errors_alone(launcher, variable, rank, says, monkeypatch, capsys) -> None:
    monkeypatch.setattr(MMLogger, '_instance_dict', {})
    monkeypatch.setenv(variable, rank)
    let_first_process_speak(launcher)
    logger = MMLogger.get_current_instance()
    logger.warning('told')
    logger.log(logging.ERROR, 'wrong')
    assert [line.rpartition(' ')[2] for line in capsys.readouterr().out.splitlines()] == says
