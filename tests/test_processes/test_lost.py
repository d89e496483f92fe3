"""Processes that end because another one failed."""

from __future__ import annotations

import os
import signal
import sys
from datetime import timedelta
from pathlib import Path

import pytest
import torch
from runs import copies, free_port

from resformer_mm.processes import run_main, start_watch
from resformer_mm.processes.lost import is_broken_connection


def work(rank: int, port: str, folder: Path, fault: str) -> None:
    """Be one of two processes, the second of which fails while the first waits for it."""
    os.environ.update(MASTER_ADDR='127.0.0.1', MASTER_PORT=port, RANK=str(rank), WORLD_SIZE='2')
    os.dup2(os.open(folder / f'{rank}.txt', os.O_WRONLY | os.O_CREAT), 2)
    os.dup2(2, 1)
    sys.stderr = sys.stdout = os.fdopen(2, 'w')

    def main() -> None:
        torch.distributed.init_process_group('gloo', timeout=timedelta(seconds=600))
        start_watch()
        if rank == 1 and fault == 'error':
            raise ZeroDivisionError('division by zero')
        if rank == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        torch.distributed.all_reduce(torch.zeros(1))

    run_main(main)


@pytest.mark.parametrize(
    ('fault', 'status', 'cause'),
    [
        ('error', 1, 'failed: ZeroDivisionError: division by zero. Rank 0 ends with it'),
        ('kill', -signal.SIGKILL, 'was killed or is not connected any more. Rank 0 ends with it'),
    ],
)
def test_the_others_say_in_one_line_why_they_end(tmp_path, fault, status, cause):
    port = free_port()
    processes = [copies().Process(target=work, args=(rank, port, tmp_path, fault)) for rank in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(120)  # far less than the time limit of the exchange
    assert [process.exitcode for process in processes] == [1, status]
    first, second = ((tmp_path / f'{rank}.txt').read_text() for rank in range(2))
    lines = [line for line in first.splitlines() if 'Gloo' not in line]  # what gloo says when it connects
    assert len(lines) == 1 and 'rank 1 (' in lines[0] and lines[0].endswith(cause), first
    assert ('Traceback' in second) == (fault == 'error')


GLOO = '[/third_party/gloo/gloo/transport/tcp/pair.cc:537] Read error [127.0.0.1]:1: Connection reset by peer'


def test_errors_of_connections():
    assert is_broken_connection(RuntimeError(GLOO))
    assert is_broken_connection(RuntimeError('NCCL error: remote process exited'))
    assert not is_broken_connection(RuntimeError('mat1 and mat2 shapes cannot be multiplied'))
    assert not is_broken_connection(ConnectionError(GLOO))  # such as that of a file server
    later = RuntimeError('DataLoader worker (pid 1) is killed by signal: Terminated.')
    later.__context__ = RuntimeError(GLOO)
    assert is_broken_connection(later)


def test_one_process_keeps_its_error():
    def fail() -> None:
        raise RuntimeError(GLOO)

    with pytest.raises(RuntimeError, match='Connection reset'):
        run_main(fail)
