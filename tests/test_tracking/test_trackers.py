"""What the trackers themselves give back of a run: TensorBoard, Weights & Biases without network, MLflow."""

from __future__ import annotations

import io
import json
import random
import re
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from mmengine.config import Config
from mmengine.hooks import LoggerHook
from mmengine.logging import MessageHub
from mmengine.runner.base_loop import BaseLoop
from mmengine.visualization import Visualizer
from mmengine.visualization.vis_backend import BaseVisBackend
from PIL import Image

from resformer_mm.engine import hooks as engine_hooks
from resformer_mm.tracking import ResolutionCurveHook, hook, settle_trackers
from resformer_mm.tracking.hook import curves_by_resolution, draw_curves_of
from resformer_mm.tracking.logging import log_by_resolution, log_table

ROWS = [dict(model='a|b', resolution=224, top1='50.0'), dict(model='a|b', resolution=160, top1='40.0')]


def metrics(epoch: int) -> dict[str, float]:
    found = {f'{side}/accuracy/top1': side / 10 + epoch for side in (64, 48, 32)}
    return {**found, 'mean/accuracy/top1': 4.8 + epoch, '64/mug (large)': 1.0, '48/names': ['a']}


class Loop(BaseLoop):
    def __init__(self) -> None:
        self.epoch, self.iter = 0, 0

    def run(self) -> None:
        raise NotImplementedError


def make_runner(backend: str, folder: Path, **settings: object) -> SimpleNamespace:
    """Return what the hook sees of a runner."""
    cfg = Config(dict(visualizer=dict(vis_backends=[dict(type=backend, **settings)]), resolutions=[64, 48]))
    cfg.work_dir = str(folder)
    settle_trackers(cfg)
    visualizer = Visualizer(
        name=f'{backend}{folder}', vis_backends=cfg.visualizer.vis_backends, save_dir=str(folder)
    )
    visualizer.add_config(cfg)
    hub = MessageHub.get_instance(f'hub{backend}{folder}')
    loop = Loop()
    return SimpleNamespace(
        cfg=cfg,
        visualizer=visualizer,
        message_hub=hub,
        hooks=[LoggerHook()],
        _train_loop=loop,
        epoch=0,
        iter=0,
    )


def validate(runner: SimpleNamespace, curves: ResolutionCurveHook, epochs: list[int]) -> None:
    """Do what a runner does after validations, with MMEngine's part."""
    runner.message_hub.update_scalar('train/loss_cls_64', 0.5)
    for epoch in epochs:
        runner.epoch = epoch
        numbers = {name: value for name, value in metrics(epoch).items() if not isinstance(value, list)}
        runner.visualizer.add_scalars(numbers, step=epoch)
        curves.after_val_epoch(runner, metrics(epoch))


def log_everything(runner: SimpleNamespace) -> None:
    curves = ResolutionCurveHook()
    validate(runner, curves, [1, 2])
    curves.after_test_epoch(runner, metrics(5))
    log_table(runner.visualizer, 'sweep_table', ROWS)
    log_by_resolution(runner.visualizer, 'sweep/gflops', {224: 2.0, 160: 1.0})
    runner.visualizer.close()


def test_tensorboard(tmp_path):
    pytest.importorskip('tensorboard')
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    from tensorboard.plugins.custom_scalar import layout_pb2

    log_everything(make_runner('TensorboardVisBackend', tmp_path))
    [file] = tmp_path.glob('vis_data/events.out.tfevents.*')
    events = EventAccumulator(str(file), size_guidance=dict(images=0, scalars=0, tensors=0))
    events.Reload()

    def curve(name: str) -> list[tuple[int, float]]:
        return [(event.step, pytest.approx(event.value)) for event in events.Scalars(name)]

    assert curve('64/accuracy/top1') == [(1, 7.4), (2, 8.4)]
    assert curve('test_by_resolution/accuracy/top1') == [(32, 8.2), (48, 9.8), (64, 11.4)]
    assert curve('sweep/gflops') == [(160, 1.0), (224, 2.0)]
    pictures = events.Images('by_resolution')
    assert [picture.step for picture in pictures] == [1, 2]
    with Image.open(io.BytesIO(pictures[1].encoded_image_string)) as image:
        history = [[epoch, curves_by_resolution(metrics(epoch))] for epoch in (1, 2)]
        np.testing.assert_array_equal(np.asarray(image), draw_curves_of(history, 'epoch', [64, 48]))
    [layout] = events.Tensors('custom_scalars__config__')
    layout = layout_pb2.Layout.FromString(layout.tensor_proto.string_val[0])
    patterns = [
        tag for category in layout.category for chart in category.chart for tag in chart.multiline.tag
    ]
    names = [[name for name in (*metrics(1), 'loss_cls_64') if re.match(tag, name)] for tag in patterns]
    top1 = [name for name in metrics(1) if name.endswith('top1')]
    assert top1 in names and ['loss_cls_64'] in names
    [text] = events.Tensors('sweep_table/text_summary')
    assert b'224' in text.tensor_proto.string_val[0]


@pytest.mark.slow
def test_weights_and_biases(tmp_path, monkeypatch):
    pytest.importorskip('wandb')
    monkeypatch.setenv('WANDB_MODE', 'offline')
    monkeypatch.setenv('WANDB_SILENT', 'true')
    runner = make_runner(
        'WandbVisBackend', tmp_path, init_kwargs=dict(project='p', id='run-1', resume='allow')
    )
    log_everything(runner)
    [run] = tmp_path.glob('vis_data/wandb/offline-run-*-run-1')
    pictures = sorted(run.glob('files/media/images/*.png'))
    assert {path.name.rpartition('_')[0].rstrip('0123456789_') for path in pictures} == {
        'by_resolution', 'test_by_resolution',
    }  # fmt: skip
    tables = [json.loads(path.read_text()) for path in run.glob('files/media/table/**/*.json')]
    rows = [table['data'] for table in tables]
    assert [['a|b', '224', '50.0'], ['a|b', '160', '40.0']] in rows
    assert [[160, 1.0], [224, 2.0]] in rows
    series = max((data for data in rows if len(data[0]) == 3 and data[0][1] in ('32', '48', '64')), key=len)
    assert {(step, key): value for step, key, value in series}[2, '64'] == pytest.approx(8.4)
    assert len(series) == 6  # two validations at three resolutions


@pytest.mark.slow
def test_mlflow(tmp_path, monkeypatch):
    pytest.importorskip('mlflow')
    from mlflow import MlflowClient

    monkeypatch.chdir(tmp_path)
    uri = f'sqlite:///{tmp_path / "runs.db"}'
    monkeypatch.setenv('MLFLOW_TRACKING_URI', uri)
    log_everything(make_runner('MLflowVisBackend', tmp_path / 'work', exp_name='mini', run_name='first'))
    client = MlflowClient(uri)
    [run] = client.search_runs([client.get_experiment_by_name('mini').experiment_id])
    assert (run.info.run_name, run.info.status) == ('first', 'FINISHED')

    def curve(name: str) -> list[tuple[int, float]]:
        return [(m.step, pytest.approx(m.value)) for m in client.get_metric_history(run.info.run_id, name)]

    assert curve('64/accuracy/top1') == [(1, 7.4), (2, 8.4)]
    assert curve('64/mug _large_') == [(1, 1.0), (2, 1.0)]  # MLflow refuses parentheses
    assert sorted(curve('sweep/gflops'), key=lambda point: point[0]) == [(160, 1.0), (224, 2.0)]
    files = [file.path for file in client.list_artifacts(run.info.run_id, 'by_resolution')]
    assert files == ['by_resolution/000001.png', 'by_resolution/000002.png']
    text = Path(client.download_artifacts(run.info.run_id, 'sweep_table.csv', str(tmp_path))).read_text()
    assert text.split() == ['model,resolution,top1', 'a|b,224,50.0', 'a|b,160,40.0']

    monkeypatch.setenv('MLFLOW_RUN_ID', run.info.run_id)  # another start, with another config
    resumed = make_runner('MLflowVisBackend', tmp_path / 'other', exp_name='mini', run_name='first')
    validate(resumed, ResolutionCurveHook(), [3])
    resumed.visualizer.close()
    assert curve('64/accuracy/top1') == [(1, 7.4), (2, 8.4), (3, 9.4)]
    assert client.get_run(run.info.run_id).data.params['work_dir'] == str(tmp_path / 'work')
    text = Path(client.download_artifacts(run.info.run_id, 'config.py', str(tmp_path))).read_text()
    assert str(tmp_path / 'other') in text

    monkeypatch.delenv('MLFLOW_RUN_ID', raising=False)  # MLflow removes it itself
    for folder in ('one/20260101_120000', 'two/20260101_120001'):
        random.seed(0)  # MLflow would choose the same name
        make_runner('MLflowVisBackend', tmp_path / folder).visualizer.close()
    runs = client.search_runs([client.get_experiment_by_name('Default').experiment_id])
    assert {run.info.run_name for run in runs} == {'one 20260101_120000', 'two 20260101_120001'}


class Recorder(BaseVisBackend):
    """A tracker that keeps its pictures."""

    experiment = None

    def __init__(self) -> None:
        super().__init__('')
        self.pictures: list[tuple[str, int]] = []

    def _init_env(self) -> None:
        pass

    def add_image(self, name: str, pixels: np.ndarray, step: int) -> None:
        assert pixels.dtype == np.uint8 and pixels.ndim == 3
        self.pictures.append((name, step))


@pytest.fixture
def runner(tmp_path) -> SimpleNamespace:
    made = make_runner('LocalVisBackend', tmp_path)
    made.tracker = made.visualizer._vis_backends['recorder'] = Recorder()
    return made


def history(runner: SimpleNamespace) -> list[int]:
    return [step for step, _ in runner.message_hub.runtime_info[hook.HISTORY]]


def test_a_resumed_run_goes_on_with_the_curves_of_its_checkpoint(runner):
    validate(runner, ResolutionCurveHook(), [1, 2, 3])
    state = runner.message_hub.state_dict()
    assert state['runtime_info'][hook.HISTORY][0][1]['accuracy/top1'] == {32: 4.2, 48: 5.8, 64: 7.4}
    resumed = MessageHub.get_instance('resumed')
    resumed.load_state_dict(state)
    runner.message_hub = resumed
    validate(runner, ResolutionCurveHook(), [3, 4])  # the validation at which it stopped is repeated
    assert history(runner) == [1, 2, 3, 4]
    assert runner.tracker.pictures[-1] == ('by_resolution', 4)


def test_iterations_are_the_steps_where_mmengine_logs_by_iteration(runner):
    runner.hooks = [LoggerHook(log_metric_by_epoch=False)]
    runner.iter = 900
    validate(runner, ResolutionCurveHook(), [1])
    assert runner.tracker.pictures == [('by_resolution', 900)]


def test_nothing_is_done_without_trackers_or_in_other_processes(runner, monkeypatch):
    monkeypatch.setattr(hook, 'is_main_process', lambda: False)
    validate(runner, ResolutionCurveHook(), [1])
    monkeypatch.undo()
    del runner.visualizer._vis_backends['recorder']
    validate(runner, ResolutionCurveHook(), [1])
    assert runner.tracker.pictures == [] and hook.HISTORY not in runner.message_hub.runtime_info


def test_a_validation_at_one_resolution_has_no_curve(runner):
    ResolutionCurveHook().after_val_epoch(runner, {'accuracy/top1': 3.0, '64/accuracy/top1': 2.0})
    assert runner.tracker.pictures == []


def test_curves_leave_out_what_is_not_a_number():
    found = curves_by_resolution(
        {**metrics(0), '64/iou': np.float32(1), '32/iou': float('nan'), '64/ok': True}
    )
    assert list(found) == ['accuracy/top1', 'iou']
    assert list(found['accuracy/top1'].items()) == [(32, 3.2), (48, 4.8), (64, 6.4)]
    assert found['iou'][64] == 1 and np.isnan(found['iou'][32])
    draw_curves_of([[1, found], [2, {'iou': found['iou']}]], 'epoch')


@pytest.mark.parametrize('is_first', [True, False])
def test_processes_that_draw_all_samples_start_no_runs_of_their_own(runner, monkeypatch, is_first):
    monkeypatch.setattr(engine_hooks, 'is_main_process', lambda: is_first)
    runner.test_dataloader = SimpleNamespace(dataset=[])
    engine_hooks.DrawInEveryProcessHook().before_test(runner)
    assert ('recorder' in runner.visualizer._vis_backends) is is_first
    assert 'LocalVisBackend' in runner.visualizer._vis_backends
