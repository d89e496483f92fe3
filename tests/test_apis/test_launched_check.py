"""The check before a training of several processes, which end once the first of them has ended."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from mmengine.config import Config

from resformer_mm.apis import preflight
from resformer_mm.datasets.checks.report import CheckReport, Finding

FAULT = Finding('model.head', 'number of classes', 'is 7, but the data has 10')
NOTE = Finding('train_cfg', 'schedule', 'ends early', is_fault=False)

Start = Callable[[int, 'CheckReport | Exception'], 'tuple[str | int | Exception, str]']


@pytest.fixture
def start(monkeypatch, capsys) -> Start:
    """Run the check in one of two processes; return how it ends and what it says before the other knows."""

    def run(rank: int, outcome: CheckReport | Exception) -> tuple[str | int | Exception, str]:
        said = ''

        def check(cfg: Config, world_size: int) -> CheckReport:
            assert (rank, world_size) == (0, 2)
            if isinstance(outcome, Exception):
                raise outcome
            return outcome

        def broadcast(objects: list) -> None:
            nonlocal said
            said = capsys.readouterr().err
            if rank == 1:
                objects[0] = None if isinstance(outcome, Exception) else outcome

        monkeypatch.setenv('RANK', str(rank))
        monkeypatch.setenv('WORLD_SIZE', '2')
        monkeypatch.setattr(preflight, 'check_config', check)
        monkeypatch.setattr(preflight, 'start_processes', lambda cfg: None)
        monkeypatch.setattr(preflight, 'broadcast_object_list', broadcast)
        try:
            end = preflight.exit_if_unsound(Config(dict(launcher='pytorch')))
        except SystemExit as error:
            end = error.code
        except Exception as error:
            end = error
        return end, said

    return run


def test_a_fault(start: Start) -> None:
    end, said = start(0, CheckReport([FAULT]))
    assert end == 2 and 'model.head: is 7, but the data has 10' in said and '--no-check' in said
    assert start(1, CheckReport([FAULT])) == (2, '')


def test_a_note(start: Start) -> None:
    for rank in (0, 1):
        end, said = start(rank, CheckReport([NOTE]))
        assert 'train_cfg: ends early' in end and not said


def test_a_check_that_fails(start: Start) -> None:
    error = ImportError('mmpretrain is missing')
    end, said = start(0, error)
    assert end is error and 'ImportError: mmpretrain is missing' in said
    assert start(1, error) == (2, '')
