"""Checks of training runs before the first step, on a few pictures."""

from __future__ import annotations

import random
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.logging import MessageHub
from mmengine.registry import MODELS, init_default_scope
from PIL import Image
from runs import data_roots, write_config, write_data

from resformer_mm.apis import check_config, make_train_config
from resformer_mm.datasets.checks.report import CheckReport
from resformer_mm.preflight import storage
from resformer_mm.preflight.isolation import isolated
from resformer_mm.preflight.run import NOT_CHECKED, TOLD
from resformer_mm.preflight.samples import range_problem
from resformer_mm.preflight.work_dir import differences

Check = Callable[..., CheckReport]


@pytest.fixture(scope='module')
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_data(tmp_path_factory.mktemp('data'))


@pytest.fixture
def check(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Check:
    """Check the small config with overrides."""
    for name, value in data_roots(data).items():
        monkeypatch.setenv(name, value)
    config = write_config(tmp_path / 'small.py')

    def run(options: dict | None = None, **arguments) -> CheckReport:
        arguments = {'work_dir': tmp_path / 'run', **arguments}
        cfg = make_train_config(config, cfg_options=deepcopy(options), **arguments)
        before = cfg.to_dict()
        report = check_config(cfg)
        assert cfg.to_dict() == before
        assert not [finding for finding in report.findings if finding.kind == NOT_CHECKED]
        return report

    return run


def only(report: CheckReport, path: str, *words: str, is_fault: bool = True) -> None:
    """Assert that a report has one finding, of a field and with words in its detail."""
    assert len(report.findings) == 1, report.text()
    [finding] = report.findings
    assert (finding.path, finding.is_fault) == (path, is_fault)
    for word in words:
        assert word in finding.detail


SILENT = {'param_scheduler.end': 2}


def test_a_sound_run_has_no_findings_and_is_left_alone(check: Check, tmp_path: Path) -> None:
    states = torch.get_rng_state(), np.random.get_state()[1].copy(), random.getstate()
    assert check(SILENT).findings == []
    assert torch.equal(torch.get_rng_state(), states[0])
    assert (np.random.get_state()[1] == states[1]).all() and random.getstate() == states[2]
    assert not (tmp_path / 'run').exists()


def test_the_check_is_the_first_step_of_a_run() -> None:
    """As data preprocessors ask that change the size of the images every few iterations."""
    hubs = list(MessageHub._instance_dict)
    with isolated():
        assert MessageHub.get_current_instance().get_info('iter') == 0
    assert list(MessageHub._instance_dict) == hubs


def test_everything_is_named_at_once(check: Check) -> None:
    report = check(
        {
            'model.head.num_classes': 7,
            'val_evaluator.topk': (1, 11),
            'default_hooks.checkpoint.save_best': 'accuracy/top1',
            'train_cfg.max_epochs': 9,
        }
    )
    assert not report.is_sound
    fields = {finding.path for finding in report.findings if finding.is_fault}
    expected = {'model.head.num_classes', 'val_evaluator.topk', 'default_hooks.checkpoint.save_best'}
    assert fields == expected


@pytest.mark.parametrize('number', [3, 12])
def test_class_weights(check: Check, number: int) -> None:
    report = check({**SILENT, 'model.head.loss.class_weight': [1.0] * number})
    only(report, 'model.head.loss_module.ce.class_weight', f'has {number} weights', 'needs 10')
    assert check({**SILENT, 'model.head.loss.class_weight': [1.0] * 10}).findings == []


def test_training_data_without_labels(check: Check) -> None:
    options = {**SILENT, 'train_dataloader.dataset.with_label': False}
    only(check(options), 'train_dataloader.dataset', 'remove with_label=False')


def test_more_ranks_than_classes(check: Check) -> None:
    only(check({**SILENT, 'val_evaluator.topk': (1, 11)}), 'val_evaluator.topk', 'Set topk=(1,)')
    report = check({**SILENT, 'test_evaluator.topk': (1, 11)})
    only(report, 'test_evaluator.topk', is_fault=False)  # training does not use it


HOOK = 'default_hooks.checkpoint.save_best'
ONE = {**SILENT, 'val_cfg': {'_delete_': True, 'type': 'ValLoop'}}


def test_names_that_will_not_exist(check: Check) -> None:
    report = check({**SILENT, HOOK: ['accuracy/top1', 'mean/accuracy/top5']})
    only(report, HOOK, "Set it to 'mean/accuracy/top1'")
    assert check({**SILENT, HOOK: 'mean/accuracy/top1'}).findings == []
    assert check({**SILENT, HOOK: 'auto'}).findings == []
    assert check({**ONE, HOOK: 'accuracy/top1'}).findings == []
    only(check({**ONE, HOOK: 'mean/accuracy/top1'}), HOOK, "Set it to 'accuracy/top1'")


def test_whether_more_is_better(check: Check) -> None:
    """Also of the first metric, which 'auto' takes after the first validation."""
    metric = {'_delete_': True, 'type': 'SingleLabelMetric', 'items': ['support']}
    options = {**ONE, 'val_evaluator': metric, HOOK: 'auto'}
    only(check(options), 'default_hooks.checkpoint', 'Cannot infer the rule for key single-label/support')
    assert check({**options, 'default_hooks.checkpoint.rule': 'greater'}).findings == []
    report = check({**options, HOOK: 'single-label/support', 'default_hooks.checkpoint.rule': 'more'})
    only(report, 'default_hooks.checkpoint', 'rule must be greater, less or None')


def test_metrics_without_a_number(check: Check) -> None:
    metric = {'_delete_': True, 'type': 'ConfusionMatrix'}
    rule = {'default_hooks.checkpoint.rule': 'greater'}
    report = check({**ONE, **rule, 'val_evaluator': metric, HOOK: 'confusion_matrix/result'})
    only(report, HOOK, 'val_evaluator yields no number')


def test_metrics_that_are_not_known(check: Check) -> None:
    metric = {'_delete_': True, 'type': 'RetrievalRecall', 'topk': 1}
    assert check({**ONE, 'val_evaluator': metric, HOOK: 'accuracy/top1'}).findings == []


def test_hooks_and_schedulers_that_wait(check: Check) -> None:
    hook = {'type': 'EarlyStoppingHook', 'monitor': 'accuracy/top1'}
    only(check({**SILENT, 'custom_hooks': [hook]}), 'custom_hooks.0.monitor', 'mean/accuracy/top1')
    scheduler = {'_delete_': True, 'type': 'ReduceOnPlateauLR', 'monitor': 'accuracy/top1', 'rule': 'greater'}
    only(check({'param_scheduler': scheduler}), 'param_scheduler.monitor', 'mean/accuracy/top1')
    only(check({'param_scheduler': scheduler}, validate=False), 'param_scheduler.monitor', is_fault=False)


@pytest.mark.parametrize(
    ('scheduler', 'words'),
    [
        ({'type': 'CosineAnnealingLR', 'T_max': 2}, None),
        ({'type': 'CosineAnnealingLR', 'T_max': 1, 'begin': 1, 'end': 2}, None),
        ({'type': 'CosineAnnealingLR', 'T_max': 5}, ['5 epochs', 'max_epochs = 2']),
        ({'type': 'PolyLR', 'end': 4, 'by_epoch': False}, None),
        ({'type': 'PolyLR', 'end': 9, 'by_epoch': False}, ['9 iterations', 'max_epochs = 2']),
        ({'type': 'LinearLR', 'end': 1}, None),
        ({'type': 'LinearLR', 'end': 500, 'by_epoch': False}, ['500 iterations']),
        ({'type': 'MultiStepLR', 'milestones': [1]}, None),
        ({'type': 'MultiStepLR', 'milestones': [1, 8]}, ['[8]', 'max_epochs = 2']),
    ],
    ids=str,
)
def test_end_of_the_schedule(check: Check, scheduler: dict, words: list[str] | None) -> None:
    findings = check({'param_scheduler': {'_delete_': True, **scheduler}}).findings
    assert len(findings) == (words is not None)
    for word in words or ():
        assert word in findings[0].detail and not findings[0].is_fault


def test_missing_data(check: Check, tmp_path: Path) -> None:
    report = check({**SILENT, 'val_dataloader.dataset.data_root': str(tmp_path / 'none')})
    [fault] = [finding for finding in report.findings if finding.is_fault]
    assert fault.path == 'val_dataloader' and 'data_root' in fault.detail and 'none' in fault.detail


def test_a_config_without_training(check: Check) -> None:
    report = check(
        {'train_dataloader': None, 'train_cfg': None, 'optim_wrapper': None, 'param_scheduler': None}
    )
    only(report, 'train_dataloader', 'it is not set, so there are no data to train on')


def test_a_folder_of_a_split_and_unreadable_pictures(check: Check, tmp_path: Path) -> None:
    root = write_data(tmp_path / 'other')
    (root / 'val' / 'class_3').rename(root / 'val' / 'Class_3')
    for path in (root / 'train').glob('*/*.png'):
        path.write_bytes(path.read_bytes()[:-400])
    options = {f'{split}_dataloader.dataset.data_root': str(root) for split in ('train', 'val', 'test')}
    report = check({**SILENT, **options})
    text = report.text()
    assert 'class_3' in text and 'Class_3' in text and 'ImageReadError' in text
    assert all(finding.path.startswith(('train_dataloader', 'val_dataloader')) for finding in report.findings)


def test_classes_without_samples(check: Check, tmp_path: Path) -> None:
    root = write_data(tmp_path / 'other')
    for path in (root / 'train' / 'class_3').iterdir():
        path.unlink()
    options = {f'{split}_dataloader.dataset.data_root': str(root) for split in ('train', 'val', 'test')}
    findings = check({**SILENT, **options}).findings
    [found] = [finding for finding in findings if finding.kind != TOLD]
    assert found.path == 'train_dataloader.dataset' and 'class_3' in found.detail and not found.is_fault


def test_dark_pictures(check: Check, tmp_path: Path) -> None:
    root = write_data(tmp_path / 'other')
    for path in (root / 'train').glob('*/*.png'):
        Image.fromarray(np.asarray(Image.open(path)) // 16).save(path)
    report = check({**SILENT, 'train_dataloader.dataset.data_root': str(root)})
    only(report, 'train_dataloader.dataset.pipeline', 'nearly black', is_fault=False)


@pytest.mark.parametrize(
    ('low', 'high', 'mean', 'std', 'words'),
    [
        (0, 255, [123.0], [58.0], None),
        (0, 255, [0.0], [255.0], None),
        (-32, 430.5, [123.0], [58.0], None),
        (0, 255, None, None, None),
        (0, 1, [0.48], [0.2], None),
        (-2.1, 2.6, [123.0], [58.0], 'normalised already'),
        (0, 1, [123.0], [58.0], 'normalised already'),
        (0, 15, [123.0], [58.0], 'nearly black'),
        (0, 4095, [123.0], [58.0], '16 bits'),
        (0, 255, [0.48], [0.2], 'values of 0 to 1'),
    ],
)
def test_ranges(low, high, mean, std, words) -> None:
    problem = range_problem(low, high, mean, std)
    assert (problem is None) == (words is None) and (words or '') in (problem or '')


def test_evaluation_of_pictures_of_several_sizes(check: Check, tmp_path: Path) -> None:
    root = write_data(tmp_path / 'other')
    path = next((root / 'val' / 'class_0').iterdir())
    Image.open(path).resize((48, 80)).save(path)
    pipeline = [{'type': 'resformer_mm.LoadImage'}, {'type': 'PackInputs'}]
    options = {
        **ONE,
        'val_dataloader.dataset.data_root': str(root),
        'val_dataloader.dataset.pipeline': pipeline,
    }
    report = check(options)
    only(report, 'val_dataloader', 'the samples of a batch differ in size: ', '(3, 80, 48)')
    options['val_dataloader.collate_fn'] = {'type': 'default_collate'}
    only(check(options), 'val_dataloader', '(64 x 64, 80 x 48): set val_dataloader.batch_size=1')
    assert check({**options, 'val_dataloader.batch_size': 1}).findings == []
    last = max((root / 'val' / 'class_9').iterdir())  # maybe in a batch of its own
    Image.open(path).resize((64, 64)).save(path)
    Image.open(last).resize((48, 80)).save(last)
    only(check(options), 'val_dataloader', '(64 x 64, 80 x 48)', is_fault=False)


def test_an_image_that_is_narrower_than_a_patch(check: Check, tmp_path: Path) -> None:
    """After the resize of the validation it has a height of 1; no other image is as narrow."""
    root = write_data(tmp_path / 'other')
    path = sorted((root / 'val' / 'class_0').iterdir())[1]
    Image.new('RGB', (400, 10)).save(path)
    resize = {'type': 'Resize', 'scale': (64, 64), 'keep_ratio': True}
    options = {
        **ONE,
        'val_dataloader.dataset.data_root': str(root),
        'val_dataloader.dataset.pipeline': [
            {'type': 'resformer_mm.LoadImage'},
            resize,
            {'type': 'PackInputs'},
        ],
        'val_dataloader.batch_size': 1,
    }
    words = 'an image of 2 x 64 pixels is smaller than one patch', path.name, 'leave it out'
    only(check(options), 'val_dataloader.dataset', *words)
    Image.new('RGB', (160, 40)).save(path)
    assert check(options).findings == []


def test_batches_that_the_data_preprocessor_refuses(check: Check) -> None:
    statistics = {f'model.data_preprocessor.{name}': [120.0, 120.0] for name in ('mean', 'std')}
    findings = check({**SILENT, **statistics}).findings
    assert [finding.path for finding in findings] == ['train_dataloader', 'val_dataloader']
    assert all('size of tensor a (3)' in finding.detail and finding.is_fault for finding in findings)


def test_the_classes_of_a_separate_test_set(check: Check, tmp_path: Path) -> None:
    """Training does not use it, so it is a note."""
    root = write_data(tmp_path / 'other')
    (root / 'val' / 'class_3').rename(root / 'val' / 'Class_3')
    report = check({**SILENT, 'test_dataloader.dataset.data_root': str(root)})
    only(report, 'test_dataloader.dataset', 'Class_3', is_fault=False)


def test_folders_that_a_foreign_data_set_numbers_by_the_alphabet(check: Check, tmp_path: Path) -> None:
    root = write_data(tmp_path / 'other')
    for split in ('train', 'val'):
        (root / split / 'class_9').rename(root / split / 'Class_9')
    names = [f'class_{label}' for label in range(10)]
    foreign = {'type': 'mmpretrain.CustomDataset', 'data_root': str(root), 'metainfo': {'classes': names}}
    fields = {f'{s}_dataloader.dataset.{k}': v for s in ('train', 'val', 'test') for k, v in foreign.items()}
    report = check({**SILENT, **fields})
    words = 'the folder Class_9 has the label 0, but metainfo.classes names it class 9'
    assert {finding.path: words in finding.detail for finding in report.findings if finding.is_fault} == {
        'train_dataloader.dataset': True,
        'val_dataloader.dataset': True,
    }


def test_a_hidden_folder_that_a_foreign_data_set_numbers(check: Check, tmp_path: Path) -> None:
    """It is told once, of the training, whose classes are compared with those of the validation."""
    root = write_data(tmp_path / 'other')
    (root / 'train' / '.ipynb_checkpoints').mkdir()
    foreign = {'type': 'mmpretrain.CustomDataset', 'data_root': str(root)}
    fields = {f'{s}_dataloader.dataset.{k}': v for s in ('train', 'val', 'test') for k, v in foreign.items()}
    report = check({**SILENT, **fields})
    splits = [finding for finding in report.findings if finding.kind == 'splits with different classes']
    assert [finding.path for finding in splits] == ['train_dataloader.dataset']
    assert splits[0].detail.startswith('.ipynb_checkpoints counts as a class')


def test_a_head_of_too_few_classes(check: Check) -> None:
    """Its data preprocessor refuses the labels, which are right."""
    only(check({**SILENT, 'model.head.num_classes': 7}), 'model.head.num_classes', 'is 7, but')


def test_safeguards_that_a_config_leaves_out(check: Check) -> None:
    wrong = {**SILENT, 'model.head.num_classes': 12}
    only(check({**wrong, 'model.head.topk': (1,)}), 'model.head.num_classes', 'is 12')
    assert check({**wrong, 'default_hooks.num_classes': None}).findings == []


def test_batches_of_one_sample(check: Check) -> None:
    """The neck's normalisation has one value per channel, if the batch has one picture."""
    neck = {'model.neck': {'type': 'LinearNeck', 'in_channels': 32, 'out_channels': 32}}
    report = check({**SILENT, **neck, 'train_dataloader.batch_size': 1})
    faults = [finding.detail for finding in report.findings if finding.is_fault]
    assert any('one value per channel' in fault for fault in faults), report.text()


def test_disk_space(check: Check, monkeypatch: pytest.MonkeyPatch) -> None:
    free = 0
    monkeypatch.setattr(storage.shutil, 'disk_usage', lambda path: SimpleNamespace(free=free))
    only(check(SILENT), 'default_hooks.checkpoint', 'free')
    free = 700_000  # one checkpoint of 59,000 parameters, but not two
    report = check({**SILENT, 'default_hooks.checkpoint.max_keep_ckpts': -1})
    assert report.is_sound


def test_the_work_dir_of_another_run(check: Check, tmp_path: Path) -> None:
    work_dir = tmp_path / 'run'
    work_dir.mkdir()
    cfg = make_train_config(tmp_path / 'small.py', cfg_options=SILENT)
    cfg.dump(work_dir / 'small.py')
    torch.save({'state_dict': {}}, work_dir / 'epoch_1.pth')
    assert check(SILENT).findings == []
    options = {**SILENT, 'model.backbone.drop_path_rate': 0.25}
    only(check(options), str(work_dir), 'drop_path_rate: 0.0, now 0.25', '--work-dir', is_fault=False)


def test_a_checkpoint_of_another_model(check: Check, tmp_path: Path) -> None:
    path = tmp_path / 'other.pth'
    state = {'backbone.cls_token': torch.zeros(1, 1, 48)}
    torch.save({'state_dict': state, 'meta': {}, 'optimizer': {}}, path)
    only(
        check(SILENT, resume=path),
        str(path),
        'backbone.cls_token (1, 1, 48) instead of (1, 1, 32)',
        'missing',
    )


@pytest.mark.parametrize(
    'field', ['load_from', 'model.init_cfg.checkpoint', 'model.backbone.init_cfg.checkpoint']
)
def test_weights_to_start_from(check: Check, tmp_path: Path, field: str) -> None:
    path = tmp_path / 'start.pth'
    options: dict = {**SILENT, field: str(path)}
    if field != 'load_from':
        options[field.replace('checkpoint', 'type')] = 'Pretrained'
    torch.save({'state_dict': {'backbone.layer1.0.conv1.weight': torch.zeros(1)}}, path)
    only(check(options), field, 'start.pth is a ResNet')
    if field == 'load_from':
        cfg = make_train_config(tmp_path / 'small.py', cfg_options=SILENT)
        init_default_scope('mmpretrain')
        torch.save({'model': MODELS.build(cfg.model).backbone.state_dict()}, path)
        assert check(options).findings == []


def test_the_schedule_of_a_resumed_run(check: Check, tmp_path: Path) -> None:
    cfg = make_train_config(tmp_path / 'small.py', cfg_options=SILENT)
    init_default_scope('mmpretrain')
    state = MODELS.build(cfg.model).state_dict()
    path = tmp_path / 'epoch_2.pth'
    content = {'state_dict': state, 'meta': {}, 'optimizer': {}, 'param_schedulers': [{'end': 2}]}
    torch.save(content, path)
    assert check(SILENT, resume=path).findings == []
    longer = {'param_scheduler.end': 6, 'train_cfg.max_epochs': 6}
    only(check(longer, resume=path), 'param_scheduler.end', 'ends at 2', is_fault=False)


def test_differences_of_settings() -> None:
    before = Config({'a': {'b': [1, 2], 'init_cfg': 1}}).a
    assert differences(before, {'b': [1, 3]}, 'a') == ['a.b.1: 2, now 3']
    assert differences(before, {'b': (1, 2)}, 'a') == []


@pytest.mark.parametrize('doubled', [(), ('ColorJitter',), ('ColorJitter', 'RandomErasing')])
def test_augmentations_in_the_loader_and_on_the_device(check: Check, doubled: tuple[str, ...]) -> None:
    settings = dict(
        ColorJitter=dict(type='resformer_mm.ColorJitter', brightness=0.4),
        RandomErasing=dict(type='RandomErasing', erase_prob=0.25, mode='rand'),
    )
    transforms = [dict(type='Resize', scale='{resolution}'), *(settings[name] for name in doubled)]
    pipeline = [
        dict(type='resformer_mm.LoadImage'),
        dict(type='resformer_mm.MultiResolution', resolutions=[64, 48, 32], transforms=transforms),
        dict(type='PackInputs'),
    ]
    augment = dict(color_jitter=dict(brightness=0.4), erasing=dict(erase_prob=0.25, mode='rand'))
    report = check(
        {
            **SILENT,
            'model.data_preprocessor.augment': augment,
            'train_dataloader.dataset.pipeline': pipeline,
        }
    )
    options = dict(ColorJitter='color_jitter', RandomErasing='erasing')
    found = {finding.path: finding for finding in report.findings}
    assert set(found) == {f'model.data_preprocessor.augment.{options[name]}' for name in doubled}
    for name in doubled:
        finding = found[f'model.data_preprocessor.augment.{options[name]}']
        assert not finding.is_fault and f'remove {name} from the pipeline' in finding.detail
