"""Data of a test that cannot be read."""

from __future__ import annotations

from pathlib import Path

import pytest
from mmengine.config import Config
from mmengine.registry import init_default_scope
from runs import write_data

from resformer_mm.apis import DataError, build_test_loop


class BrokenRunner:
    """A runner whose loop cannot be built."""

    def __init__(self, cfg: Config) -> None:
        self.cfg = cfg

    @property
    def test_loop(self) -> None:
        raise KeyError('area')


@pytest.fixture(autouse=True)
def scope() -> None:
    init_default_scope('mmpretrain')


def runner_of(root: Path, **kind: str) -> BrokenRunner:
    dataset = dict(data_root=str(root), pipeline=[], **kind)
    loader = dict(batch_size=1, dataset=dataset, sampler=dict(type='DefaultSampler'))
    model = dict(type='ImageClassifier')
    return BrokenRunner(Config(dict(default_scope='mmpretrain', model=model, test_dataloader=loader)))


def test_the_data_set_that_reads_them_is_named(tmp_path: Path) -> None:
    remedy = "there is no folder .*nowhere|type='resformer_mm.ImageFolder' repairs"
    with pytest.raises(DataError, match=f'^test_dataloader: FileNotFoundError: .*({remedy})'):
        build_test_loop(runner_of(tmp_path / 'nowhere', type='CustomDataset'))


def test_other_errors_stay(tmp_path: Path) -> None:
    write_data(tmp_path, num_train=2, num_val=2, num_classes=2)
    with pytest.raises(KeyError, match='area'):
        build_test_loop(runner_of(tmp_path / 'val', type='CustomDataset'))
