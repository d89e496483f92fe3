"""Suppression of profiler messages. Every case runs in a separate interpreter."""

import re
import subprocess
import sys

CODE = """
import sys
import torch
from torch.profiler import ProfilerActivity, profile
from resformer_mm.compat.kineto import without_profiler_announcements

def run(fail=False):
    before = torch.ones(3)
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True):
        del before
        print('from inside', file=sys.stderr)
        if fail:
            raise SystemExit('a failure')
"""


MEMORY = 'Memory block of unknown size was allocated before the profiling started'


def run(code: str) -> list[str]:
    """Lines of the error stream, without what a CUDA build writes on a machine that has no driver."""
    command = [sys.executable, '-c', CODE + code]
    lines = subprocess.run(command, capture_output=True, text=True, timeout=120).stderr.splitlines()
    return [line for line in lines if not re.match(r'ERROR:.*DeviceProperties\.cpp.*gpuGetDeviceCount', line)]


def test_only_the_announcements_are_dropped() -> None:
    plain = run('run()')
    quiet = run('with without_profiler_announcements(): run()')
    assert any(MEMORY in line for line in plain)
    assert quiet == [
        line for line in plain if not line.startswith(('STAGE:', 'USDT:')) and MEMORY not in line
    ]
    assert 'from inside' in quiet


def test_the_stream_is_given_back_after_a_failure() -> None:
    lines = run('with without_profiler_announcements(): run(fail=True)')
    assert lines == ['from inside', 'a failure']


def test_what_comes_later_is_written_at_once() -> None:
    lines = run("""
with without_profiler_announcements():
    run()
print('later', file=sys.stderr)
""")
    assert lines[-2:] == ['from inside', 'later']
