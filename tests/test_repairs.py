"""The rule for problems of data from outside: one counted warning, or an error in strict mode."""

import logging
import os
import types

import pytest
import torch
import torch.utils.data

from resformer_mm import repairs


@pytest.fixture
def told(monkeypatch):
    """Return what is told, starting from nothing told."""
    lines = []
    monkeypatch.setattr(repairs, '_told', set())
    monkeypatch.setattr(repairs, 'print_log', lambda text, logger, level: lines.append((text, level)))
    return lines


def test_a_repair_is_told_once_with_its_count(told):
    for _ in range(3):
        repairs.repair('a.json', 'annotations without `iscrowd`: taken as 0', 7)
    repairs.repair('b.json', 'byte order mark: left out')
    assert told == [
        ('repaired: a.json: 7 annotations without `iscrowd`: taken as 0', logging.WARNING),
        ('repaired: b.json: byte order mark: left out', logging.WARNING),
    ]


def test_strict_mode_refuses_a_repair_and_allows_a_remark(told, monkeypatch):
    monkeypatch.setenv('RESFORMER_MM_STRICT_DATA', '0')  # and as it was, afterwards
    repairs.set_strict(True)
    assert repairs.is_strict()
    with pytest.raises(repairs.StrictError, match=r'a\.json: 7 annotations .* correct the file'):
        repairs.repair('a.json', 'annotations without `iscrowd`: taken as 0', 7)
    repairs.remark('a.json', 'half of the objects are crowd regions')
    repairs.remark('a.json', 'half of the objects are crowd regions')
    assert [text for text, _ in told] == ['a.json: half of the objects are crowd regions']


def test_remarks_of_one_key_are_told_once(told):
    for path in ('a.png', 'b.png'):
        repairs.remark(path, 'and possibly others', key='darkness')
    repairs.remark('c.png', 'and possibly others', key='another')
    assert [text for text, _ in told] == ['a.png: and possibly others', 'c.png: and possibly others']


def test_workers_that_are_not_forked_know_what_was_told(told, monkeypatch):
    """Such a worker imports the module anew and finds the memory by the environment."""
    monkeypatch.setattr(repairs, '_told_in_run', repairs._told_in_run.clone())
    monkeypatch.setenv(repairs._FILE, '')
    registered = []
    monkeypatch.setattr(
        repairs, 'Finalize', lambda _, function, args, **__: registered.append((function, *args))
    )
    for method in ('fork', 'spawn', 'spawn'):
        monkeypatch.setattr(repairs.multiprocessing, 'get_start_method', lambda method=method, **_: method)
        repairs.share_with_workers()
        assert bool(registered) == (method == 'spawn')  # a fork has the memory anyway
    repairs.remark('a.png', 'told by the run')
    parent = types.SimpleNamespace(pid=os.getpid())
    monkeypatch.setattr(repairs.multiprocessing, 'parent_process', lambda: parent)
    monkeypatch.setattr(torch.utils.data, 'get_worker_info', lambda: object())
    for _ in range(2):  # two workers
        monkeypatch.setattr(repairs, '_told', set())
        monkeypatch.setattr(repairs, '_told_in_run', torch.zeros(repairs._SLOTS, dtype=torch.uint8))
        repairs.remark('a.png', 'told by the run')
        repairs.remark('b.png', 'told by a worker')
    assert [text for text, _ in told] == ['a.png: told by the run', 'b.png: told by a worker']
    parent.pid += 1  # started by another process, which is another run
    repairs.remark('b.png', 'told by a worker')
    assert len(told) == 3
    [(remove, path, creator)] = registered
    remove(path, creator + 1)
    assert os.path.isfile(path)
    remove(path, creator)
    assert not os.path.exists(os.path.dirname(path))


class Telling(torch.utils.data.Dataset):
    """Tells the same for every sample."""

    def __len__(self):
        return 4

    def __getitem__(self, index):
        repairs.remark('a.png', 'read in a worker')
        return index


def test_workers_tell_once_for_all_and_for_all_epochs(capfd, monkeypatch):
    memory = torch.zeros(repairs._SLOTS, dtype=torch.uint8).share_memory_()
    monkeypatch.setattr(repairs, '_told_in_run', memory)
    monkeypatch.setattr(repairs, '_told', set())
    monkeypatch.setattr(repairs, 'print_log', lambda text, **_: print(text, flush=True))
    loader = torch.utils.data.DataLoader(Telling(), num_workers=1, multiprocessing_context='fork')
    for _ in range(2):
        assert len(list(loader)) == 4
    repairs.remark('a.png', 'read in a worker')  # and in the main process
    assert capfd.readouterr().out.splitlines() == ['a.png: read in a worker']
