"""Files from strangers: none runs code, fills the memory or writes outside its folder."""

from __future__ import annotations

import re
import resource
import signal
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parents[1] / 'benchmarks'))

from hostile_cases import possible_cases  # noqa: E402
from hostile_cases.case import run_case  # noqa: E402

MEMORY = 2**30  # bytes besides those in use
SECONDS = 10


@pytest.fixture
def limits(monkeypatch) -> Iterator[None]:
    """Limit memory and time, and what a small checkpoint may take."""
    monkeypatch.setattr('resformer_mm.compat.memory_limits.SLACK', 2**22)
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    used = int(Path('/proc/self/statm').read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY, hard))
    signal.signal(signal.SIGALRM, _too_slow)
    signal.alarm(SECONDS)
    yield
    signal.alarm(0)
    resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


def _too_slow(*_: object) -> None:
    raise TimeoutError('the time is over')


@pytest.mark.skipif(not sys.platform.startswith('linux'), reason='measures memory by /proc')
@pytest.mark.parametrize('case', possible_cases(), ids=lambda case: f'{case.kind}: {case.file}')
def test_a_hostile_file(case, limits: None, tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        found = run_case(case, tmp_path)
    assert found.startswith(f'{case.outcome}: '), found
    assert re.search(case.reason, found), found
    assert 'the time is over' not in found
