"""Which process failed first, as the others find out."""

from __future__ import annotations

import os
import time

import pytest
from torch.distributed import HashStore, PrefixStore

from resformer_mm.processes import watch as module
from resformer_mm.processes.watch import Watch


@pytest.fixture
def watches(monkeypatch):
    """Function that starts the watches of some processes, all of them here."""
    for name, seconds in dict(BEAT=0.02, SUSPICION=0.2, SILENCE=0.4, GRACE=0.2).items():
        monkeypatch.setattr(module, name, seconds)
    started: list[Watch] = []

    def start(number: int) -> list[Watch]:
        store = HashStore()
        started.extend(Watch(PrefixStore('run', store), rank, number) for rank in range(number))
        for watch in started:
            watch._beat()
        for watch in started:
            watch.start()
        return started

    yield start
    for watch in started:
        watch.stop()


def kill(watch: Watch) -> None:
    """Let a process give no further sign of life."""
    watch._finish()


def test_an_error_is_passed_on(watches):
    first, second, third = watches(3)
    third.tell(ZeroDivisionError('by zero\nand more'))
    third.tell(ValueError('later'))
    expected = f'process {os.getpid()}) failed: ZeroDivisionError: by zero'
    for watch in (first, second):
        assert watch.cause().startswith('rank 2 (') and watch.cause().endswith(expected)


def test_a_process_that_is_killed_is_named(watches):
    first, second, third = watches(3)
    kill(second)
    cause = first.cause()
    assert cause.startswith('rank 1 (') and cause.endswith('was killed or is not connected any more')


def test_a_process_that_has_ended_is_named(watches):
    first, second = watches(2)
    second.stop()
    assert first.cause().endswith('has ended')


def test_nobody_is_lost(watches):
    first, _ = watches(2)
    assert 'no process is lost' in first.cause()


def test_the_store_is_gone(watches, monkeypatch):
    first, _ = watches(2)

    def fail(*_):
        raise RuntimeError('Connection reset by peer')

    monkeypatch.setattr(first, '_store', type('Store', (), dict(get=fail, set=fail))())
    assert 'the process that connects all others' in first.cause()


def ends(monkeypatch) -> list:
    """What processes say that end in the middle of their work."""
    said: list = []
    monkeypatch.setattr(module, 'print_log', lambda text, **_: said.append(text))
    monkeypatch.setattr(module, 'end_at_once', lambda: said.append('end'))
    return said


def wait_for(said: list) -> None:
    end = time.monotonic() + 10
    while 'end' not in said and time.monotonic() < end:
        time.sleep(0.02)


def test_a_process_that_waits_for_a_lost_one_ends(watches, monkeypatch):
    said = ends(monkeypatch)
    _, second = watches(2)
    start = time.monotonic()
    kill(second)  # the first one waits in an exchange
    wait_for(said)
    assert time.monotonic() - start > 0.4
    assert said[0].startswith('rank 1 (') and 'no sign of life' in said[0] and 'Rank 0 ends' in said[0]


def test_a_process_that_works_is_not_lost(watches, monkeypatch):
    said = ends(monkeypatch)
    _, second = watches(2)
    time.sleep(0.6)
    assert not said
    second.stop()  # it has done its work
    time.sleep(0.6)
    assert not said
