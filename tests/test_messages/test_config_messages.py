"""Messages about configs and options: what they name, and that following their advice leads out."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from small_models import classifier, detector, recognizer, segmentor

import resformer_mm.apis
from resformer_mm.analysis.browsing import SampleBrowser, to_pictures
from resformer_mm.analysis.resolution_complexity import blank_batch, complexity_at
from resformer_mm.analysis.sample_pictures import build_visualizer
from resformer_mm.analysis.training_logs import TrainingLog
from resformer_mm.apis import load_model
from resformer_mm.apis.launch import build_runner
from resformer_mm.apis.runs import Drawing, make_test_config, make_train_config
from resformer_mm.compat import prepare_mmaction
from resformer_mm.config.command_line import add_config_options
from resformer_mm.config.files import read_config
from resformer_mm.datasets.checks.configured import configured_sources
from resformer_mm.engine.loops import MultiResolutionValLoop
from resformer_mm.libraries import TASKS, Task, import_library, model_class, register_task
from resformer_mm.models.backbones.arguments import initial_weights
from resformer_mm.preflight.subject import _read


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    path = tmp_path / 'weights.pth'
    torch.save(dict(state_dict={}), path)
    return path


def write(cfg: Config, path: Path, **fields: object) -> Path:
    """Write a config; a field that is None is removed."""
    cfg = cfg.copy()
    for name, value in fields.items():
        if value is None:
            cfg.pop(name, None)
        else:
            cfg[name] = value
    cfg.dump(path)
    return path


# Tests and trainings


def test_a_config_without_a_test_names_the_fields(tmp_path, checkpoint) -> None:
    path = write(classifier(), tmp_path / 'mine.py', test_dataloader=None, test_evaluator=None)
    with pytest.raises(ValueError, match=r'mine\.py has no `test_dataloader`, `test_evaluator`: a test'):
        make_test_config(path, checkpoint, amp=True)
    path = write(classifier(), path, test_cfg=dict(), test_evaluator=[])  # as the message says
    assert make_test_config(path, checkpoint, amp=True).load_from == str(checkpoint)


def test_a_checkpoint_that_does_not_exist(tmp_path) -> None:
    path = write(classifier(), tmp_path / 'mine.py')
    with pytest.raises(FileNotFoundError, match=r'there is no checkpoint nowhere\.pth'):
        make_test_config(path, 'nowhere.pth')
    with pytest.raises(FileNotFoundError, match=r'there is no checkpoint to resume from nowhere\.pth'):
        make_train_config(path, resume='nowhere.pth')


def test_amp_of_an_optimiser_wrapper_of_the_user(tmp_path) -> None:
    optimizer = dict(type='SGD', lr=0.1)
    path = write(classifier(), tmp_path / 'mine.py', optim_wrapper=dict(type='ApexOptimWrapper'))
    with pytest.raises(ValueError, match=r"--amp .* optim_wrapper\.type='ApexOptimWrapper'"):
        make_train_config(path, amp=True)
    write(classifier(), path, optim_wrapper=dict(type='OptimWrapper', optimizer=optimizer))
    assert 'Autocast' in make_train_config(path, amp=True).optim_wrapper.type or torch.cuda.is_available()


def test_scaling_a_learning_rate_without_a_base(tmp_path) -> None:
    path = write(classifier(), tmp_path / 'mine.py')
    with pytest.raises(ValueError, match=r'`auto_scale_lr\.base_batch_size` in .*mine\.py'):
        make_train_config(path, auto_scale_lr=True)
    write(classifier(), path, auto_scale_lr=dict(base_batch_size=8))
    assert make_train_config(path, auto_scale_lr=True).auto_scale_lr.enable


def test_drawing_without_its_hook(tmp_path, checkpoint) -> None:
    path = write(classifier(), tmp_path / 'mine.py')
    with pytest.raises(ValueError, match=r'`default_hooks\.visualization`.*mine\.py'):
        make_test_config(path, checkpoint, drawing=Drawing(folder=tmp_path / 'drawn'))
    hooks = dict(visualization=dict(type='VisualizationHook'))
    write(classifier(), path, default_hooks=hooks, visualizer=dict(type='UniversalVisualizer'))
    cfg = make_test_config(path, checkpoint, drawing=Drawing(folder=tmp_path / 'drawn'))
    assert cfg.default_hooks.visualization.out_dir == str(tmp_path / 'drawn')


@pytest.mark.operators('mmseg')
def test_segmentations_in_a_window_and_a_folder(tmp_path, checkpoint, monkeypatch) -> None:
    monkeypatch.setattr('resformer_mm.apis.runs.check_display', lambda: None)
    hooks = dict(visualization=dict(type='SegVisualizationHook'))
    visualizer = dict(type='SegLocalVisualizer')
    path = write(segmentor(), tmp_path / 'mine.py', default_hooks=hooks, visualizer=visualizer)
    with pytest.raises(ValueError, match='--show or --show-dir, not both'):
        make_test_config(path, checkpoint, drawing=Drawing(show=True, folder=tmp_path / 'drawn'))
    assert make_test_config(path, checkpoint, drawing=Drawing(show=True)).default_hooks.visualization.show


@pytest.mark.operators('mmseg')
def test_augmentation_that_the_config_does_not_have(tmp_path, checkpoint) -> None:
    path = write(segmentor(), tmp_path / 'mine.py')
    with pytest.raises(ValueError, match=r'--tta: .*mine\.py has no `tta_model` and `tta_pipeline`: set'):
        make_test_config(path, checkpoint, tta=True)
    pipeline = segmentor().test_dataloader.dataset.pipeline
    write(segmentor(), path, tta_model=dict(type='SegTTAModel'), tta_pipeline=pipeline)
    assert make_test_config(path, checkpoint, tta=True).model.type == 'SegTTAModel'


@pytest.mark.operators('mmdet')
def test_augmentation_that_the_library_does_not_have(tmp_path, checkpoint) -> None:
    prepare_mmaction()
    path = write(recognizer(), tmp_path / 'mine.py')
    with pytest.raises(
        ValueError, match='--tta: recognizers .* set num_clips of SampleFrames, or add ThreeC'
    ):
        make_test_config(path, checkpoint, tta=True)
    cfg = detector()
    options = dict(tta_model=dict(type='DetTTAModel'), tta_pipeline=cfg.test_dataloader.dataset.pipeline)
    with pytest.raises(
        ValueError, match='--tta: .* not their masks: leave out --tta, or test a model without'
    ):
        make_test_config(write(cfg, path, **options), checkpoint, tta=True)
    cfg.model.roi_head.mask_head = None
    assert make_test_config(write(cfg, path, **options), checkpoint, tta=True).model.type == 'DetTTAModel'


def test_a_launcher_that_did_not_start_the_process(tmp_path, monkeypatch) -> None:
    path = write(classifier(), tmp_path / 'mine.py')
    monkeypatch.setattr('resformer_mm.apis.launchers.get_device', lambda: 'cpu')
    with pytest.raises(ValueError, match=r'--launcher slurm needs GPUs: .* start .* tools/dist_train\.sh'):
        make_train_config(path, launcher='slurm')
    for name in ('RANK', 'WORLD_SIZE', 'SLURM_PROCID'):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(ValueError, match=r'--launcher pytorch: the variable RANK is not set.*dist_train\.sh'):
        build_runner(Config(dict(classifier(), launcher='pytorch')))
    monkeypatch.setattr('resformer_mm.apis.launchers.get_device', lambda: 'cuda')
    with pytest.raises(ValueError, match=r'--launcher slurm: the variable SLURM_PROCID .*slurm_train\.sh'):
        make_train_config(path, launcher='slurm')
    monkeypatch.setenv('SLURM_PROCID', '1')
    monkeypatch.setenv('SLURM_NTASKS', '2')
    assert make_train_config(path, launcher='slurm').launcher == 'slurm'


def test_a_loop_that_gets_a_loader() -> None:
    loader = torch.utils.data.DataLoader([1])
    with pytest.raises(TypeError, match='MultiResolutionValLoop needs the config of its data loader'):
        MultiResolutionValLoop(None, loader, dict(), resolutions=[32])


# Config files


def test_a_file_without_a_model(tmp_path) -> None:
    path = tmp_path / 'data.py'
    path.write_text('dataset = dict(type="ImageNet")\n')
    with pytest.raises(ValueError, match=r'data\.py has no `model`: give the config of a model'):
        read_config(path)


@pytest.mark.parametrize(
    'options', [{'test_dataloader.dataset.pipeline.9.type': 'x'}, {'model.type.name': 'x'}]
)
def test_options_that_do_not_fit(options, tmp_path) -> None:
    path = write(classifier(), tmp_path / 'mine.py')
    with pytest.raises(ValueError, match=r'--cfg-options do not fit .*mine\.py: '):
        read_config(path, options)


def test_a_function_that_the_config_defines(tmp_path) -> None:
    path = tmp_path / 'pure.py'
    path.write_text(
        'from mmpretrain.models import ImageClassifier\n\n'
        'model = dict(type=ImageClassifier, backbone=dict(act=lambda x: x))\n'
    )
    with pytest.raises(ValueError, match=r'pure\.py: model\.backbone\.act is <function .*set dict\(type='):
        read_config(path)


def test_a_class_that_cannot_be_imported(tmp_path) -> None:
    path = tmp_path / 'pure.py'
    path.write_text('from mmpretrain.models import NoSuchModel\n\nmodel = dict(type=NoSuchModel)\n')
    with pytest.raises(ValueError, match=r'pure\.py: model\.type cannot be imported: .*NoSuchModel'):
        model_class(read_config(path))


def test_a_config_without_data_to_check(tmp_path) -> None:
    cfg = Config.fromfile(write(classifier(), tmp_path / 'mine.py', test_dataloader=None))
    with pytest.raises(ValueError, match=r'mine\.py has no data set in train_dataloader, val_dataloader'):
        configured_sources(cfg, lambda *_: None)


def test_a_loader_that_a_check_skips(tmp_path) -> None:
    """Checks advise `--cfg-options train_dataloader=None` for data sets that they cannot check."""
    data = dict(classifier().test_dataloader)
    path = write(classifier(), tmp_path / 'mine.py', train_dataloader=data)
    parser = argparse.ArgumentParser()
    add_config_options(parser)
    args = parser.parse_args(['--cfg-options', 'train_dataloader=None'])
    names: list[str] = []
    configured_sources(read_config(path, args.cfg_options), lambda _, name: names.append(name))
    assert names == ['test_dataloader']


def test_a_task_of_the_same_name() -> None:
    other = Task(model='mmpose.BasePoseEstimator', inferencer='poses:Inferencer')
    with pytest.raises(ValueError, match="another task is called 'video': choose a different name"):
        register_task('video', other)
    assert TASKS['video'] != other


def test_weights_from_two_places() -> None:
    weights = dict(type='Pretrained', checkpoint='b.pth')
    with pytest.raises(ValueError, match=r"pretrained='a\.pth' .* init_cfg .* set one of them to None"):
        initial_weights('a.pth', weights)
    assert initial_weights(None, weights)['checkpoint'] == 'b.pth'


# Pictures and costs


def test_browsing_what_is_not_there(tmp_path) -> None:
    model = load_model(write(classifier(), tmp_path / 'mine.py'), device='cpu')
    with pytest.raises(ValueError, match=r'mine\.py has no `train_dataloader`: nothing to browse'):
        SampleBrowser(model, 'train', 1)
    with pytest.raises(ValueError, match="phase='predict' is unknown: choose from .*'train'"):
        SampleBrowser(model, 'predict', 1)
    with pytest.raises(ValueError, match='cannot show 0 samples: request at least one'):
        SampleBrowser(model, 'test', 0)
    with pytest.raises(ValueError, match=r'inputs of shape \(2, 5, 8, 8\): only images \(B, 3, h, w\)'):
        to_pictures(torch.zeros(2, 5, 8, 8), model)
    browser = SampleBrowser.__new__(SampleBrowser)
    browser.model = model
    with pytest.raises(ValueError, match=r"mine\.py has no `visualizer`.*: set it to dict\(type='Universal"):
        build_visualizer(browser)


def test_costs_of_sizes_that_a_model_cannot_have() -> None:
    model = load_model(classifier(), device='cpu')
    with pytest.raises(ValueError, match='image size must be positive, got 0 x 5'):
        blank_batch(model, (0, 5))
    model.forward = lambda *_, **__: 1 / torch.zeros(2, 3) @ torch.zeros(2)  # sizes that do not fit
    with pytest.raises(
        ValueError, match=r'ImageClassifier does not run on a blank image of 9 x 5 pixels.*: '
    ):
        complexity_at(model, (9, 5))


@pytest.mark.operators('mmaction')
def test_costs_of_clips_of_unknown_length(tmp_path) -> None:
    model = load_model(write(recognizer(), tmp_path / 'mine.py', test_dataloader=None), device='cpu')
    with pytest.raises(ValueError, match=r'mine\.py has no transform with `clip_len`, such as SampleFrames'):
        blank_batch(model, (32, 32))


def test_a_curve_that_a_log_does_not_have(tmp_path) -> None:
    path = tmp_path / 'run' / 'vis_data' / 'scalars.json'
    path.parent.mkdir(parents=True)
    path.write_text('{"loss": 1.0, "iter": 1, "step": 1}\n{"loss": 0.5, "iter": 2, "step": 2}\n')
    log = TrainingLog(tmp_path)
    with pytest.raises(ValueError, match="does not have 'acc'; it has: loss"):
        log.curve('acc')
    assert list(log.curve('loss').values) == [1.0, 0.5]


@pytest.mark.operators('mmaction')
def test_settings_of_a_preprocessor_of_clips() -> None:
    prepare_mmaction()
    from resformer_mm.tasks.video import MultiResolutionActionDataPreprocessor

    with pytest.raises(ValueError, match=r"format_shape='NCHW', but clips are 'NCTHW': leave it out"):
        MultiResolutionActionDataPreprocessor(format_shape='NCHW')
    with pytest.raises(ValueError, match=r'`blending` would mix .* mmaction\.ActionDataPreprocessor'):
        MultiResolutionActionDataPreprocessor(blending=dict(type='MixupBlending', num_classes=2))
    assert MultiResolutionActionDataPreprocessor().format_shape == 'NCTHW'


def test_resolutions_of_a_pipeline_without_a_size(tmp_path, checkpoint) -> None:
    pipeline = [dict(type='resformer_mm.LoadImage'), dict(type='PackInputs')]
    path = write(classifier(pipeline=pipeline), tmp_path / 'mine.py')
    with pytest.raises(ValueError, match=r'--resolutions 32, test_dataloader\.dataset\.pipeline: .*Use'):
        make_test_config(path, checkpoint, resolutions=[32])


def test_a_data_set_without_samples() -> None:
    with pytest.raises(ValueError, match='it has no samples: check its files and its filter'):
        _read([])


def test_a_library_that_cannot_be_imported(monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, 'mmpretrain', None)
    with pytest.raises(
        ImportError, match=r"a config needs the library 'mmpretrain', .*resformer-mm\[onedl\].*install\.sh"
    ):
        import_library('mmpretrain', 'a config')


def test_names_that_the_packages_do_not_have() -> None:
    for package in (resformer_mm, resformer_mm.apis):
        with pytest.raises(AttributeError, match=f"module '{package.__name__}' has no attribute 'nothing'"):
            package.nothing  # noqa: B018


@pytest.mark.operators('mmseg')
def test_drawing_without_a_visualizer(tmp_path, checkpoint) -> None:
    hooks = dict(visualization=dict(type='SegVisualizationHook'))
    path = write(segmentor(), tmp_path / 'mine.py', default_hooks=hooks)
    cfg = make_test_config(path, checkpoint, drawing=Drawing(folder=tmp_path / 'drawn'))
    assert cfg.visualizer.type == 'resformer_mm.LabelMapVisualizer'
    assert cfg.visualizer.save_dir == str(tmp_path / 'drawn')
