"""torchrun with what the launch scripts add to it.

    python -m resformer_mm.processes.torchrun GPUS PROGRAM [ARGUMENTS] [--max-restarts N]

One machine gets a free port unless ``PORT`` is set. ``NNODES``, ``NODE_RANK``, ``MASTER_ADDR`` and ``PORT``
describe several. With ``--max-restarts`` or ``MAX_RESTARTS``, processes that fail are started again, and a
machine may leave and come back. A run that was stopped by a signal ends with the status of its processes.
"""

from __future__ import annotations

import os
import signal
import sys
import tempfile
from collections.abc import Mapping, Sequence

from torch.distributed import run
from torch.distributed.elastic.multiprocessing.api import SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError

from .launching import FOLDER, noted_status

FLAG = '--max-restarts'
DEFAULT_PORT = '29500'
USAGE_ERROR = 2  # status of a mistake that a program has explained


def split_restarts(arguments: Sequence[str], default: str) -> tuple[str, list[str]]:
    """Return the value of ``--max-restarts``, and the other arguments.

    Raises:
        ValueError: the value is missing or not a number.
    """
    value, others, words = default, [], iter(arguments)
    for word in words:
        name, is_joined, joined = word.partition('=')
        if name == FLAG:
            value = joined if is_joined else next(words, '')
        else:
            others.append(word)
    if not value.isdecimal():
        raise ValueError(f'{FLAG} (or MAX_RESTARTS) needs a number, not {value!r}')
    return value, others


def rendezvous(settings: Mapping[str, str], restarts: str) -> list[str]:
    """Return the options of torchrun that say how its processes find each other.

    Args:
        settings: variables of the environment.
        restarts: number of restarts.
    """
    nodes, port = settings.get('NNODES', '1'), settings.get('PORT')
    address = settings.get('MASTER_ADDR', '127.0.0.1')
    options = [f'--nnodes={nodes}', f'{FLAG}={restarts}']
    if nodes == '1' and port is None:
        # Without the address, torchrun takes the name of the machine, which may not be known to itself.
        return [*options, '--standalone', '--local_addr=127.0.0.1']
    if restarts == '0' and ':' not in nodes:
        rank = settings.get('NODE_RANK', '0')
        return [
            *options,
            f'--node_rank={rank}',
            f'--master_addr={address}',
            f'--master_port={port or DEFAULT_PORT}',
        ]
    # The ranks of machines may change.
    return [
        *options,
        '--rdzv_backend=c10d',
        f'--rdzv_endpoint={address}:{port or DEFAULT_PORT}',
        f'--rdzv_id={settings.get("RUN_ID", "resformer_mm")}',
    ]


def main(arguments: Sequence[str]) -> int:
    """Launch; return the exit status."""
    try:
        restarts, (processes, *program) = split_restarts(arguments, os.environ.get('MAX_RESTARTS', '0'))
    except ValueError as error:
        print(f'error: {error}', file=sys.stderr)
        return USAGE_ERROR
    # Else a machine that comes back as the first one would not be found by the others.
    os.environ.setdefault('TORCH_DISABLE_SHARE_RDZV_TCP_STORE', '1')
    signal.signal(signal.SIGUSR1, lambda number, frame: os.kill(os.getpid(), signal.SIGTERM))
    with tempfile.TemporaryDirectory(prefix='resformer_mm_') as folder:
        os.environ[FOLDER] = folder
        status = _run([*rendezvous(os.environ, restarts), f'--nproc_per_node={processes}', *program])
        noted = noted_status(folder)
    return status if noted is None else noted


def _run(arguments: list[str]) -> int:
    try:
        run.main(arguments)
    except ChildFailedError as error:
        _, failure = error.get_first_failure()
        if failure.exitcode == USAGE_ERROR:
            print(f'{error.name} has ended with status {USAGE_ERROR}, see above', file=sys.stderr)
            return USAGE_ERROR
        print(error, file=sys.stderr)
        return 1
    except SignalException as error:
        return 128 + error.sigval
    return 0


if __name__ == '__main__':
    sys.exit(main(sys.argv[1:]))
