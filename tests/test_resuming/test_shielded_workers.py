"""Loader workers and signals."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import time

import pytest
from torch.utils.data import DataLoader

from resformer_mm.resuming.shielded_workers import shield_workers


@pytest.mark.skipif(not hasattr(signal, 'sigwaitinfo'), reason='without sigwaitinfo, as on macOS')
def test_a_worker_obeys_the_process_that_it_works_for_alone():
    told = multiprocessing.get_context('fork').SimpleQueue()
    loader = DataLoader(
        list(range(40)),
        num_workers=1,
        prefetch_factor=1,
        multiprocessing_context='fork',
        worker_init_fn=lambda number: told.put((number, os.getpid())),
    )
    shield_workers(loader)
    shield_workers(loader)  # once is enough
    batches = iter(loader)
    next(batches)
    number, worker = told.get()
    assert number == 0 and told.empty()
    for name in ('TERM', 'USR1', 'INT'):
        subprocess.run(['kill', f'-{name}', str(worker)], check=True)
    time.sleep(0.2)
    assert len(list(batches)) == 39
    others = set(multiprocessing.active_children())
    batches = iter(loader)
    next(batches)
    (process,) = set(multiprocessing.active_children()) - others
    process.terminate()
    process.join(10)
    assert process.exitcode == 0
