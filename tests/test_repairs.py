"""The rule for problems of data from outside: one counted warning, or an error in strict mode."""

import logging

import pytest

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
