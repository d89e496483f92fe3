"""The quickstart on images of users, and the times that it prints."""

import csv
import importlib.util
import shutil
import time
from pathlib import Path

import pytest
from runs import run_tool, succeed

from resformer_mm.synthetic import write_image_folder

ROOT = Path(__file__).resolve().parents[2]
LINE = '11/26 06:41:09 - mmengine - INFO - Epoch({})  [{}][{}/32]  lr: 1.0000e-05  eta: {}  loss: 2.31\n'


@pytest.fixture(scope='module')
def quickstart():
    spec = importlib.util.spec_from_file_location('quickstart', ROOT / 'tools' / 'quickstart.py')
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def line(kind: str, epoch: int, step: int, eta: str = '0:20:11') -> str:
    return LINE.format(kind, epoch, f'{step:2}', eta)


def progress_of(quickstart, log: Path, **settings):
    log.touch()
    settings = {'epochs': 14, 'ahead': 0.0, **settings}
    return quickstart.TrainingProgress(log, quickstart.TimeLine(time.time()), **settings)


def test_the_first_step_is_told_as_soon_as_its_line_is_whole(quickstart, tmp_path):
    log = tmp_path / 'train.log'
    progress = progress_of(quickstart, log)
    whole = line('train', 1, 1)
    for text in ('loading\n', line('val', 1, 1), whole[:60]):
        with open(log, 'a') as file:
            file.write(text)
        progress.update()
        assert not progress.time_line.stages
    with open(log, 'a') as file:
        file.write(whole[60:])
    progress.update()
    assert list(progress.time_line.stages) == ['first training step']


def test_the_time_left_is_told_every_minute(quickstart, tmp_path, capsys, monkeypatch):
    log, clock = tmp_path / 'train.log', [1000.0]
    monkeypatch.setattr(quickstart.time, 'monotonic', lambda: clock[0])
    progress = progress_of(quickstart, log, epochs=10, ahead=1.5)
    for step, seconds in ((1, 0), (2, 30), (8, 61), (9, 90), (16, 125)):
        clock[0] = 1000.0 + seconds
        with open(log, 'a') as file:
            file.write(line('train', 4, step, '0:10:00'))
        progress.update()
    clock[0] = 1000.0 + 300
    with open(log, 'a') as file:
        file.write(line('train', 10, 32, '0:00:00'))
    progress.update()
    told = [text.strip() for text in capsys.readouterr().out.splitlines() if 'left' in text]
    # 10 minutes are the rest of a training of which 3 epochs and 8 or 16 of 32 steps are done.
    whole = [600 / (1 - (3 + part) / 10) for part in (0.25, 0.5)]
    ends = [quickstart.duration(600 + 1.5 * all_of_it) for all_of_it in whole]
    assert told == [f'epoch 4 of 10: about 10 min 00 s left, {end} with the next models' for end in ends]


@pytest.mark.parametrize(
    ('eta', 'seconds'),
    [('0:00:07', 7), ('1:02:03', 3723), ('1 day, 0:00:01', 86401), ('12 days, 1:00:00', 1040400)],
)
def test_times_left_in_logs(quickstart, eta, seconds):
    assert quickstart.seconds_of(quickstart.STEP.search(line('train', 1, 1, eta))[4]) == seconds


def test_stages_keep_their_first_time(quickstart, tmp_path, capsys):
    line = quickstart.TimeLine(time.time() - 125)
    line.reach('installation')
    line.start -= 1000
    line.reach('installation')
    line.reach('table')
    line.write(tmp_path / 'time_line.csv')
    assert (tmp_path / 'time_line.csv').read_text() == 'stage,seconds\ninstallation,125\ntable,1125\n'
    assert capsys.readouterr().out.split('\n')[0].strip() == 'installation after 2 min 05 s'


@pytest.fixture
def photos(tmp_path):
    write_image_folder(tmp_path / 'photos', num_train=40, num_val=20, size=32)
    return tmp_path / 'photos'


def start(photos: Path, *options: object):
    return run_tool('quickstart.py', '--data', photos, *options, data=photos, cwd=photos.parent)


def test_from_a_folder_to_a_picture(quickstart, photos, monkeypatch, capsys):
    """Without splits; a second call repeats nothing."""
    started = []

    def run(tool: str, *args: object, log: Path, data_root: Path, progress=None) -> None:
        started.append(tool)
        log.write_text(succeed(run_tool(tool, *args, data=data_root, cwd=photos.parent)).stdout)

    monkeypatch.setattr(quickstart, 'run', run)
    options = ['--data', photos / 'train', '--work-dir', photos.parent / 'work', '--epochs', 1]
    monkeypatch.setattr('sys.argv', ['quickstart.py', *map(str, options)])
    quickstart.main()
    quickstart.main()
    assert started == ['train.py', 'test.py'] * 3
    printed = capsys.readouterr().out
    assert printed.count('already done') == 3
    assert 'after 1 epoch; * = trained on' in printed
    work = photos.parent / 'work'
    assert (work / 'top1_by_resolution.png').stat().st_size > 10_000
    with open(work / 'top1_by_resolution.csv', newline='') as file:
        rows = list(csv.DictReader(file))
    assert {row['trained_on'] for row in rows} == {'32 24 16', '32'}
    names = dict.fromkeys(row['model'] for row in rows)
    assert list(names) == ['ResFormer on 32, 24, 16', 'ResFormer on 32', 'DeiT on 32']
    assert [row['test_resolution'] for row in rows[:6]] == ['16', '24', '32', '40', '48', '64']
    assert f'Picture: {work}' in printed
    monkeypatch.setattr('sys.argv', ['quickstart.py', *map(str, options[:-1]), '2'])
    with pytest.raises(SystemExit, match='2'):
        quickstart.main()
    assert 'give another --work-dir' in capsys.readouterr().err and len(started) == 6


def test_faults_and_mistakes_end_before_the_training(photos):
    result = start(photos, '--epochs', 0)
    assert result.returncode == 2 and '--epochs must be at least 1' in result.stderr
    broken = next(path for path in (photos / 'train').rglob('*') if path.is_file())
    broken.write_bytes(broken.read_bytes()[:40])
    result = start(photos, '--work-dir', photos.parent / 'work')
    assert result.returncode == 1 and broken.name in result.stdout and 'correct them' in result.stderr
    shutil.rmtree(photos / 'train')
    (photos / 'val').rename(photos / 'test')
    result = start(photos, '--work-dir', photos.parent / 'work')
    assert result.returncode == 2 and 'nothing is trained on a test split' in result.stderr
    result = start(photos.parent / 'nothing')
    assert result.returncode == 2 and 'is not a folder' in result.stderr
    assert not list((photos.parent / 'work').glob('*.py'))
