"""The rule for problems of data from outside: one counted warning, or an error in strict mode."""

import logging

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


class Telling(torch.utils.data.Dataset):
    """Tells the same for every sample."""

    def __len__(self):
        return 4

    def __getitem__(self, index):
        repairs.remark('a.png', 'read in a worker')
        return index


def test_workers_tell_once_for_all_and_for_all_epochs(capfd, monkeypatch):
    monkeypatch.setattr(repairs, '_told_by_workers', torch.zeros(64, dtype=torch.uint8).share_memory_())
    monkeypatch.setattr(repairs, 'print_log', lambda text, **_: print(text, flush=True))
    loader = torch.utils.data.DataLoader(Telling(), num_workers=1, multiprocessing_context='fork')
    for _ in range(2):
        assert len(list(loader)) == 4
    assert capfd.readouterr().out.splitlines() == ['a.png: read in a worker']
