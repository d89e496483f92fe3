"""Signs of life of the processes of a run."""

from __future__ import annotations

import logging
import multiprocessing
import os
import platform
import sys
import threading
import time
from typing import NoReturn
from uuid import uuid4

from mmengine.dist import barrier, broadcast_object_list, get_dist_info
from mmengine.logging import print_log
from torch.distributed import PrefixStore, TCPStore

BEAT = 1.0  # seconds between two signs of life
SILENCE = 120.0  # seconds after which a process counts as lost
SUSPICION = 4.0  # the same, once a connection has broken
GRACE = 30.0  # seconds in which a process may end by itself once another has failed

_FAILURE, _NONE = 'failure', 'none'
_ENDED = 'ended'
_watch: Watch | None = None


class Watch:
    """The signs of life of all processes, in the store through which they were connected.

    A thread of every process writes a number each second and reads that of the next process. If that is
    silent for :data:`SILENCE`, or if any process has written that it failed, the processes end: by
    themselves, when they use a connection that is broken, or else :data:`GRACE` seconds later, because NCCL
    waits for a process that is lost.

    Args:
        store: store of all processes, for this purpose alone.
        rank: number of this process.
        world_size: number of processes.
    """

    def __init__(self, store: PrefixStore, rank: int, world_size: int) -> None:
        self.rank = rank
        self._store = store
        self._world_size = world_size
        self._name = f'rank {rank} ({platform.node()}, process {os.getpid()})'
        self._count = 0
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._run, name='watch', daemon=True)

    def start(self) -> None:
        """Write the first sign of life, and start the thread."""
        self._store.compare_set(_FAILURE, '', _NONE)  # unless another process has
        self._beat()
        self._thread.start()

    def tell(self, error: BaseException) -> None:
        """Tell the other processes why this one fails; the first to do so counts."""
        self._finish()
        first_line = f'{type(error).__name__}: {error}'.partition('\n')[0][:500]
        try:
            self._set_failure(f'{self._name} failed: {first_line}')
        except RuntimeError:  # the store is gone
            pass

    def stop(self) -> None:
        """Tell the other processes that this one has done its work."""
        if self._is_over.is_set():
            return
        self._finish()
        try:
            self._store.set(self._key(self.rank), f'{self._name}|{_ENDED}')
        except RuntimeError:  # the others were faster
            pass

    def cause(self) -> str:
        """Return which process failed first, and why, after a connection has broken.

        Waits for up to :data:`SUSPICION` seconds.
        """
        self._finish()
        try:
            return self._cause()
        except RuntimeError:
            return 'the process that connects all others (the first one, or its torchrun) has ended'

    def _cause(self) -> str:
        before = [self._read(rank) for rank in range(self._world_size)]
        end = time.monotonic() + SUSPICION
        while time.monotonic() < end:
            if failure := self._failure():
                return failure
            time.sleep(BEAT / 4)
        names = [
            name + (' has ended' if count == _ENDED else ' was killed or is not connected any more')
            for rank, (name, count) in enumerate(before)
            if rank != self.rank and self._read(rank) == (name, count)
        ]
        return ', '.join(names) or 'no process is lost, but one does not take part in the exchange'

    def _finish(self) -> None:
        self._is_over.set()
        self._thread.join(2 * BEAT)  # a thread that outlives Python may abort the process

    def _run(self) -> None:
        following = (self.rank + 1) % self._world_size
        seen, since = None, time.monotonic()
        try:
            while not self._is_over.wait(BEAT):
                self._beat()
                if self._failure():
                    self._end()
                    return
                name, count = self._read(following)
                if count != seen or count == _ENDED:
                    seen, since = count, time.monotonic()
                elif time.monotonic() - since > SILENCE:
                    self._set_failure(f'{name} has given no sign of life for {SILENCE:.0f} seconds')
        except RuntimeError:  # the store is gone
            return

    def _end(self) -> None:
        """End this process, unless it does so by itself."""
        if not self._is_over.wait(GRACE):
            print_log(lost_message(self._failure(), self.rank), logger='current', level=logging.ERROR)
            end_at_once()

    def _beat(self) -> None:
        self._count += 1
        self._store.set(self._key(self.rank), f'{self._name}|{self._count}')

    def _read(self, rank: int) -> tuple[str, str]:
        name, _, count = self._store.get(self._key(rank)).decode().rpartition('|')
        return name, count

    def _set_failure(self, text: str) -> None:
        self._store.compare_set(_FAILURE, _NONE, text)

    def _failure(self) -> str:
        text = self._store.get(_FAILURE).decode()
        return '' if text == _NONE else text

    @staticmethod
    def _key(rank: int) -> str:
        return f'rank_{rank}'


def end_at_once() -> NoReturn:
    """End this process with status 1, whatever its connections wait for."""
    for worker in multiprocessing.active_children():
        worker.terminate()
    logging.shutdown()
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    os._exit(1)


def lost_message(cause: str, rank: int) -> str:
    """Return what a process says that ends because another one failed."""
    return f'{cause}. Rank {rank} ends with it'


def start_watch() -> None:
    """Start the watch over the connected processes, unless it is running or there is one process."""
    global _watch
    rank, world_size = get_dist_info()
    if _watch is not None or world_size == 1:
        return
    # A connection of its own: in that of the processes, one may wait for another.
    client = TCPStore(os.environ['MASTER_ADDR'], int(os.environ['MASTER_PORT']), is_master=False)
    # The store of torchrun outlives a restart.
    name = [uuid4().hex]
    broadcast_object_list(name)
    _watch = Watch(PrefixStore(f'resformer_mm/{name[0]}', client), rank, world_size)
    _watch.start()
    barrier()  # all have given a sign of life


def stop_watch() -> None:
    """Stop it: this process has done its work."""
    if _watch is not None:
        _watch.stop()


def running_watch() -> Watch | None:
    """Return the watch; None if there is one process, or the processes are not connected."""
    return _watch
