"""Text of lists, sizes and tables."""

from __future__ import annotations

from resformer_mm.text import table


def test_columns_of_a_table_are_aligned() -> None:
    text = table(['', '64', '128'], [['a long name', 1.5, 'x'], ['[b]', '', 'y' * 300]], markdown=True)
    lines = text.split('\n')
    assert len({len(line) for line in lines}) == 1 and len(lines) == 4
    cells = [[cell.strip() for cell in line.strip('|').split('|')] for line in lines]
    assert cells[0] == ['', '64', '128'] and set(''.join(cells[1])) == {'-'}
    assert cells[2:] == [['a long name', '1.5', 'x'], ['[b]', '', 'y' * 300]]


def test_numbers_of_a_table_are_right_aligned() -> None:
    lines = table(['size', 'count'], [[1, 22], [333, 4]], markdown=True, justify='right').split('\n')
    assert lines[2:] == ['|    1 |    22 |', '|  333 |     4 |']
