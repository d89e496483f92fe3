"""Training and testing a segmentor from the command line, on generated data in ADE20K's layout."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import mmseg
import numpy as np
import pytest
from mmengine.config import Config
from PIL import Image
from pure_python import write_pure_python
from runs import ROOT, assert_weights_equal, run_dist, run_tool, scalars, succeed, training_log
from small_models import save_checkpoint

from resformer_mm.apis import enter_scope, read_config
from resformer_mm.synthetic import write_segmentation

FOLDER = ROOT / 'configs' / 'segmentation'
SINGLE = FOLDER / 'resformer-mini_upernet_1xb8-900_mini.py'
MULTI = FOLDER / 'resformer-mini_upernet-mr-128-96-64_1xb8-900_mini.py'
# Small, and a function of the seed alone.
SMALL = """
_base_ = {base!r}
model = dict(
    backbone=dict(
        arch=dict(embed_dims=32, num_layers=6, num_heads=2, feedforward_channels=64),
        patch_size=16,
        drop_path_rate=0.0,
        init_cfg=None,
    ),
    decode_head=dict(in_channels=[32] * 3, channels=8, dropout_ratio=0.0, norm_cfg=dict(type={norm!r})),
    auxiliary_head=dict(in_channels=32, channels=8, dropout_ratio=0.0),
)
train_dataloader = dict(
    batch_size=4,
    num_workers=0,
    persistent_workers=False,
    sampler=dict(type='InfiniteSampler', shuffle=False),
    dataset=dict(pipeline=[
        dict(type='resformer_mm.LoadImage'),
        dict(type='resformer_mm.LoadSegMap'),
        dict(type='Resize', scale=(128, 128)),
        dict(type='PackSegInputs'),
    ]),
)
val_dataloader = dict(num_workers=0, persistent_workers=False)
test_dataloader = dict(num_workers=0, persistent_workers=False)
param_scheduler = dict(_delete_=True, type='LinearLR', start_factor=0.5, begin=0, end=4, by_epoch=False)
train_cfg = dict(max_iters=4, val_interval=2)
default_hooks = dict(logger=dict(interval=1), checkpoint=dict(interval=2))
log_processor = dict(window_size=1)
{extra}
"""
NATIVE = """
test_dataloader['dataset'] = dict(pipeline=[
    dict(type='resformer_mm.LoadImage'),
    dict(type='resformer_mm.LoadSegMap'),
    dict(type='PackSegInputs'),
])
"""
WINDOWS = """
model['backbone'].update(with_cls_token=False, window_size=3, window_block_indices=(0, 1, 3, 4))
"""


@pytest.fixture(scope='module')
def data(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp('data')
    write_segmentation(root / 'pairs', num_train=8, num_val=4, size=64)
    return root / 'pairs'


def config(path: Path, base: Path = SINGLE, norm: str = 'BN', extra: str = '') -> Path:
    path.write_text(SMALL.format(base=str(base), norm=norm, extra=extra))
    return path


@pytest.fixture(scope='module')
def trained(data: Path, tmp_path_factory) -> Path:
    """A folder with small.py and a finished run in run/."""
    folder = tmp_path_factory.mktemp('trained')
    command = ['train.py', config(folder / 'small.py'), '--work-dir', folder / 'run']
    succeed(run_tool(*command, data=data, cwd=folder))
    return folder


@pytest.mark.slow
def test_training_validates_and_resumes(trained: Path, data: Path, tmp_path: Path) -> None:
    log = training_log(trained / 'run')
    assert [line['iter'] for line in log] == [1, 2, 3, 4]
    assert all(np.isfinite(line['loss']) for line in log)
    assert len([line for line in scalars(trained / 'run') if 'mIoU' in line]) == 2
    command = ['train.py', trained / 'small.py', '--work-dir', tmp_path / 'run']
    succeed(run_tool(*command, '--cfg-options', 'train_cfg.max_iters=2', data=data, cwd=tmp_path))
    succeed(run_tool(*command, '--resume', data=data, cwd=tmp_path))
    assert_weights_equal(tmp_path / 'run' / 'iter_4.pth', trained / 'run' / 'iter_4.pth', atol=0)


@pytest.mark.slow
def test_testing_draws_dumps_and_augments(trained: Path, data: Path, tmp_path: Path) -> None:
    command = ['test.py', trained / 'small.py', trained / 'run' / 'iter_4.pth', '--work-dir', tmp_path / 'w']
    outputs = ['--out', 'predictions.pkl', '--show-dir', tmp_path / 'pictures']
    succeed(run_tool(*command, *outputs, data=data, cwd=tmp_path))
    with open(tmp_path / 'predictions.pkl', 'rb') as file:
        predictions = pickle.load(file)
    assert len(predictions) == 4
    for sample in predictions:
        with Image.open(sample['seg_map_path']) as mask:
            assert tuple(sample['pred_sem_seg']['data'].shape[-2:]) == mask.size[::-1]
    assert len(list((tmp_path / 'pictures').rglob('*.png'))) == 4
    metrics = []
    for options in ([], ['--tta']):
        file = tmp_path / f'metrics{len(options)}.json'
        succeed(run_tool(*command, *options, '--out', file, '--out-item', 'metrics', data=data, cwd=tmp_path))
        metrics.append(json.loads(file.read_text()))
    assert set(metrics[0]) == set(metrics[1]) >= {'mIoU', 'aAcc'}
    assert metrics[0] != metrics[1]


@pytest.mark.slow
def test_several_test_resolutions_and_the_sweep(trained: Path, data: Path, tmp_path: Path) -> None:
    model = (trained / 'small.py', trained / 'run' / 'iter_4.pth')
    arguments = ('--resolutions', 32, 64, '--out', 'metrics.json', '--out-item', 'metrics')
    arguments += ('--show-dir', 'pictures')
    succeed(run_tool('test.py', *model, '--work-dir', 'w', *arguments, data=data, cwd=tmp_path))
    for resolution in ('32', '64'):
        assert len(list((tmp_path / 'pictures').rglob(f'{resolution}/*.png'))) == 4
    metrics = json.loads((tmp_path / 'metrics.json').read_text())
    sweep = ('analysis_tools/resolution_sweep.py', *model, '--resolutions', 32, 64, '--out-dir', 'sweep')
    result = succeed(run_tool(*sweep, '--rounds', 1, '--metric', 'mIoU', data=data, cwd=tmp_path))
    points = json.loads((tmp_path / 'sweep' / 'sweep.json').read_text())['models'][0]['points']
    for resolution in ('32', '64'):
        assert points[resolution]['metrics']['mIoU'] == pytest.approx(metrics[f'{resolution}/mIoU'])
    assert points['64']['flops'] > 2 * points['32']['flops']
    assert 'no cascade' in result.stdout


def literal_miou(predictions: dict[str, np.ndarray], annotations: Path, num_classes: int = 11) -> float:
    """Return the mean IoU in % over the classes that occur; 0 in a mask is ignored, class i is i + 1."""
    intersections, unions = np.zeros(num_classes), np.zeros(num_classes)
    for path in annotations.iterdir():
        labels, predicted = np.asarray(Image.open(path)), predictions[path.name] + 1
        predicted[labels == 0] = 0
        for index in range(num_classes):
            true, positive = labels == index + 1, predicted == index + 1
            intersections[index] += (true & positive).sum()
            unions[index] += (true | positive).sum()
    return 100 * np.mean(intersections[unions > 0] / unions[unions > 0])


@pytest.mark.slow
def test_images_of_any_size_are_judged_at_the_size_of_the_annotation(tmp_path: Path) -> None:
    write_segmentation(tmp_path / 'odd', num_train=1, num_val=3, size=64)
    for number, path in enumerate(sorted((tmp_path / 'odd').glob('*/validation/*'))):
        with Image.open(path) as image:  # sides that are no multiple of the patch, landscape and portrait
            image.crop((0, 0, *((61, 37), (41, 64), (53, 53))[number % 3])).save(path)
    path = config(tmp_path / 'native.py', extra=NATIVE)
    save_checkpoint(read_config(path), tmp_path / 'random.pth', std=None)
    arguments = (path, tmp_path / 'random.pth', '--work-dir', 'one', '--out', 'predictions.pkl')
    succeed(run_tool('test.py', *arguments, data=tmp_path / 'odd', cwd=tmp_path))
    with open(tmp_path / 'predictions.pkl', 'rb') as file:
        predictions = {
            Path(sample['seg_map_path']).name: sample['pred_sem_seg']['data'][0].numpy()
            for sample in pickle.load(file)
        }
    assert sorted(labels.shape for labels in predictions.values()) == [(37, 61), (53, 53), (64, 41)]
    assert len(np.unique(np.concatenate([labels.ravel() for labels in predictions.values()]))) > 3
    (file,) = (tmp_path / 'one').glob('*/*.json')
    miou = json.loads(file.read_text())['mIoU']
    annotations = tmp_path / 'odd' / 'annotations' / 'validation'
    assert miou == pytest.approx(literal_miou(predictions, annotations), abs=0.006)  # rounded to 0.01
    # Two processes share three images, so that one of them is visited twice, and counted once.
    two = [path, tmp_path / 'random.pth', 2, '--work-dir', 'two', '--show-dir', 'pictures']
    succeed(run_dist('dist_test.sh', *two, data=tmp_path / 'odd', cwd=tmp_path))
    drawn = [path.name for path in (tmp_path / 'pictures').rglob('*.png')]
    assert len({name.rpartition('_')[0] for name in drawn}) == 3
    (file,) = (tmp_path / 'two').glob('*/*.json')
    assert json.loads(file.read_text())['mIoU'] == miou


@pytest.mark.slow
def test_windows_train_and_resume_in_mixed_precision(data: Path, tmp_path: Path) -> None:
    path = config(tmp_path / 'small.py', MULTI, extra=WINDOWS)
    for work_dir, iterations in (('whole', (4,)), ('parts', (2, 4))):
        for last in iterations:
            options = ['--amp', '--resume', '--cfg-options', f'train_cfg.max_iters={last}']
            succeed(run_tool('train.py', path, '--work-dir', work_dir, *options, data=data, cwd=tmp_path))
    assert [line['iter'] for line in training_log(tmp_path / 'parts')] == [1, 2, 3, 4]
    assert_weights_equal(tmp_path / 'parts' / 'iter_4.pth', tmp_path / 'whole' / 'iter_4.pth', atol=0)


@pytest.mark.slow
def test_two_processes_train_multi_resolution_as_one(data: Path, tmp_path: Path) -> None:
    # No batch norm and no class weights, whose statistics differ between one and two processes, and no Adam,
    # which makes a step of full size out of the rounding error of a gradient that is nearly zero.
    norm = "dict(type='GN', num_groups=1)"
    extra = f"model['decode_head']['norm_cfg'] = {norm}\nmodel['auxiliary_head']['norm_cfg'] = {norm}\n"
    extra += "model['decode_head']['norm_cfg']['_delete_'] = True\n"
    extra += "model['auxiliary_head']['norm_cfg']['_delete_'] = True\n"
    for head in ('decode_head', 'auxiliary_head'):
        extra += f"model['{head}']['loss_decode'] = dict(class_weight=None)\n"
    extra += "optim_wrapper = dict(_delete_=True, type='OptimWrapper', optimizer=dict(type='SGD', lr=0.1))\n"
    path = config(tmp_path / 'small.py', MULTI, extra=extra)
    options = ['--cfg-options', 'train_cfg.val_interval=4']
    succeed(run_tool('train.py', path, '--work-dir', 'one', *options, data=data, cwd=tmp_path))
    options += ['train_dataloader.batch_size=2']
    succeed(run_dist('dist_train.sh', path, 2, '--work-dir', 'two', *options, data=data, cwd=tmp_path))
    assert_weights_equal(tmp_path / 'two' / 'iter_4.pth', tmp_path / 'one' / 'iter_4.pth', atol=1e-5)
    assert 'loss_consistency_96' in training_log(tmp_path / 'one')[0]


@pytest.mark.slow
def test_synchronised_batch_norm_is_replaced_without_a_gpu(data: Path, tmp_path: Path) -> None:
    path = config(tmp_path / 'small.py', norm='SyncBN')
    options = ['--work-dir', 'two', '--cfg-options', 'train_cfg.max_iters=2', 'train_dataloader.batch_size=2']
    result = run_dist('dist_train.sh', path, 2, *options, data=data, cwd=tmp_path)
    assert 'SyncBN is replaced by BN' in succeed(result).stdout


@pytest.mark.slow
def test_a_stock_config_with_only_its_backbone_swapped(data: Path, tmp_path: Path) -> None:
    stock = Path(mmseg.__file__).parent / '.mim/configs/vit/vit_deit-s16_upernet_8xb2-80k_ade20k-512x512.py'
    cfg = Config.fromfile(stock)
    swapped = tmp_path / 'swapped.py'
    swapped.write_text(f"""
_base_ = {str(stock)!r}
model = dict(
    pretrained=None,
    backbone=dict(
        _delete_=True,
        type='resformer_mm.ResFormer',
        arch='small',
        out_indices=(2, 5, 8, 11),
        out_type='featmap',
        final_norm=False,
    ),
)
""")
    assert cfg.model.decode_head.in_channels == [384] * 4
    # Not the config, but the data and the patience of a test: small crops, one iteration.
    options = [
        f'train_dataloader.dataset.data_root={data}', f'val_dataloader.dataset.data_root={data}',
        'train_dataloader.dataset.pipeline.3.crop_size=(64,64)', 'data_preprocessor.size=(64,64)',
        'model.data_preprocessor.size=(64,64)',
        'train_dataloader.num_workers=0', 'train_dataloader.persistent_workers=False',
        'val_dataloader.num_workers=0', 'val_dataloader.persistent_workers=False',
        'train_cfg.max_iters=1', 'train_cfg.val_interval=1', 'default_hooks.logger.interval=1',
    ]  # fmt: skip
    command = ['train.py', swapped, '--work-dir', 'run', '--cfg-options', *options]
    succeed(run_tool(*command, data=data, cwd=tmp_path))
    assert np.isfinite(training_log(tmp_path / 'run')[0]['loss'])


@pytest.mark.slow
def test_bad_input(data: Path, trained: Path, tmp_path: Path) -> None:
    command = ['train.py', trained / 'small.py', '--work-dir', tmp_path / 'w', '--cfg-options']

    def error(*options: str) -> str:
        result = run_tool(*command, *options, data=data, cwd=tmp_path)
        assert result.returncode != 0
        return result.stdout + result.stderr

    words = error('model.decode_head.num_classes=12')
    fault = 'model.decode_head.num_classes: is 12, but the data set of train_dataloader has 11 classes'
    assert fault in words
    broken = tmp_path / 'broken'
    write_segmentation(broken, num_train=4, num_val=2, size=64)
    mask = next((broken / 'annotations' / 'training').iterdir())
    with Image.open(mask) as image:
        image.resize((20, 20)).save(mask)
    words = error(f'train_dataloader.dataset.data_root={broken}')
    assert mask.name in words and '20 x 20' in words
    mask.unlink()
    words = error(f'train_dataloader.dataset.data_root={broken}')
    assert mask.name in words and 'do not exist' in words
    for options, words in (
        (('--tta', '--resolutions', 64), '--resolutions 64, tta_pipeline: '),
        (('--resolutions', 0), '--resolutions 0, test_dataloader.dataset.pipeline: '),
        (('--show',), 'there is no display'),
    ):
        arguments = (trained / 'small.py', trained / 'run' / 'iter_4.pth', *options)
        result = run_tool('test.py', *arguments, data=data, cwd=tmp_path)
        assert result.returncode == 2 and words in result.stderr


@pytest.fixture(scope='module')
def pure(trained: Path, data: Path) -> Path:
    """The config of ``trained`` in pure Python, with classes and without a default scope."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv('MINI_SEGMENTATION_ROOT', str(data))
        cfg = read_config(trained / 'small.py')
    enter_scope(cfg)
    return write_pure_python(cfg, trained / 'pure.py')


@pytest.mark.slow
def test_a_pure_python_config_trains_alike(pure: Path, trained: Path, data: Path, tmp_path: Path) -> None:
    command = ['train.py', pure, '--work-dir', tmp_path / 'run', '--no-validate']
    succeed(run_tool(*command, data=data, cwd=tmp_path))
    assert_weights_equal(tmp_path / 'run' / 'iter_4.pth', trained / 'run' / 'iter_4.pth', atol=0)


@pytest.mark.slow
def test_a_pure_python_config_trains_by_turns(data: Path, tmp_path: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv('MINI_SEGMENTATION_ROOT', str(data))
        cfg = read_config(config(tmp_path / 'small.py', MULTI))
    enter_scope(cfg)
    logs = []
    for path in (tmp_path / 'small.py', write_pure_python(cfg, tmp_path / 'pure.py')):
        command = ['train.py', path, '--work-dir', tmp_path / path.stem, '--no-validate', '--amp']
        succeed(run_tool(*command, data=data, cwd=tmp_path))
        log = training_log(tmp_path / path.stem)
        logs.append([{key: line[key] for key in line if 'loss' in key} for line in log])
    assert logs[0] == logs[1] and 'decode.loss_ce_64' in logs[0][-1]


@pytest.mark.slow
def test_a_pure_python_config_in_all_tools(pure: Path, trained: Path, data: Path, tmp_path: Path) -> None:
    checkpoint = trained / 'run' / 'iter_4.pth'
    for option in ('--tta', '--amp'):
        metrics = []
        for path in (pure, trained / 'small.py'):
            out = tmp_path / f'{path.stem}{option}.json'
            command = ['test.py', path, checkpoint, '--out', out, '--out-item', 'metrics', option]
            if option == '--amp':
                command += ['--resolutions', '48', '96', '--show-dir', tmp_path / path.stem]
            succeed(run_tool(*command, '--work-dir', tmp_path, data=data, cwd=tmp_path))
            metrics.append(json.loads(out.read_text()))
        assert metrics[0] == metrics[1]
    assert len(list((tmp_path / 'pure').rglob('*.png'))) == 8
    texts = [
        succeed(run_tool(*command, data=data, cwd=tmp_path)).stdout
        for command in (
            ('demo.py', data / 'images/validation', pure, checkpoint),
            ('dataset_converters/check_segmentation.py', '--config', pure),
            ('analysis_tools/browse_dataset.py', pure, '--output-dir', 'pictures', '-n', '2'),
            ('analysis_tools/get_flops.py', pure, '--shape', '64'),
        )
    ]
    assert '4 done, 0 skipped' in texts[0] and texts[1].endswith('sound\n')
    assert len(list((tmp_path / 'pictures').iterdir())) == 2
