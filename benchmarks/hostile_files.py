"""What becomes of hostile files.

    python benchmarks/hostile_files.py

Every file is read in a separate process, with limits of memory and time. The table says what the file was
meant to do, what happened, and how much memory and time that took. The exit status
is 0 if none reached its aim.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import re
import resource
import sys
import time
import warnings
from multiprocessing.connection import Connection
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from hostile_cases import possible_cases
from hostile_cases.case import Case, run_case

from resformer_mm.files import write_csv
from resformer_mm.progress import track

SECONDS = 60
MEMORY = 4 * 2**30


def main() -> int:
    """Read all files, print the table and write it as CSV."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--only', default='', help='regular expression of the kind and file')
    parser.add_argument('--out', type=Path, help='CSV file to write')
    args = parser.parse_args()
    torch.set_num_threads(1)
    rows = []
    chosen = [case for case in possible_cases() if re.search(args.only, f'{case.kind}: {case.file}')]
    for case in track(chosen, 'files'):
        rows.append(measure(case))
        print(' | '.join(map(str, rows[-1].values())), flush=True)
    if args.out is not None:
        write_csv(args.out, rows)
    failed = [row['file'] for row in rows if row['outcome'] == 'FAILED']
    print(f'{len(rows)} files, {len(failed)} reached their aim {failed}')
    return int(bool(failed))


def measure(case: Case) -> dict:
    """Read a file in a new process."""
    context = multiprocessing.get_context('fork')
    receiver, sender = context.Pipe(duplex=False)
    with TemporaryDirectory() as folder:
        process = context.Process(target=_read, args=(case, Path(folder), sender))
        start = time.perf_counter()
        process.start()
        sender.close()
        ended = receiver.poll(SECONDS)
        try:
            text, memory = receiver.recv() if ended else ('FAILED: it took too long', 0)
        except EOFError:
            process.join()
            text, memory = f'FAILED: it ended the process ({process.exitcode})', 0
        seconds = time.perf_counter() - start
        process.kill()
        process.join()
    outcome, _, reason = text.partition(': ')
    if outcome != 'FAILED' and (outcome != case.outcome or not re.search(case.reason, reason)):
        outcome = 'FAILED'
    return {
        'kind': case.kind,
        'file': case.file,
        'attack': case.attack,
        'outcome': outcome,
        'what is said': reason[:160],
        'MiB': memory // 1024,
        'seconds': f'{seconds:.1f}',
    }


def _read(case: Case, folder: Path, sender: Connection) -> None:
    warnings.simplefilter('ignore')
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stderr.fileno())  # decoders write there
    used = int(Path('/proc/self/statm').read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY, used + MEMORY))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    text = run_case(case, folder)
    sender.send((text, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before))


if __name__ == '__main__':
    sys.exit(main())
