"""Evaluation of several resolutions in one pass equals that of one after the other, for every task."""

from __future__ import annotations

import json
import pickle
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from clip_files import write_clip
from detection_files import write_coco
from mmengine.config import Config
from mmengine.structures import BaseDataElement
from PIL import Image
from runs import run_tool_in_processes, succeed, write_config, write_data
from segmentation_files import write_pairs
from small_models import classifier, detector, recognizer, save_checkpoint, segmentor

from resformer_mm.apis import (
    build_runner,
    build_test_runner,
    load_model,
    make_test_config,
    make_train_config,
)
from resformer_mm.engine.dump import DumpPredictions

RESOLUTIONS = [48, 32, 80]


def classification(root: Path) -> Config:
    cfg = classifier(3, data_root=str(root))
    for number in range(7):
        pixels = np.random.default_rng(number).integers(0, 256, (50 + number, 70, 3), dtype=np.uint8)
        (root / str(number % 3)).mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(root / str(number % 3) / f'{number}.png')
    cfg.test_evaluator = dict(type='Accuracy', topk=(1, 2))
    cfg.test_dataloader.update(batch_size=4)
    return cfg


def segmentation(root: Path) -> Config:
    cfg = segmentor(3)
    write_pairs(root, names=[str(number) for number in range(3)])
    prefix = dict(img_path='images/training', seg_map_path='annotations/training')
    cfg.test_dataloader.dataset.update(
        type='resformer_mm.ADE20K',
        metainfo=dict(classes=('wall', 'building', 'sky')),
        data_root=str(root),
        data_prefix=prefix,
        reduce_zero_label=True,
    )
    cfg.test_evaluator = dict(type='IoUMetric', iou_metrics=['mIoU'])
    return cfg


def detection(root: Path) -> Config:
    cfg = detector()
    write_coco(root, num_images=5)
    file = 'annotations/instances_train2017.json'
    cfg.test_dataloader.dataset.update(
        type='resformer_mm.COCO',
        data_root=str(root),
        ann_file=file,
        data_prefix=dict(img='train2017'),
        test_mode=True,
    )
    cfg.test_evaluator = dict(type='CocoMetric', ann_file=str(root / file), metric=['bbox', 'segm'])
    return cfg


def video(root: Path) -> Config:
    cfg = recognizer()
    for number in range(3):
        write_clip(root / f'{number}.mp4', 8 + number)
    (root / 'list.txt').write_text(''.join(f'{number}.mp4 {number}\n' for number in range(3)))
    dataset = dict(ann_file=str(root / 'list.txt'), data_prefix=dict(video=str(root)), test_mode=True)
    cfg.test_dataloader.dataset.update(dataset)
    cfg.test_dataloader.update(batch_size=2)
    cfg.test_evaluator = dict(type='AccMetric')
    return cfg


TASKS = {
    # Readers of files, and how many files there are.
    'classification': (classification, 'resformer_mm.datasets.loading.LoadImage', 7),
    'segmentation': (segmentation, 'mmcv.transforms.LoadImageFromFile', 3),
    'detection': (detection, 'mmcv.transforms.LoadImageFromFile', 5),
    'video': (video, 'mmaction.datasets.transforms.loading.DecordDecode', 3),
}


def same(one: Any, other: Any) -> bool:
    """Whether two values are equal bit for bit."""
    if isinstance(one, BaseDataElement):
        return same(one.to_dict(), other.to_dict()) and same(one.metainfo, other.metainfo)
    if isinstance(one, (torch.Tensor, np.ndarray)):
        return type(one) is type(other) and one.shape == other.shape and bool((one == other).all())
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, (list, tuple)):
        return len(one) == len(other) and all(map(same, one, other))
    return bool(one == other) or (one != one and other != other)


@pytest.mark.parametrize('task', TASKS)
@pytest.mark.parametrize('num_workers', [0, 2])
def test_metrics_and_predictions_are_the_same(
    task: str, num_workers: int, tmp_path: Path, monkeypatch
) -> None:
    make, reader, number = TASKS[task]
    cfg = make(tmp_path / 'data')
    sampler = dict(type='DefaultSampler', shuffle=False)
    cfg.test_dataloader.update(num_workers=num_workers, sampler=sampler)
    path = tmp_path / 'config.py'
    cfg.dump(path)
    weights = save_checkpoint(cfg, tmp_path / 'weights.pth', std=0.05)
    reads = count_calls(monkeypatch, reader)
    found = {}
    for per_pass in (1, 2, None):
        reads.clear()
        options = dict(resolutions=RESOLUTIONS, resolutions_per_pass=per_pass)
        one = make_test_config(path, weights, work_dir=tmp_path / f'run_{per_pass}', **options)
        one.experiment_name = f'{tmp_path.name}_{per_pass}'
        runner = build_test_runner(one)
        assert runner.test_loop.resolutions_per_pass == (per_pass or 3)
        runner.test_evaluator.metrics.append(DumpPredictions(str(tmp_path / f'{per_pass}.pkl')))
        metrics = runner.test()
        files = [tmp_path / f'{per_pass}_{resolution}.pkl' for resolution in RESOLUTIONS]
        found[per_pass] = metrics, [pickle.loads(file.read_bytes()) for file in files]
        passes = {1: 3, 2: 2, None: 1}[per_pass]
        # A hook looks at the first sample.
        assert num_workers or sum(reads.values()) - passes * number in (0, 1)
    assert found[1][0] and len(found[1][1][0]) == number
    assert not same(found[1][1][0], found[1][1][1])
    for per_pass in (2, None):
        assert same(found[per_pass], found[1])


def count_calls(monkeypatch, reader: str) -> Counter:
    """Count the calls of a transform in this process."""
    module, name = reader.rsplit('.', 1)
    kind = getattr(__import__(module, fromlist=[name]), name)
    calls: Counter = Counter()
    transform: Callable = kind.transform

    def counted(self, results: dict) -> Any:
        calls[type(self).__name__] += type(self) is kind
        return transform(self, results)

    monkeypatch.setattr(kind, 'transform', counted)
    return calls


def test_smaller_batches_predict_the_same(tmp_path: Path) -> None:
    """The batch size of the config is that of its pipeline, at 64 pixels."""
    cfg = classification(tmp_path / 'data')
    cfg.test_dataloader.update(num_workers=0, sampler=dict(type='DefaultSampler', shuffle=False))
    path = tmp_path / 'config.py'
    cfg.dump(path)
    weights = save_checkpoint(cfg, tmp_path / 'weights.pth', std=0.05)
    scores = {}
    for limit, sizes in ((80, [4, 4, 4]), (None, [4, 4, 2]), (32, [1, 4, 1])):
        options = {} if limit is None else {'test_cfg.batch_resolution': limit}
        one = make_test_config(
            path, weights, work_dir=tmp_path / 'run', cfg_options=options, resolutions=RESOLUTIONS
        )
        one.experiment_name = f'{tmp_path.name}_{limit}'
        runner = build_test_runner(one)
        assert [loader.batch_size for loader in runner.test_loop.loaders.values()] == sizes
        runner.test_evaluator.metrics.append(DumpPredictions(str(tmp_path / 'out.pkl')))
        runner.test()
        files = [tmp_path / f'out_{resolution}.pkl' for resolution in RESOLUTIONS]
        scores[limit] = [
            [sample['pred_score'] for sample in pickle.loads(file.read_bytes())] for file in files
        ]
    for limit in (None, 32):
        torch.testing.assert_close(scores[limit], scores[80])


@pytest.fixture(scope='module')
def data(tmp_path_factory) -> Path:
    return write_data(tmp_path_factory.mktemp('data'), num_val=21)


def test_two_processes_equal_one(data: Path, tmp_path: Path) -> None:
    """With a data set of an odd size, of which one sample is repeated."""
    config = write_config(tmp_path / 'small.py')
    torch.manual_seed(0)
    weights = tmp_path / 'small.pth'
    torch.save({'state_dict': load_model(config, device='cpu').state_dict()}, weights)
    found = []
    for processes, per_pass in ((1, 1), (2, 1), (2, 3)):
        folder = tmp_path / f'{processes}_{per_pass}'
        folder.mkdir()
        command = ['test.py', config, weights, '--work-dir', folder, '--out', folder / 'out.pkl']
        command += ['--resolutions', *RESOLUTIONS, '--resolutions-per-pass', per_pass]
        command += ['--cfg-options', 'test_dataloader.batch_size=1']
        results = run_tool_in_processes(processes, *command, data=data, cwd=folder)
        for result in results:
            succeed(result)
        assert ('in one pass' in results[0].stdout) == (per_pass > 1)
        (metrics,) = folder.glob('2*/*.json')
        files = [folder / f'out_{resolution}.pkl' for resolution in RESOLUTIONS]
        values = json.loads(metrics.read_text())
        values = {name: value for name, value in values.items() if 'accuracy' in name}
        found.append((values, [pickle.loads(file.read_bytes()) for file in files]))
        assert [len(predictions) for predictions in found[-1][1]] == [21, 21, 21]
    assert len(found[0][0]) == 8
    assert same(found[1], found[0]) and same(found[2], found[0])


def test_validation_in_one_pass(data: Path, tmp_path: Path, monkeypatch) -> None:
    """Also with the hooks of a training."""
    monkeypatch.setenv('MINI_DATA_ROOT', str(data))
    config = write_config(tmp_path / 'small.py')
    found = []
    for per_pass in (1, None):
        options = {'val_cfg.resolutions_per_pass': per_pass, 'val_dataloader.num_workers': 2}
        cfg = make_train_config(config, work_dir=tmp_path / str(per_pass), cfg_options=options)
        cfg.experiment_name = f'{tmp_path.name}_{per_pass}'
        runner = build_runner(cfg)
        runner.train()
        assert len(runner.val_loop.shared_loaders) == (per_pass is None)
        found.append(runner.val())
    assert found[0] == found[1] and 'mean/accuracy/top1' in found[0]


def test_the_option_needs_several_resolutions(tmp_path: Path) -> None:
    cfg = classification(tmp_path / 'data')
    path = tmp_path / 'config.py'
    cfg.dump(path)
    weights = save_checkpoint(cfg, tmp_path / 'weights.pth')
    with pytest.raises(ValueError, match=r'--resolutions-per-pass: .*config.py tests at one resolution: add'):
        make_test_config(path, weights, resolutions_per_pass=2)
    folder = tmp_path / 'run'
    folder.mkdir()
    command = ['test.py', path, weights, '--resolutions', 32, '--resolutions-per-pass', 0]
    (result,) = run_tool_in_processes(1, *command, data=tmp_path, cwd=folder)
    assert result.returncode == 2 and '0 must be at least 1' in result.stderr
