"""Batches are those of a literal grouping, and files that cannot be read are left out of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from resformer_mm.inference.pipelines import BatchReader, InputPipeline
from resformer_mm.inference.sources import ImageSources, InputError, Source


class SizePipeline(InputPipeline):
    """Prepares zeros of the size that the file's name says, ``32.png``; other names cannot be read."""

    def read(self, source: Source) -> dict:
        return dict(side=int(Path(source.path).stem))

    def pixels(self, results: dict) -> np.ndarray:
        return np.full((1, 1, 3), results['side'], np.uint8)

    def prepare(self, results: dict) -> dict:
        results['side'] *= 2  # in place, as transforms may
        return dict(inputs=torch.zeros(3, results['side'] // 2, 8))


def literal_groups(sides: list[int], batch_size: int, mixes: bool) -> list[list[int]]:
    """Return the batches, by growing the last one as long as it has room and the size fits."""
    groups: list[list[int]] = []
    for side in sides:
        if groups and len(groups[-1]) < batch_size and (mixes or groups[-1][0] == side):
            groups[-1].append(side)
        else:
            groups.append([side])
    return groups


def read(names: list[str], batch_size: int, mixes: bool, optional: bool = True) -> tuple[list, list[dict]]:
    sources = [Source(f'{name}.png', optional=optional) for name in names]
    skipped: list[dict] = []
    reader = BatchReader(ImageSources(), SizePipeline(), list, mixes)
    return list(reader.batches(sources, batch_size, skipped)), skipped


@pytest.mark.parametrize('mixes', [False, True])
@pytest.mark.parametrize('batch_size', [1, 2, 3, 8])
def test_neighbours_that_fit_go_together(batch_size: int, mixes: bool) -> None:
    rng = np.random.default_rng(batch_size)
    sides = rng.choice([8, 16], 40, p=[0.7, 0.3]).tolist()
    batches, skipped = read(list(map(str, sides)), batch_size, mixes)
    groups = [[data['inputs'].shape[1] for data in batch.data] for batch in batches]
    assert groups == literal_groups(sides, batch_size, mixes) and not skipped
    for batch, group in zip(batches, groups):
        assert [int(Path(source.path).stem) for source in batch.sources] == group
        assert [int(pixels[0, 0, 0]) for pixels in batch.pixels] == group  # as read, not as prepared


def test_unreadable_files_of_a_folder_do_not_break_a_batch() -> None:
    batches, skipped = read(['8', 'a', '8', 'b'], 2, False)
    assert [[source.path for source in batch.sources] for batch in batches] == [['8.png', '8.png']]
    assert [entry['path'] for entry in skipped] == ['a.png', 'b.png']
    assert skipped[0]['reason'] == "ValueError: invalid literal for int() with base 10: 'a'"
    assert read(['a'], 2, False)[0] == []
    with pytest.raises(InputError, match=r'cannot read a\.png \(ValueError: .*repair or replace the file'):
        read(['8', 'a'], 2, False, optional=False)
