"""Messages about files, results and machines: what they name, and that following their advice leads out."""

from __future__ import annotations

import builtins
import importlib.util
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch
from mmengine.registry import DefaultScope
from small_models import classifier, recognizer, save_checkpoint

from resformer_mm.apis.inferencer import make_inferencer
from resformer_mm.apis.weight_hooks import _check_classes
from resformer_mm.cascade.fitting import apply_rule, cross_fit, fit_frontier
from resformer_mm.cascade.outcomes import Outcomes
from resformer_mm.cascade.rule import CascadeRule
from resformer_mm.checkpoints import CheckpointError
from resformer_mm.checkpoints.architecture import infer_architecture
from resformer_mm.checkpoints.conversion import rename_weights
from resformer_mm.checkpoints.reading import Weights, read_content
from resformer_mm.compat import check_requirements, prepare_mmaction
from resformer_mm.datasets.checks import all_tasks
from resformer_mm.datasets.checks.task_check import Copier
from resformer_mm.deployment import ExportError
from resformer_mm.deployment.formats import ONNX_VERSION, OnnxFormat, ProgramFormat
from resformer_mm.engine.classes import head_problem
from resformer_mm.inference.pipelines import InputPipeline
from resformer_mm.inference.sources import InputError, Source, read_frames
from resformer_mm.sweep import Sweep, SweepError
from resformer_mm.sweep.measure import Evaluated, ModelUnderTest
from resformer_mm.sweep.page import write_page
from resformer_mm.sweep.run import Swept
from resformer_mm.synthetic import encode_clip, render_image
from resformer_mm.synthetic.writing import encode_png
from resformer_mm.web import ResolutionRange, WebPredictor
from resformer_mm.web.page import serve

FRAME = np.zeros((8, 8, 3), np.uint8)


def hide(monkeypatch: pytest.MonkeyPatch, *modules: str) -> None:
    """Let modules appear not to be installed."""
    find_spec, real_import = importlib.util.find_spec, builtins.__import__

    def find(name, *rest):
        return None if name in modules else find_spec(name, *rest)

    def imported(name, *rest, **kwargs):
        if name.split('.')[0] in modules:
            raise ModuleNotFoundError(f'No module named {name!r}', name=name)
        return real_import(name, *rest, **kwargs)

    monkeypatch.setattr(importlib.util, 'find_spec', find)
    monkeypatch.setattr('resformer_mm.compat.find_spec', find)
    monkeypatch.setattr(builtins, '__import__', imported)


# What is not installed


@pytest.mark.parametrize(
    ('module', 'remedy'), [('torch', 'pip install torch'), ('mmengine', 'pip install onedl-mmengine')]
)
def test_what_the_package_needs(module, remedy, monkeypatch) -> None:
    hide(monkeypatch, module)
    with pytest.raises(ImportError, match=f'resformer_mm needs (PyTorch|MMEngine).*`{remedy}`'):
        check_requirements()


def test_a_page_without_its_packages(monkeypatch, tmp_path) -> None:
    hide(monkeypatch, 'jinja2')
    with pytest.raises(ImportError, match=r"page needs 'jinja2': pip install .* pip install jinja2 plotly"):
        write_page(None, tmp_path / 'page.html', 'title')


def test_a_web_page_without_its_package(monkeypatch) -> None:
    hide(monkeypatch, 'nicegui')
    with pytest.raises(ImportError, match='needs NiceGUI: .* or pip install nicegui'):
        serve(None, '127.0.0.1', 0, 'title')


@pytest.mark.parametrize(('host', 'port'), [('no.such.host.invalid', 80), ('127.0.0.1', 99999)])
def test_an_address_that_cannot_be_used(host, port, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, 'nicegui', SimpleNamespace(ui=None))
    with pytest.raises(OSError, match=f'cannot listen on {host}, port {port} .*another --host or --port'):
        serve(None, host, port, 'title')


def test_an_export_with_an_early_pytorch(monkeypatch) -> None:
    monkeypatch.setattr(torch, '__version__', torch.torch_version.TorchVersion('2.1.2'))
    for kind in (OnnxFormat, ProgramFormat):
        with pytest.raises(ExportError, match=r'need PyTorch 2\.\d+ or later, this is 2\.1\.2: .* later'):
            kind()


# Checkpoints


def test_a_file_that_the_system_does_not_read(monkeypatch, tmp_path) -> None:
    path = tmp_path / 'weights.pth'
    path.touch()

    def refuse(*_):
        raise PermissionError(13, 'Permission denied')

    monkeypatch.setattr('resformer_mm.checkpoints.reading.load_weights_only', refuse)
    with pytest.raises(CheckpointError, match=r'weights\.pth cannot be read: .*Permission denied'):
        read_content(path)


# Cascades


def outcomes(samples: int) -> Outcomes:
    rng = np.random.default_rng(0)
    confidence = rng.random((2, samples))
    return Outcomes((32, 64), confidence, confidence > 0.5, np.array([1.0, 2.0]))


def test_a_cascade_without_samples() -> None:
    rule = CascadeRule([32, 64], [0.5])
    with pytest.raises(ValueError, match='no samples to apply it to: give outcomes'):
        apply_rule(rule, outcomes(0))
    with pytest.raises(ValueError, match='max_stages must be at least 1, got 0'):
        fit_frontier(outcomes(4), max_stages=0)
    with pytest.raises(ValueError, match='1 samples cannot be split into two halves'):
        cross_fit(outcomes(1), [1.0])
    with pytest.raises(ValueError, match=r'must be of shape \(resolutions, samples\)'):
        Outcomes((32, 64), np.zeros((2, 3)), np.zeros((2, 4)), np.ones(2))
    assert apply_rule(rule, outcomes(4)).cost >= 1


# Sweeps


def test_what_a_sweep_cannot_name(tmp_path) -> None:
    models = [('a.py', 'a.pth'), ('b.py', 'b.pth')]
    for names, message in (
        (['one'], 'names: 2 different names are needed'),
        (['one', 'one'], 'names: 2 different names are needed'),
        (['one', 'a/b'], 'must not contain "/", since they name folders'),
    ):
        with pytest.raises(SweepError, match=message):
            Sweep(models, tmp_path, [32], names)
    assert list(Sweep(models, tmp_path, [32], ['one', 'two']).files) == ['one', 'two']


def test_a_sweep_without_resolutions(tmp_path) -> None:
    with pytest.raises(FileNotFoundError, match=r'there is no config nowhere\.py'):
        Sweep([('nowhere.py', 'a.pth')], tmp_path)
    path = tmp_path / 'mine.py'
    cfg = classifier()
    cfg.dump(path)
    with pytest.raises(SweepError, match=r'--resolutions is needed: .*mine\.py has no `test_cfg'):
        Sweep([(str(path), 'a.pth')], tmp_path)
    options = {'test_cfg.resolutions': [64, 32]}
    assert Sweep([(str(path), 'a.pth')], tmp_path, cfg_options=options).resolutions == [32, 64]
    path.write_text('model = dict(\n')
    with pytest.raises(ValueError, match=r'mine\.py is not a valid config: SyntaxError'):
        Sweep([(str(path), 'a.pth')], tmp_path)


def test_a_split_that_the_config_does_not_have(tmp_path) -> None:
    path = tmp_path / 'mine.py'
    cfg = classifier()
    cfg.test_cfg = dict()
    cfg.dump(path)
    weights = save_checkpoint(cfg, tmp_path / 'weights.pth')
    with pytest.raises(ValueError, match=r'mine\.py has no `val_dataloader` and `val_evaluator`'):
        ModelUnderTest(str(path), str(weights), [32], tmp_path, split='val')


def test_outcomes_without_labels() -> None:
    model = ModelUnderTest.__new__(ModelUnderTest)
    model.evaluate = lambda resolutions: iter([Evaluated(32, {}, None)])
    with pytest.raises(SweepError, match='a cascade cannot be fitted: the predictions have no class scores'):
        model.outcomes([32], 'gflops')


@pytest.mark.parametrize(
    ('error', 'message'),
    [
        (KeyboardInterrupt(), 'interrupted; .*sweep.json: the same command continues'),
        (RuntimeError('DataLoader worker (pid 1) is killed'), 'out of memory .*sweep.json: the same command'),
        (None, 'a.py: its test_evaluator gave no metric'),
    ],
)
def test_a_sweep_that_does_not_end(error, message, tmp_path) -> None:
    sweep = Sweep([('a.py', 'a.pth')], tmp_path, [32])

    def evaluate(resolutions: list[int]) -> Iterator[Evaluated]:
        if error is not None:
            raise error
        yield Evaluated(32, {}, None)

    stub = SimpleNamespace(
        dtype='float32',
        evaluate=evaluate,
        num_evaluated_batches=lambda _: 1,
        num_samples=1,
    )

    def load(name: str, one: Swept, *_: object) -> None:
        from resformer_mm.sweep import SweptModel

        sweep.models[name] = stub
        sweep.record.models.append(SweptModel(name, one.config, one.checkpoint, 'x', [32], 1))

    sweep._load = load
    with pytest.raises(SweepError, match=message):
        sweep.run()


# Inputs and web page


class NothingPipeline(InputPipeline):
    """Loads nothing, as a transform that skips files does."""

    def read(self, source: Source) -> None:
        return None

    def pixels(self, results: dict) -> np.ndarray:
        raise NotImplementedError


def test_a_transform_that_returns_nothing() -> None:
    pipeline = NothingPipeline.__new__(NothingPipeline)
    with pytest.raises(InputError, match='loading transform of the test pipeline returned None'):
        pipeline.load(Source('a.png'))


def test_a_video_without_frames(monkeypatch) -> None:
    class Empty(list):
        fps, frame_cnt, opened = 10, 5, True

        def __enter__(self):
            return self

        def __exit__(self, *_):
            return None

    monkeypatch.setattr('resformer_mm.inference.sources._open', lambda source: Empty())
    with pytest.raises(InputError, match=r'any frame of the video a\.mp4: repair or replace'):
        list(read_frames(Source('a.mp4'), []))


def test_the_slider_of_the_web_page() -> None:
    for values in ((0, 64, 16), (64, 32, 16), (32, 64, 0)):
        with pytest.raises(ValueError, match=f'resolutions from {values[0]} to .* must be positive'):
            ResolutionRange(*values)
    inferencer = make_inferencer(classifier(), None, 'cpu')
    with pytest.raises(ValueError, match='--resolutions takes MIN MAX or MIN MAX STEP, not 1 values'):
        WebPredictor(inferencer, [32])
    assert WebPredictor(inferencer, [32, 64]).range == ResolutionRange(32, 64, inferencer.patch_size)
    pipeline = [dict(type='resformer_mm.LoadImage'), dict(type='PackInputs')]
    with pytest.raises(ValueError, match='there is no resolution to choose: use a config that resizes'):
        WebPredictor(make_inferencer(classifier(pipeline=pipeline), None, 'cpu'))


# Generated data


def test_opencv_that_cannot_write(monkeypatch) -> None:
    monkeypatch.setattr(cv2, 'imencode', lambda *_: (False, None))
    with pytest.raises(RuntimeError, match=r'cannot write \*\.png files: install one that can'):
        encode_png(FRAME[..., 0])
    monkeypatch.setattr(cv2, 'VideoWriter', FailingWriter)
    with pytest.raises(RuntimeError, match=r'cannot write \*\.avi files: install one that can'):
        encode_clip([FRAME])


class FailingWriter:
    """Writer of an OpenCV without codecs."""

    def __init__(self, *_: object) -> None:
        pass

    fourcc = staticmethod(lambda *_: 0)

    def isOpened(self) -> bool:  # noqa: N802  name of OpenCV
        return False


def test_a_picture_without_pixels() -> None:
    with pytest.raises(ValueError, match='shorter side in pixels and must be positive, got 0'):
        render_image(None, 0)


# Videos


@pytest.fixture
def video():
    prepare_mmaction()
    from resformer_mm.tasks import video

    with DefaultScope.overwrite_default_scope('mmaction'):
        yield video


@pytest.mark.operators('mmaction')
def test_a_pipeline_that_does_not_decode(video) -> None:
    cfg = recognizer()
    steps = cfg.test_dataloader.dataset.pipeline
    cfg.test_dataloader.dataset.pipeline = [step for step in steps if not step.type.endswith('Decode')]
    with pytest.raises(ValueError, match=r'does not decode videos: add .*type="DecordDecode"'):
        make_inferencer(cfg, None, 'cpu')


@pytest.mark.operators('mmaction')
def test_a_batch_that_is_not_of_clips(video) -> None:
    preprocessor = video.MultiResolutionActionDataPreprocessor()
    with pytest.raises(ValueError, match=r'is \(B, num_clips, C, T, H, W\), got \(2, 3, 8, 8\): end'):
        preprocessor(dict(inputs=torch.zeros(2, 3, 8, 8)))
    model = video.MultiResolutionRecognizer.__new__(video.MultiResolutionRecognizer)
    with pytest.raises(ValueError, match=r'training needs clips .* got \(2, 3, 8, 8\): use\s+model'):
        model.backbone_inputs(torch.zeros(2, 3, 8, 8))


@pytest.mark.operators('mmaction')
def test_scores_of_every_view(video, monkeypatch) -> None:
    from mmaction.models import Recognizer3D

    sample = SimpleNamespace(pred_score=torch.zeros(3, 5))
    monkeypatch.setattr(Recognizer3D, 'predict', lambda *_: [sample])
    model = video.MultiResolutionRecognizer.__new__(video.MultiResolutionRecognizer)
    with pytest.raises(ValueError, match=r"scores of a video are \(3, 5\).*average_clips to 'prob'"):
        model.predict(None, None)


@pytest.mark.operators('mmaction')
def test_a_video_of_no_frames(video, monkeypatch) -> None:
    from resformer_mm.tasks.video import files

    monkeypatch.setattr(files.ClipReader, '_guarded', lambda *_: [])
    monkeypatch.setattr(files.ClipReader, '__len__', lambda _: 0)
    with pytest.raises(files.VideoFileError, match=r'missing its end|truncated|frames'):
        files.ClipReader('a.mp4')


def test_position_tables_that_are_not_square() -> None:
    state = {
        'backbone.patch_embed.proj.weight': torch.zeros(64, 3, 8, 8),
        'backbone.global_position.table': torch.zeros(1, 15, 64),
        'backbone.blocks.0.attn.qkv.weight': torch.zeros(192, 64),
        'backbone.blocks.0.mlp.fc1.weight': torch.zeros(128, 64),
    }
    with pytest.raises(CheckpointError, match=r'a\.pth: a position table of shape \(1, 15, 64\).*another'):
        infer_architecture(state, 'a.pth', num_heads=1)


def test_a_position_that_is_unknown() -> None:
    state = dict.fromkeys(
        ['pos_embed', 'blocks.0.attn.qkv.weight', 'patch_embed.proj.weight'], torch.zeros(1)
    )
    with pytest.raises(CheckpointError, match="position='rope' is unknown: choose from .*'learned'"):
        rename_weights(Weights(Path('a.pth'), '', state), position='rope')


@pytest.mark.skipif(torch.__version__ < ONNX_VERSION, reason=f'ONNX files need PyTorch {ONNX_VERSION}')
def test_an_operator_without_a_counterpart(monkeypatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise torch.onnx.errors.OnnxExporterError('no translation of aten::new_operator')

    program = SimpleNamespace(graph_signature=SimpleNamespace(user_outputs=['scores']))
    monkeypatch.setattr('resformer_mm.deployment.formats.capture', lambda model: program)
    monkeypatch.setattr(torch.onnx, 'export', fail)
    settings = dict(input_name='image', axes={}, translations=dict)
    model = SimpleNamespace(model=torch.nn.Linear(1, 1), **settings)
    with pytest.raises(ExportError, match='Linear has no ONNX counterpart: .*new_operator'):
        OnnxFormat(output_names=['scores']).write(model, Path('a.onnx'))


# Data sets


def test_class_names_that_are_empty() -> None:
    from resformer_mm.tasks.classification import ImageFolder

    dataset = ImageFolder.__new__(ImageFolder)
    dataset._metainfo = dict(classes=('cat', ' '))
    with pytest.raises(ValueError, match=r'metainfo\.classes.* has an empty name: remove it'):
        dataset._check_class_names()


def test_the_value_of_ignored_pixels() -> None:
    pytest.importorskip('mmseg')
    from resformer_mm.tasks.segmentation.label_maps import LabelValues

    with pytest.raises(ValueError, match=r'ignore_index must be in 0\.\.255 for 8-bit masks, got 256'):
        LabelValues(num_classes=3, ignore_index=256)


@pytest.mark.operators('mmdet')
@pytest.mark.parametrize(
    ('content', 'message'), [('{', 'not valid JSON'), ('{"a": 1}', '`?images`? is missing')]
)
def test_a_file_that_cannot_be_repaired(content, message, tmp_path) -> None:
    from resformer_mm.tasks.detection.check import AnnotatedImages
    from resformer_mm.tasks.detection.coco import AnnotationError, read_annotations
    from resformer_mm.tasks.detection.fixing import write_repaired

    path = tmp_path / 'a.json'
    path.write_text(content)
    with pytest.raises(ValueError, match=rf'a\.json.*{message}'):
        write_repaired(AnnotatedImages(str(tmp_path), str(path), ('cat',)), tmp_path / 'b.json')
    with pytest.raises(AnnotationError, match=rf'a\.json.*{message}'):
        read_annotations(str(path))


@pytest.mark.parametrize(
    'task', ['classification', pytest.param('video', marks=pytest.mark.operators('mmaction'))]
)
def test_lists_that_cannot_be_repaired(task, tmp_path) -> None:
    (tmp_path / 'list.txt').write_text('a.png 0\nb.png\n')
    copier = Copier([str(tmp_path)], tmp_path.parent / f'{tmp_path.name}_copy')
    if task == 'video':
        from resformer_mm.tasks.video.data_check import ClipList, VideoCheck

        check, source = VideoCheck(), ClipList(str(tmp_path / 'list.txt'), str(tmp_path), 2)
    else:
        from resformer_mm.tasks.classification.data_check import ClassFolders, ClassificationCheck

        check = ClassificationCheck()
        source = ClassFolders(str(tmp_path), ann_file=str(tmp_path / 'list.txt'))
    with pytest.raises(ValueError, match=r'list\.txt, line 2: .*: correct the lines first'):
        check.repair(source, copier)


def test_labels_beyond_the_head() -> None:
    dataset = SimpleNamespace(metainfo={})
    problem = head_problem(3, dataset, [0, 5], 'train_dataloader', True)
    assert re.search(r'is 3, .* labels 0 to 5 .*: set metainfo\.classes', str(problem))
    assert head_problem(6, dataset, [0, 5], 'train_dataloader', True) is None


def test_data_of_several_tasks(tmp_path, monkeypatch) -> None:
    def import_name(name: str) -> object:
        return lambda: SimpleNamespace(below=lambda *_: ['source'], is_general=False)

    monkeypatch.setattr(all_tasks, 'import_name', import_name)
    with pytest.raises(ValueError, match=r'data of several tasks \(.*detection.*\): choose one with --task'):
        all_tasks.sources_below(tmp_path, None)
    assert all_tasks.sources_below(tmp_path, None, 'detection')[0] == 'detection'
    monkeypatch.setattr(all_tasks, 'task_of', lambda cfg: SimpleNamespace(data_check=None))
    with pytest.raises(ValueError, match=r'mine\.py: there is no check .*: give a config of .*detection'):
        all_tasks.sources_in_config(SimpleNamespace(filename='mine.py'))


def test_a_checkpoint_of_other_classes() -> None:
    runner = SimpleNamespace(
        model=torch.nn.Linear(1, 1),
        test_dataloader=SimpleNamespace(dataset=SimpleNamespace(metainfo=dict(classes=('b', 'a')))),
    )
    weights = SimpleNamespace(dataset_meta=dict(classes=('a', 'b')), path='old.pth')
    with pytest.raises(CheckpointError, match=r'old\.pth was trained on other classes .*in their order'):
        _check_classes(runner, weights)


def test_an_image_that_the_web_page_cannot_use() -> None:
    predictor = WebPredictor.__new__(WebPredictor)
    content = cv2.imencode('.png', np.zeros((4, 4), np.uint8))[1].tobytes()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr('resformer_mm.web.predictor.MAX_PIXELS', 8)
        with pytest.raises(
            InputError, match=r'a\.png cannot be used: 4 x 4 pixels are more than the limit of 8'
        ):
            predictor.decode(content, 'a.png')
    assert predictor.decode(content, 'a.png').shape == (4, 4, 3)
