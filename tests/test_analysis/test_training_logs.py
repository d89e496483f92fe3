"""Training logs against lines that are written here, as MMEngine writes them."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from resformer_mm.analysis import training_curves
from resformer_mm.analysis.figures import check_picture_path
from resformer_mm.analysis.training_curves import plot_training_curves, running_mean
from resformer_mm.analysis.training_logs import TrainingLog, train_time


def write_run(work_dir: Path, name: str, lines: list[dict | str]) -> Path:
    path = work_dir / name / 'vis_data' / 'scalars.json'
    path.parent.mkdir(parents=True)
    path.write_text(''.join(f'{line if isinstance(line, str) else json.dumps(line)}\n' for line in lines))
    return path


def train(step: int, epoch: int | None = None, loss: float | None = None, time: float = 1.0) -> dict:
    by_epoch = {} if epoch is None else {'epoch': epoch}
    line = {'lr': 0.1, 'loss': step / 100 if loss is None else loss, 'time': time, 'data_time': 0.5}
    return {**line, **by_epoch, 'iter': step, 'step': step}


def val(step: int, top1: float) -> dict:
    return {'64/accuracy/top1': top1, 'data_time': 7.0, 'time': 9.0, 'step': step}


def epochs(first: int, last: int) -> list[dict]:
    """Epochs of 32 iterations logged every 10, validated after every second one."""
    lines = []
    for epoch in range(first, last + 1):
        lines += [train(32 * (epoch - 1) + inner, epoch) for inner in (10, 20, 30)]
        lines += [val(epoch, 10 * epoch)] if epoch % 2 == 0 else []
    return lines


def points(log: TrainingLog, key: str) -> list[tuple[float, float]]:
    curve = log.curve(key)
    return list(zip(curve.iterations, curve.values))


def test_a_training_by_epoch(tmp_path: Path) -> None:
    write_run(tmp_path, '20260101_000000', epochs(1, 4))
    log = TrainingLog(tmp_path)
    steps = [10, 20, 30, 42, 52, 62, 74, 84, 94, 106, 116, 126]
    assert points(log, 'loss') == [(step, step / 100) for step in steps]
    assert points(log, '64/accuracy/top1') == [
        (64, 20),
        (128, 40),
    ]  # at the end of the epoch, not its last line
    assert log.epochs(log.curve('64/accuracy/top1')) == [2, 4]
    assert log.epochs(log.curve('loss'))[3] == pytest.approx(1 + 10 / 32)
    assert log.curve('64/accuracy/top1').is_metric and not log.curve('loss').is_metric
    assert log.keys == ['lr', 'loss', 'time', 'data_time', '64/accuracy/top1']
    assert set(log.curve('time').values) == {1.0}  # of training; validations log one too
    assert log.name == tmp_path.name


def test_null_is_a_number_that_is_not_finite(tmp_path: Path) -> None:
    lines = [train(1), {**train(2), 'loss': None}, train(3), {**val(3, 0), 'mIoU': None}]
    write_run(tmp_path, '20260101_000000', lines)
    log = TrainingLog(tmp_path)
    assert log.curve('loss').values == pytest.approx([0.01, math.nan, 0.03], nan_ok=True)
    assert 'mIoU' in log.keys and math.isnan(log.curve('mIoU').values[0])


@pytest.mark.parametrize('steps', [(200, 400), (0, 0)], ids=['by iteration', 'by epochs that do not pass'])
def test_a_training_by_iteration(tmp_path: Path, steps: tuple[int, int]) -> None:
    lines = []
    for half in (0, 1):
        lines += [train(200 * half + step) for step in (50, 100, 150, 200)]
        lines.append(val(steps[half], half))
    log = TrainingLog(write_run(tmp_path, '20260101_000000', lines))
    assert points(log, '64/accuracy/top1') == [(200, 0), (400, 1)]
    with pytest.raises(ValueError, match='has no epochs, so the length of an epoch is unknown'):
        log.epochs(log.curve('loss'))


def test_an_epoch_alone(tmp_path: Path) -> None:
    log = TrainingLog(write_run(tmp_path, '20260101_000000', [train(10, 1), train(20, 1), val(1, 5)]))
    assert points(log, '64/accuracy/top1') == [(20, 5)]
    with pytest.raises(ValueError, match='has only one epoch'):
        log.epochs(log.curve('loss'))


def test_resumed_runs_are_joined(tmp_path: Path) -> None:
    """The second run broke off in epoch 6, after the checkpoint of epoch 4; the third began there."""
    early = [{**line, 'loss': -1.0} if 'loss' in line else line for line in epochs(1, 3)]
    write_run(tmp_path, '20260101_000000', early)
    write_run(tmp_path, '20260102_000000', epochs(3, 5))
    write_run(tmp_path, '20260103_000000', epochs(5, 8))
    log = TrainingLog(tmp_path)
    steps = [32 * (epoch - 1) + inner for epoch in range(1, 9) for inner in (10, 20, 30)]
    assert points(log, 'loss') == [(step, -1.0 if step <= 64 else step / 100) for step in steps]
    assert points(log, '64/accuracy/top1') == [(32 * epoch, 10 * epoch) for epoch in (2, 4, 6, 8)]
    assert len(log.files) == 3
    # One of the runs by itself: its folder, its file, or the folder of the file.
    run = tmp_path / '20260102_000000'
    for path in (run, run / 'vis_data', run / 'vis_data' / 'scalars.json'):
        assert [step for step, _ in points(TrainingLog(path), 'loss')] == steps[6:15]
        assert TrainingLog(path).name == (tmp_path.name if path != run else run.name)


@pytest.mark.parametrize('interval', [5, 10, 50])
def test_a_run_that_started_anew_replaces_the_earlier(tmp_path: Path, interval: int) -> None:
    """Whatever their logging intervals."""
    write_run(tmp_path, '20260101_000000', epochs(1, 4))
    write_run(tmp_path, '20260102_000000', [train(step, loss=0) for step in range(interval, 200, interval)])
    log = TrainingLog(tmp_path)
    assert points(log, 'loss') == [(step, 0) for step in range(interval, 200, interval)]
    assert '64/accuracy/top1' not in log.keys


def test_runs_that_logged_no_training_are_passed_over(tmp_path: Path) -> None:
    write_run(tmp_path, '20260101_000000', epochs(1, 2))
    write_run(tmp_path, '20260102_000000', [])
    (tmp_path / '20260103_000000' / 'vis_data').mkdir(parents=True)  # a test run
    assert len(points(TrainingLog(tmp_path), 'loss')) == 6
    write_run(tmp_path / 'empty', '20260101_000000', [''])
    with pytest.raises(ValueError, match='has no training lines'):
        TrainingLog(tmp_path / 'empty')


def test_patterns(tmp_path: Path) -> None:
    losses = {f'loss_cls_{resolution}': 1.0 for resolution in (64, 48)}
    write_run(tmp_path, '20260101_000000', [{**train(1, 1), **losses, 'note': 'text'}, val(1, 3)])
    log = TrainingLog(tmp_path)
    assert log.match(['loss']) == ['loss']
    assert log.match(['loss_*']) == ['loss_cls_64', 'loss_cls_48']
    assert log.match(['*/accuracy/top1', 'loss', 'loss*']) == [
        '64/accuracy/top1',
        'loss',
        'loss_cls_64',
        'loss_cls_48',
    ]
    for unknown in ('acc', 'note', 'step', 'lo'):
        words = f"does not have '{unknown}'; it has: lr, loss, time, data_time, loss_cls_64, loss_cls_48, 64/"
        with pytest.raises(ValueError, match=words):
            log.match(['loss', unknown])


@pytest.mark.parametrize('line', ['{"loss": 1.0, "ste', 'Epoch 1', '[1]', '{"loss": 1.0}', '{"step": "1"}'])
def test_a_damaged_line_is_named(tmp_path: Path, line: str) -> None:
    path = write_run(tmp_path, '20260101_000000', [train(1, 1), '', line, train(2, 1)])
    with pytest.raises(ValueError, match=rf'{path}, line 3 is (damaged|not a line of a log)'):
        TrainingLog(tmp_path)


def test_no_log(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match='there is no log .*nowhere'):
        TrainingLog(tmp_path / 'nowhere')
    with pytest.raises(FileNotFoundError, match='has no training log'):
        TrainingLog(tmp_path)


def test_train_time(tmp_path: Path) -> None:
    times = {1: [9.0, 1.0, 2.0], 2: [5.0, 2.0, 2.0], 3: [3.0, 4.0, 5.0]}
    lines = [train(10 * e + i, e, time=t) for e, row in times.items() for i, t in enumerate(row, start=1)]
    log = TrainingLog(write_run(tmp_path, '20260101_000000', [*lines, val(3, 1)]))
    time = train_time(log)
    assert time.by_epoch == {1: 1.5, 2: 2.0, 3: 4.5}
    assert time.mean == pytest.approx(16 / 6)
    everything = train_time(log, include_outliers=True)
    assert everything.by_epoch == {1: 4.0, 2: 3.0, 3: 4.0}
    assert everything.mean == pytest.approx(33 / 9)
    deviation = math.sqrt(((1.5 - 8 / 3) ** 2 + (2 - 8 / 3) ** 2 + (4.5 - 8 / 3) ** 2) / 3)
    assert str(time).splitlines() == [
        'slowest epoch: 3, 4.5000 s/iter',
        'fastest epoch: 1, 1.5000 s/iter',
        f'standard deviation over epochs: {deviation:.4f} s/iter',
        'average: 2.6667 s/iter',
    ]


def test_train_time_by_iteration(tmp_path: Path) -> None:
    log = TrainingLog(write_run(tmp_path, 'a', [train(i, time=t) for i, t in ((1, 9.0), (2, 1.0), (3, 2.0))]))
    assert str(train_time(log)) == 'average: 1.5000 s/iter'
    assert str(train_time(log, include_outliers=True)) == 'average: 4.0000 s/iter'


def test_no_train_time(tmp_path: Path) -> None:
    log = TrainingLog(write_run(tmp_path, 'a', [{'loss': 1.0, 'iter': 1, 'step': 1}]))
    with pytest.raises(ValueError, match='has no `time`'):
        train_time(log)
    one_each = [train(10, 1), train(20, 1), train(40, 2)]
    with pytest.raises(ValueError, match='only one line in epoch 2, .* --include-outliers'):
        train_time(TrainingLog(write_run(tmp_path, 'b', one_each)))
    with pytest.raises(ValueError, match='only one line in the training'):
        train_time(TrainingLog(write_run(tmp_path, 'c', [train(10)])))


def test_running_mean() -> None:
    values = [1.0, 5.0, 3.0, math.nan, 9.0, 2.0]
    assert running_mean(values, 1)[:3] == values[:3]
    expected = [3.0, 3.0, 4.0, math.nan, 5.5, 5.5]  # a value with its neighbours, without what is not finite
    for one, other in zip(running_mean(values, 3), expected):
        assert one == pytest.approx(other, nan_ok=True)
    assert running_mean([1.0, 3.0, 5.0, 7.0], 2) == [1, 2, 4, 6]


@pytest.fixture
def figures(monkeypatch: pytest.MonkeyPatch) -> list:
    drawn = []
    monkeypatch.setattr(training_curves, 'save_figure', lambda figure, path: drawn.append(figure))
    return drawn


def two_logs(tmp_path: Path) -> list[TrainingLog]:
    for name in ('one', 'other'):
        write_run(tmp_path / name, '20260101_000000', epochs(1, 4))
    return [TrainingLog(tmp_path / 'one'), TrainingLog(tmp_path / 'other')]


def test_the_picture_of_one_training(tmp_path: Path, figures: list) -> None:
    log = two_logs(tmp_path)[0]
    assert plot_training_curves([log], ['loss', 'lr', '*top1'], 'unused.png', title='Title', smooth=3) == []
    training, validation = figures[0].axes
    raw, smooth, *_ = training.lines
    steps = [10, 20, 30, 42, 52, 62, 74, 84, 94, 106, 116, 126]
    assert raw.get_xydata().tolist() == [[step, step / 100] for step in steps]
    assert smooth.get_ydata()[1] == pytest.approx(0.2) and smooth.get_ydata()[2] == pytest.approx(0.92 / 3)
    assert validation.lines[0].get_xydata().tolist() == [[64, 20], [128, 40]]
    assert [text.get_text() for text in training.get_legend().texts] == ['loss', 'lr']
    assert [axes.get_ylabel() for axes in figures[0].axes] == ['value', '64/accuracy/top1']
    assert validation.get_xlabel() == 'iteration'
    assert figures[0].get_suptitle() == 'Title'


def test_the_picture_of_two_trainings(tmp_path: Path, figures: list) -> None:
    logs = two_logs(tmp_path)
    plot_training_curves(logs, ['*top1'], 'unused.png', by_epoch=True)
    (axes,) = figures[0].axes
    assert [line.get_xydata().tolist() for line in axes.lines] == [[[2, 20], [4, 40]]] * 2
    assert len({line.get_color() for line in axes.lines}) == 2
    assert [text.get_text() for text in axes.get_legend().texts] == ['one', 'other']
    assert axes.get_xlabel() == 'epoch'
    plot_training_curves(logs, ['lr', 'loss'], 'unused.png')
    (axes,) = figures[1].axes
    texts = ['one: lr', 'one: loss', 'other: lr', 'other: loss']
    assert [text.get_text() for text in axes.get_legend().texts] == texts
    looks = [(line.get_color(), line.get_linestyle()) for line in axes.lines]
    assert len(set(looks)) == 4 and looks[0][0] == looks[2][0] and looks[0][1] == looks[1][1]
    plot_training_curves(logs, ['loss'], 'unused.png', legend=['A', 'B'])
    assert [text.get_text() for text in figures[2].axes[0].get_legend().texts] == ['A', 'B']
    with pytest.raises(ValueError, match='legend has 3 names for 2 curves: one; other'):
        plot_training_curves(logs, ['loss'], 'unused.png', legend=['A', 'B', 'C'])
    with pytest.raises(ValueError, match='cannot smooth over 0 values'):
        plot_training_curves(logs, ['loss'], 'unused.png', smooth=0)


def test_values_that_are_not_finite_leave_a_gap_and_are_counted(tmp_path: Path, figures: list) -> None:
    losses = (1.0, math.nan, math.inf, 4.0)
    write_run(tmp_path / 'run', 'a', [train(i, loss=loss) for i, loss in enumerate(losses, start=1)])
    notes = plot_training_curves([TrainingLog(tmp_path / 'run')], ['loss'], 'unused.png')
    assert notes == ['run: 2 of 4 values of loss are not finite and leave a gap']
    (line,) = figures[0].axes[0].lines
    assert line.get_ydata() == pytest.approx([1, math.nan, math.nan, 4], nan_ok=True)


def test_y_labels_are_what_the_keys_share() -> None:
    name = training_curves._common_name
    assert name(['loss_cls_64', 'loss_cls_48']) == 'loss_cls'
    assert name(['64/accuracy/top1', '128/accuracy/top1', 'mean/accuracy/top1']) == 'accuracy/top1'
    assert name(['loss']) == 'loss'
    assert name(['loss', 'lr']) == name(['lr', 'grad_norm']) == 'value'


def test_picture_paths(tmp_path: Path) -> None:
    assert check_picture_path('a/b.PNG') == Path('a/b.PNG')
    with pytest.raises(ValueError, match='unsupported image format b.jpeg: expected .png, .pdf, .svg'):
        check_picture_path('b.jpeg')
    (tmp_path / 'c.png').mkdir()
    with pytest.raises(ValueError, match='is a folder'):
        check_picture_path(tmp_path / 'c.png')
