"""What the launcher asks torchrun for, and how it ends."""

from __future__ import annotations

import signal
import sys

import pytest
from runs import run
from torch.distributed.elastic.multiprocessing.api import SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError, ProcessFailure

from resformer_mm.processes import exit_status, torchrun
from resformer_mm.processes.torchrun import main, rendezvous, split_restarts

ALONE = ['--standalone', '--local_addr=127.0.0.1']
STATIC = ['--nnodes=2', '--max-restarts=0', '--node_rank=1', '--master_addr=10.0.0.1', '--master_port=29500']
DYNAMIC = ['--rdzv_backend=c10d', '--rdzv_endpoint=10.0.0.1:1234', '--rdzv_id=resformer_mm']


@pytest.mark.parametrize(
    ('settings', 'restarts', 'options'),
    [
        ({}, '0', ['--nnodes=1', '--max-restarts=0', *ALONE]),
        ({}, '3', ['--nnodes=1', '--max-restarts=3', *ALONE]),
        (dict(NNODES='2', NODE_RANK='1', MASTER_ADDR='10.0.0.1'), '0', STATIC),
        (
            dict(PORT='1234'),
            '0',
            [
                '--nnodes=1',
                '--max-restarts=0',
                '--node_rank=0',
                '--master_addr=127.0.0.1',
                '--master_port=1234',
            ],
        ),
        (
            dict(NNODES='2', NODE_RANK='1', MASTER_ADDR='10.0.0.1', PORT='1234'),
            '3',
            ['--nnodes=2', '--max-restarts=3', *DYNAMIC],
        ),
        (
            dict(NNODES='1:2', MASTER_ADDR='10.0.0.1', PORT='1234'),
            '0',
            ['--nnodes=1:2', '--max-restarts=0', *DYNAMIC],
        ),
    ],
)
def test_how_the_processes_find_each_other(settings, restarts, options):
    assert rendezvous(settings, restarts) == options


@pytest.mark.parametrize('flag', [['--max-restarts', '2'], ['--max-restarts=2']])
def test_restarts_may_be_asked_for_anywhere(flag):
    assert split_restarts(['8', *flag, 'train.py', '--resume'], '0') == ('2', ['8', 'train.py', '--resume'])
    assert split_restarts(['8', 'train.py', *flag], '0') == ('2', ['8', 'train.py'])


@pytest.mark.parametrize('words', [['8', '--max-restarts'], ['8', '--max-restarts=many']])
def test_restarts_that_are_not_a_number(words, capsys):
    assert main(words) == 2
    assert '--max-restarts (or MAX_RESTARTS) needs a number' in capsys.readouterr().err


@pytest.fixture
def end(monkeypatch):
    """Function that runs the launcher up to an end of its processes, and returns its status."""

    def run_to(error: Exception | None, status: int | None = None) -> int:
        def launch(arguments):
            assert arguments[-2:] == ['--nproc_per_node=2', 'train.py']
            if status is not None:
                assert exit_status(status) == 0
            if error is not None:
                raise error

        monkeypatch.setattr(torchrun.run, 'main', launch)
        return main(['2', 'train.py'])

    monkeypatch.setenv('RESFORMER_MM_LAUNCH', '')
    monkeypatch.setenv('TORCH_DISABLE_SHARE_RDZV_TCP_STORE', '')
    before = signal.getsignal(signal.SIGUSR1)
    yield run_to
    signal.signal(signal.SIGUSR1, before)


def failure(status: int) -> ChildFailedError:
    """Return the error of torchrun whose second process ended with a status first."""
    failures = {0: ProcessFailure(0, 122, -15, 'none'), 1: ProcessFailure(1, 123, status, 'none')}
    failures[0].timestamp, failures[1].timestamp = 20, 10
    return ChildFailedError('train.py', failures)


def test_how_the_launcher_ends(end, capsys):
    assert end(None) == 0
    assert end(failure(-9)) == 1
    assert 'Signal 9 (SIGKILL) received by PID 123' in capsys.readouterr().err
    assert end(failure(2)) == 2  # explained by the program
    assert capsys.readouterr().err == 'train.py has ended with status 2, see above\n'
    stopped = SignalException('stopped', signal.SIGTERM)
    assert end(stopped) == 143
    assert end(stopped, status=85) == end(None, status=85) == 85


PROGRAM = """
import os, signal
from resformer_mm.processes import is_restarted
first = not is_restarted()
print('first' if first else 'again', is_restarted(), os.environ['MASTER_PORT'], flush=True)
if first:
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.slow
def test_a_process_that_is_killed_is_started_again(tmp_path):
    (tmp_path / 'program.py').write_text(PROGRAM)
    words = [sys.executable, '-m', 'resformer_mm.processes.torchrun', '1', 'program.py', '--max-restarts', 1]
    result = run(words, tmp_path, tmp_path)
    assert result.returncode == 0, result.stderr
    words = result.stdout.split()
    assert words[:2] + words[3:5] == ['first', 'False', 'again', 'True'] and '29500' not in words
