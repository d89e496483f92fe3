"""What a process knows of its launcher."""

from __future__ import annotations

import pytest

from resformer_mm.processes import exit_status, is_restarted, launch_name
from resformer_mm.processes.launching import noted_status

VARIABLES = ('TORCHELASTIC_RESTART_COUNT', 'SLURM_RESTART_COUNT', 'TORCHELASTIC_RUN_ID', 'SLURM_JOB_ID')


@pytest.fixture
def environment(monkeypatch):
    """Function that sets the variables of a process, which asks for the first time."""

    def change(**variables: str) -> None:
        for name in (*VARIABLES, 'LOCAL_RANK', 'RESFORMER_MM_LAUNCH'):
            monkeypatch.delenv(name, raising=False)
        for name, value in variables.items():
            monkeypatch.setenv(name, str(value))
        is_restarted.cache_clear()

    yield change
    is_restarted.cache_clear()


def test_launchers_count_restarts(environment):
    environment()
    assert not is_restarted()
    for name in VARIABLES[:2]:
        environment(**{name: '0'})
        assert not is_restarted()
        environment(**{name: '2'})
        assert is_restarted()


def test_a_machine_that_joined_restarts_the_processes_without_counting(environment, tmp_path):
    torchrun = dict(RESFORMER_MM_LAUNCH=tmp_path, TORCHELASTIC_RUN_ID='a', TORCHELASTIC_RESTART_COUNT='0')
    for rank in ('0', '1'):
        environment(LOCAL_RANK=rank, **torchrun)
        assert not is_restarted() and not is_restarted()
    assert exit_status(85) == 0 and noted_status(tmp_path) == 85
    environment(LOCAL_RANK='0', **torchrun)
    assert is_restarted()
    assert noted_status(tmp_path) is None  # that of the processes before
    environment(RESFORMER_MM_LAUNCH=tmp_path, LOCAL_RANK='0', SLURM_JOB_ID='7')  # all tasks have one folder
    assert not is_restarted()


def test_a_status_without_a_launcher_that_waits_for_it(environment):
    environment()
    assert exit_status(85) == 85


def test_a_launch_keeps_its_name(environment):
    environment(TORCHELASTIC_RUN_ID='a')
    assert launch_name() == 'torchrun a'
    environment(TORCHELASTIC_RUN_ID='a', SLURM_JOB_ID='7')
    assert launch_name() == 'slurm 7'
