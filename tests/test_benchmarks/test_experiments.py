"""The runner of experiments: what it starts, skips and continues, and what it writes down.

Small programs stand in for the tools: their "training" writes the checkpoints, their "test" the metrics.
"""

from __future__ import annotations

import csv
import fcntl
import importlib
import json
import signal
import statistics
import subprocess
import sys
import time
from pathlib import Path
from types import ModuleType

import pytest
import torch
from mmengine.config import Config

from resformer_mm.analysis.training_cost import copies_per_image
from resformer_mm.registry import MODELS

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / 'benchmarks' / 'experiments'
PARSE = """
import argparse, json, os, pathlib, signal, sys, time
parser = argparse.ArgumentParser()
parser.add_argument('config')
parser.add_argument('checkpoint', nargs='?')
parser.add_argument('--work-dir', type=pathlib.Path)
parser.add_argument('--out', type=pathlib.Path)
parser.add_argument('--resolutions', nargs='+', type=int)
parser.add_argument('--cfg-options', nargs='+')
args, _ = parser.parse_known_args()
options = dict(entry.split('=', 1) for entry in args.cfg_options)
log = pathlib.Path(__file__).parent / 'calls.jsonl'
name = pathlib.Path(args.config).stem
with log.open('a') as file:
    threads = os.environ['OMP_NUM_THREADS']
    roots = {key: value for key, value in os.environ.items() if key.startswith('MINI_')}
    entry = dict(name=name, words=sys.argv, options=options, threads=threads, roots=roots)
    file.write(json.dumps(entry) + '\\n')
"""
TRAINING = (
    PARSE
    + """
unit = 'epoch' if 'train_cfg.max_epochs' in options else 'iter'
epochs = int(options[f'train_cfg.max_{unit}s'])
for epoch in range(1, epochs + 1):
    (args.work_dir / f'{unit}_{epoch}.pth').write_text(options['randomness.seed'])
    if epoch < epochs and name == 'table':
        sys.exit('no luck')
    if epoch < epochs and name == 'fuzzy' and '--resume' not in sys.argv:
        time.sleep(60)
"""
)
TESTING = (
    PARSE
    + """
seed = int(pathlib.Path(args.checkpoint).read_text())
metrics = {}
for resolution in args.resolutions:
    metrics[f'{resolution}/accuracy/top1'] = metrics[f'{resolution}/mIoU'] = resolution + seed
    metrics[f'{resolution}/coco/bbox_mAP'], metrics[f'{resolution}/coco/segm_mAP'] = 0.5, 0.25 + seed / 100
args.out.write_text(json.dumps(metrics))
"""
)


@pytest.fixture
def program(tmp_path: Path) -> Path:
    """The program with stand-ins for the tools, and folders of images."""
    (tmp_path / 'train').mkdir()
    for number in range(3):
        (tmp_path / 'test' / f'class_{number}').mkdir(parents=True)
        for image in range(3):
            (tmp_path / 'test' / f'class_{number}' / f'{image}.jpg').touch()
    (tmp_path / 'training.py').write_text(TRAINING)
    (tmp_path / 'testing.py').write_text(TESTING)
    path = tmp_path / 'program.py'
    path.write_text(
        f'import sys\nfrom pathlib import Path\nsys.path.insert(0, {str(FOLDER)!r})\n'
        f'import run, running\nrunning.TRAIN = Path({str(tmp_path / "training.py")!r})\n'
        f'running.TEST = Path({str(tmp_path / "testing.py")!r})\nrun.main()\n'
    )
    return path


@pytest.fixture
def generator(program: Path) -> Path:
    """A stand-in for the tool that generates data, which lists its calls."""
    path = program.parent / 'generator.py'
    path.write_text(
        'import json, pathlib, sys\n'
        'with (pathlib.Path(__file__).parent / "written.jsonl").open("a") as file:\n'
        '    print(json.dumps(sys.argv[1:]), file=file)\n'
    )
    text = program.read_text().replace(
        'run.main()', f'import image_data\nimage_data.GENERATOR = {str(path)!r}\nrun.main()'
    )
    program.write_text(text)
    return path


@pytest.fixture
def results(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(FOLDER)
    return importlib.import_module('measured')


def command(program: Path, *options: object) -> list[str]:
    folder = program.parent
    words = ['--train-data', folder, '--test-data', folder / 'test', '--epochs', 2, '--resolutions', 16, 320]
    return words_of(program, 'every_size', *words, *options)


def words_of(program: Path, experiment: str, *options: object) -> list[str]:
    folder = program.parent
    words = [sys.executable, program, experiment, '--results', folder, '--work-dirs', folder / 'work']
    return [str(word) for word in (*words, *options)]


def call(program: Path, *options: object) -> subprocess.CompletedProcess:
    return subprocess.run(command(program, *options), capture_output=True, text=True, timeout=50)


def rows(program: Path, file: str = 'every_size_top1.csv') -> list[dict[str, str]]:
    with open(program.parent / file, newline='') as stream:
        return list(csv.DictReader(stream))


def calls(program: Path) -> list[dict]:
    lines = (program.parent / 'calls.jsonl').read_text().splitlines()
    return [json.loads(line) for line in lines]


def test_what_is_finished_is_not_repeated(program: Path) -> None:
    result = call(program, '--variants', 'plain', 'rope', '--seeds', 0, 1, '--jobs', 2)
    assert result.returncode == 0, result.stderr
    found = {(row['variant'], row['seed'], row['resolution']): row['top1'] for row in rows(program)}
    assert found == {
        (variant, str(seed), str(size)): f'{size + seed:.2f}'
        for variant in ('plain', 'rope')
        for seed in (0, 1)
        for size in (16, 320)
    }
    # Every fourth of nine images at 320 pixels.
    numbers = {(row['resolution'], row['images'], row['epochs']) for row in rows(program)}
    assert numbers == {('16', '9', '2'), ('320', '3', '2')}
    assert len(rows(program, 'every_size_seconds.csv')) == len(calls(program)) == 12
    thinned = [one for one in calls(program) if '320' in one['words']]
    for one in thinned:
        cfg = Config.fromfile(next(word for word in one['words'] if word.endswith(f'{one["name"]}.py')))
        assert cfg.test_dataloader.dataset.indices == [0, 4, 8]
    assert {one['threads'] for one in calls(program)} == {'1'}
    assert {one['roots']['MINI_DATA_ROOT'] for one in calls(program)} == {str(program.parent)}
    folders = {one['options'].get('test_dataloader.dataset.data_root') for one in calls(program)}
    assert folders == {None, str(program.parent / 'test')}
    training = next(one for one in calls(program) if one['name'] == 'rope')
    assert '--no-validate' in training['words'] and '--resume' not in training['words']
    # A size that was not tested before needs a test, but no training.
    assert call(program, '--variants', 'plain', '--seeds', 0, '--resolutions', 16, 24).returncode == 0
    assert calls(program)[12:][0]['words'][0].endswith('testing.py') and len(calls(program)) == 13
    assert [row['resolution'] for row in rows(program)[8:]] == ['24']
    assert call(program, '--variants', 'plain', '--seeds', 0, '--all-images').returncode == 0
    assert [(row['resolution'], row['images']) for row in rows(program)[9:]] == [('320', '9')]


def test_an_interrupted_training_is_continued(program: Path) -> None:
    options = ('--variants', 'fuzzy', '--seeds', 3)
    with subprocess.Popen(command(program, *options), stderr=subprocess.PIPE, text=True) as process:
        while not list((program.parent / 'work').rglob('epoch_1.pth')):
            assert process.poll() is None
            time.sleep(0.05)
        # Another call leaves the run to the first one.
        other = call(program, *options)
        assert other.returncode == 1 and 'another call is at work' in other.stderr
        process.send_signal(signal.SIGTERM)
        assert 'fuzzy, seed 3, training: stopped' in process.communicate(timeout=20)[1]
        assert process.returncode == 1
    assert not (program.parent / 'every_size_top1.csv').exists()
    result = call(program, *options)
    assert result.returncode == 0 and 'training: continues' in result.stdout
    assert '--resume' in calls(program)[1]['words']
    assert [row['top1'] for row in rows(program)] == ['19.00', '323.00']
    assert [row['amount'] for row in rows(program, 'every_size_seconds.csv')] == ['1.00', '0.00', '0.31']


def test_a_training_that_ended_within_its_first_epoch_is_continued(program: Path) -> None:
    folder = program.parent / 'work' / 'every_size' / 'plain' / 'seed_0_2e'
    folder.mkdir(parents=True)
    (folder / 'iter_7.pth').touch()
    assert call(program, '--variants', 'plain', '--seeds', 0).returncode == 0
    assert '--resume' in calls(program)[0]['words']


@pytest.mark.parametrize(
    ('name', 'task', 'unit', 'metrics'),
    [
        ('dense_segmentation', 'segmentation', 'iterations', {'miou': '129.00'}),
        ('dense_detection', 'detection', 'epochs', {'box_ap': '50.00', 'mask_ap': '26.00'}),
    ],
)
def test_generated_data(
    program: Path, name: str, task: str, unit: str, metrics: dict[str, str], generator: Path
) -> None:
    folder = program.parent
    options = ('--train-data', folder / 'made', '--test-data', folder / 'tested', '--seeds', 1)
    options += (f'--{unit}', 2, '--variants', 'plain', 'plain+windows', '--resolutions', 128)
    words = words_of(program, name, *options)
    result = subprocess.run(words, capture_output=True, text=True, timeout=50)
    first = folder / 'work' / 'every_size' / 'plain' / 'seed_1_30e' / 'epoch_30.pth'
    assert f'starts from {first}, a training on other images' in result.stderr
    assert 'run.py every_size --variants plain --seeds 1' in result.stderr
    first.parent.mkdir(parents=True)
    first.write_text('1')
    (folder / 'written.jsonl').unlink()
    file = f'{name}_{"_".join(metrics)}.csv'
    assert subprocess.run(words, timeout=50).returncode == 0
    found = rows(program, file)
    assert [row['variant'] for row in found] == ['plain', 'plain+windows']
    assert all(metrics.items() <= row.items() for row in found)
    assert {(row[unit], row['images'], row['dtype']) for row in found} == {('2', '200', 'float32')}
    start = Config.fromfile(calls(program)[0]['words'][1]).model.backbone.init_cfg.checkpoint
    assert start == str(first)
    # One training, two tests; each with its own data, in the folders that the tool has written.
    made, tested = (json.loads(line) for line in (folder / 'written.jsonl').read_text().splitlines())
    assert made == [str(folder / 'made'), '--task', task]
    assert tested[:3] == [str(folder / 'tested'), '--task', task]
    assert dict(zip(tested[3::2], tested[4::2])) == {'--size': '256', '--num-train': '1', '--num-val': '200'}
    variable = f'MINI_{task.upper()}_ROOT'
    roots = [one['roots'][variable] for one in calls(program)]
    assert roots == [str(folder / 'made'), str(folder / 'tested'), str(folder / 'tested')]
    table = subprocess.run([*words, '--table', '--metric', list(metrics)[-1]], capture_output=True, text=True)
    assert f'{float(list(metrics.values())[-1]):.1f}*' in table.stdout
    # Another length has other checkpoints and other rows.
    words[words.index(f'--{unit}') + 1] = '3'
    assert subprocess.run(words, timeout=50).returncode == 0
    assert len(calls(program)) == 6 and len(rows(program, file)) == 4


@pytest.mark.parametrize(
    ('name', 'other'),
    [
        ('mr@single', 'single'),
        ('one@single', 'single'),
        ('one-by-image@single', 'single'),
        ('single@mr', 'mr'),
        ('pairs@mr', 'mr'),
        ('few-large@mr', 'mr'),
    ],
)
def test_lengths_at_equal_tokens(
    name: str, other: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(FOLDER)
    variants = importlib.import_module('experiment').find_experiment('training_price').variants
    tokens = {64: 65, 48: 37, 32: 17}  # of patches of 8 pixels, and a class token
    costs = []
    for one in (name, other):
        (tmp_path / f'{one}.py').write_text(variants[one].config_text(ROOT))
        copies = copies_per_image(Config.fromfile(tmp_path / f'{one}.py'))
        costs.append(sum(number * tokens[size] for size, number in copies.items()))
    # Up to the rounding of the length, and to draws.
    assert variants[name].schedule.length * costs[0] == pytest.approx(30 * costs[1], abs=0.51 * costs[0])


def test_prices(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, results: ModuleType) -> None:
    """Costs of the whole training, relative to the reference, and the worst of the paired differences."""
    monkeypatch.syspath_prepend(FOLDER)
    price = importlib.import_module('price')
    experiment = importlib.import_module('experiment').find_experiment('training_price')
    costs = {
        name: dict(tokens=str(tokens), gflops='2')
        for name, tokens in (('single', 65), ('mr', 130), ('mr@single', 130))
    }
    tops = {'single': [50.0, 40.0], 'mr': [60.0, 61.0], 'mr@single': [58.0, 62.0]}
    measured = [
        dict(variant=name, seed=str(seed), resolution=str(size), top1=str(top1 + size), images='9')
        for name, values in tops.items()
        for seed, top1 in enumerate(values)
        for size in (64, 48, 32)
    ]
    measured[-1]['top1'] = '91.0'  # 32 pixels, seed 1, instead of 94
    for variant, seconds in (('single', 10), ('plain', 15)):  # those of another experiment, which are shared
        row = dict(variant=variant, part='training', amount='2', seconds=seconds)
        results.append_rows(tmp_path / 'every_size_seconds.csv', [row])
    table = price.price_table(experiment, costs, measured, tmp_path, 'single', 'mr')
    found = [[cell.strip() for cell in line.strip('|').split('|')] for line in table.splitlines()]
    assert found[0][2:] == 'epochs seeds tokens GFLOPs seconds 64 48 32 worst'.split()
    cells = {line[0].strip('`'): line[2:] for line in found[2:]}
    assert cells['single'] == ['30', '2', '1.00', '1.00', '1.00', '109.0', '93.0', '77.0', '-15.5']
    assert cells['mr'][2:5] == ['2.00', '1.00', '1.50'] and cells['mr'][-1] == '+0.0'
    assert cells['mr@single'] == ['16', '2', '1.07', '0.53', '', '124.0', '108.0', '90.5', '-2.0']


def test_data_that_cannot_be_written(program: Path) -> None:
    (program.parent / 'mine.txt').touch()
    words = words_of(program, 'dense_segmentation', '--train-data', program.parent)
    result = subprocess.run(words, capture_output=True, text=True)
    assert result.returncode == 2 and f'--train-data {program.parent}: the data could not' in result.stderr
    assert 'not written by this generator' in result.stderr


def test_a_failure_does_not_end_the_others(program: Path) -> None:
    result = call(program, '--variants', 'table', 'plain', '--seeds', 0)
    assert result.returncode == 1
    assert 'table, seed 0, training: failed with status 1' in result.stderr and 'no luck' in result.stderr
    assert {row['variant'] for row in rows(program)} == {'plain'}


def test_nothing_starts_that_would_not_end_in_time(program: Path) -> None:
    header = 'variant,seed,part,amount,seconds,threads,dtype,torch,machine\n'
    (program.parent / 'every_size_seconds.csv').write_text(
        f'{header}rope,0,training,2.00,400,1,float32,2,x\n'
    )
    result = call(program, '--variants', 'plain', '--seeds', 0, '--hours', 0.1)
    assert result.returncode == 1
    assert 'plain, seed 0, training: needs about 400 s' in result.stderr
    assert not (program.parent / 'calls.jsonl').exists()
    assert call(program, '--variants', 'plain', '--seeds', 0, '--hours', 0.2).returncode == 0


def test_expected_seconds(results: ModuleType) -> None:
    measured = [
        dict(variant=name, part=part, amount=str(amount), seconds=str(seconds))
        for name, part, amount, seconds in (
            ('a', 'training', 10, 100),
            ('a', 'training', 10, 120),
            ('a', 'training', 5, 300),
            ('b', 'training', 1, 20),
            ('a', 'test', 2, 2),
        )
    ]
    assert results.expected_seconds(measured, 'a', 'training', 2) == 24
    assert results.expected_seconds(measured, 'b', 'training', 2) == 40
    assert results.expected_seconds(measured, 'new', 'training', 2) == 40
    assert results.expected_seconds(measured, 'new', 'test', 3) == 3
    assert results.expected_seconds(measured[:4], 'a', 'test', 3) is None


def test_a_shared_variant_is_trained_once(program: Path) -> None:
    assert call(program, '--variants', 'plain', '--seeds', 0).returncode == 0
    options = ('--train-data', program.parent, '--test-data', program.parent / 'test', '--epochs', 2)
    words = words_of(program, 'models', *options, '--seeds', 0, '--variants', 'resformer-mr', 'resformer-64')
    assert subprocess.run([*words, '--resolutions', '16', '64'], timeout=50).returncode == 0
    found = [(row['variant'], row['resolution']) for row in rows(program)]
    assert found[2:] == [('plain', '64'), ('single', '16'), ('single', '64')]
    assert not (program.parent / 'models_top1.csv').exists()
    trainings = [one['name'] for one in calls(program) if one['words'][0].endswith('training.py')]
    assert trainings == ['plain', 'single']
    lines = subprocess.run([*words, '--table'], capture_output=True, text=True).stdout.splitlines()
    cells = [[cell.strip() for cell in line.strip('|').split('|')] for line in lines[2:]]
    # Under their names here; 320 pixels are not a test of this experiment.
    assert cells[0][3:] == ['16', '64'] and [row[0] for row in cells[2:]] == [
        '`resformer-mr`',
        '`resformer-64`',
    ]
    assert cells[2][1:] == ['ResFormer on 64, 48, 32', '1', '16.0', '64.0*']


def test_a_start_is_trained_first_and_converted(program: Path) -> None:
    folder = program.parent
    (folder / 'convert.py').write_text(
        'import pathlib, sys\n'
        'config, checkpoint, out, *rest = sys.argv[1:]\n'
        'assert pathlib.Path(config).stem == "plain" and rest == ["--kernels", "6", "4", "2"]\n'
        'pathlib.Path(out).write_text(pathlib.Path(checkpoint).read_text() + "converted")\n'
    )
    text = program.read_text().replace(
        'run.main()',
        'import dataclasses, every_size\nvariants = every_size.EXPERIMENT.variants\n'
        f'words = ({str(folder / "convert.py")!r}, *variants["mspe"].convert[1:])\n'
        'variants["mspe"] = dataclasses.replace(variants["mspe"], convert=words)\nrun.main()',
    )
    program.write_text(text)
    options = ('--variants', 'mspe', '--seeds', 4, '--epochs', 30, '--resolutions', 16)
    result = call(program, *options)
    assert result.returncode == 0, result.stderr
    assert [one['name'] for one in calls(program)] == ['plain', 'mspe', 'mspe']
    plain, mspe, _ = calls(program)
    assert plain['options']['param_scheduler.1.end'] == plain['options']['train_cfg.max_epochs'] == '30'
    assert mspe['options']['param_scheduler.0.end'] == mspe['options']['train_cfg.max_epochs'] == '5'
    assert '--resume' not in mspe['words']
    start = Path(Config.fromfile(mspe['words'][1]).load_from)
    assert start == folder / 'work' / 'every_size' / 'mspe' / 'seed_4_5e' / 'start' / 'converted.pth'
    assert start.read_text() == '4converted'
    # Its own length is in its row, and the table of the experiment has it.
    assert [(row['variant'], row['epochs']) for row in rows(program)] == [('mspe', '5')]
    assert '20.0*' in call(program, *options, '--table').stdout
    assert call(program, *options).returncode == 0 and len(calls(program)) == 3


OWN = """
from every_size import EXPERIMENT as EVERY_SIZE, ON_64
from experiment import CHECKPOINT, Experiment, Schedule, Variant
EXPERIMENT = Experiment(
    name='{name}',
    resolutions=(16,),
    schedule=Schedule({length}),
    variants={{
        'first': Variant('first', ON_64, schedule=Schedule(60), is_tested=False),
        'second': Variant('second', ON_64, dict(parts=[dict(weights=CHECKPOINT)]), starts_from='first'),
        'other': Variant('other', ON_64, weights_of='every_size/plain'),
        'shared': EVERY_SIZE.shared('plain'),
    }},
)
"""


def test_variants_of_own_experiments(program: Path, results: ModuleType) -> None:
    folder = program.parent / 'own'
    folder.mkdir()
    (folder / 'own.py').write_text(OWN.format(name='own', length=30))
    text = program.read_text().replace(
        'import run, running',
        f'sys.path.append({str(folder)!r})\nimport experiment\n'
        f'experiment.FOLDER = Path({str(folder)!r})\nimport run, running',
    )
    program.write_text(text)
    options = ['--train-data', program.parent, '--test-data', program.parent / 'test', '--epochs', 2]
    result = subprocess.run(words_of(program, 'own', *options, '--seeds', 7, '--jobs', 2), timeout=50)
    assert result.returncode == 0
    trainings = [one for one in calls(program) if one['words'][0].endswith('training.py')]
    assert sorted(one['name'] for one in trainings) == ['first', 'plain', 'second']
    [first, second] = [one for one in trainings if one['name'] != 'plain']
    assert (
        first['options']['train_cfg.max_epochs'] == '4' and second['options']['train_cfg.max_epochs'] == '2'
    )
    start = program.parent / 'work' / 'own' / 'first' / 'seed_7_4e' / 'epoch_4.pth'
    assert Config.fromfile(second['words'][1]).parts == [dict(weights=str(start))]
    assert {row['variant'] for row in rows(program, 'own_top1.csv')} == {'second', 'other'}
    assert {row['variant'] for row in rows(program)} == {'plain'}


def test_what_is_shared_must_fit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, results: ModuleType
) -> None:
    (tmp_path / 'own_of_20.py').write_text(OWN.format(name='own_of_20', length=20))
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(
        ValueError, match='own_of_20: the variant other belongs to every_size, whose schedule differs'
    ):
        importlib.import_module('experiment').find_experiment('own_of_20')


def test_results_of_several_machines_are_merged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture, results: ModuleType
) -> None:
    merge = importlib.import_module('merge')
    row = dict(variant='plain', resolution=16, top1='1.00', images=3, epochs=30, dtype='float32')
    cost = dict(variant='plain', resolution=16, gflops=2, dtype='float32', threads=1)
    second = dict(variant='plain', seed=0, part='test', amount=1, seconds=2)
    names = ['every_size_top1.csv', 'every_size_seconds.csv', 'every_size_costs_cpu.csv', 'models_top1.csv']
    for machine, seeds in {'here': (0, 1), 'there': (1, 2)}.items():
        for seed in seeds:
            own = dict(row, seed=seed, top1=f'{seed}.00')
            results.append_rows(tmp_path / machine / names[0], [own])
            results.append_rows(tmp_path / machine / names[1], [dict(second, seed=seed)])
        results.append_rows(tmp_path / machine / names[2], [dict(cost, threads=seeds[0])])
    results.append_rows(tmp_path / 'there' / names[3], [dict(row, seed=5)])
    conflict = dict(row, seed=0, top1='9.00', dtype='bfloat16')
    results.append_rows(tmp_path / 'there' / names[0], [conflict])
    (tmp_path / 'there' / 'notes.csv').write_text('a\n1\n')
    words = ['merge.py', str(tmp_path / 'there'), '--results', str(tmp_path / 'here')]
    monkeypatch.setattr(sys, 'argv', words)
    printed = []
    for _ in range(2):
        merge.main()
        printed.append(capsys.readouterr().out.splitlines())
    assert f'{names[0]}: 1 rows added from {tmp_path / "there"}, 1 left out: another outcome' in printed[0]
    assert len(printed[0]) == 4 and len(printed[1]) == 1  # once more, nothing is added
    merged = {name: results.read_rows(tmp_path / 'here' / name) for name in names}
    assert [(one['seed'], one['top1']) for one in merged[names[0]]] == [
        ('0', '0.00'),
        ('1', '1.00'),
        ('2', '2.00'),
    ]
    assert [one['seed'] for one in merged[names[1]]] == ['0', '1', '2']
    assert [one['threads'] for one in merged[names[2]]] == ['0', '1']
    assert len(merged[names[3]]) == 1
    assert sorted(path.name for path in (tmp_path / 'here').iterdir()) == sorted(names)
    with pytest.raises(ValueError, match='columns'):
        other = tmp_path / 'other.csv'
        results.append_rows(other, [dict(conflict, seed=8, more=1)])
        merge.merge_file(other, tmp_path / 'here' / names[0], ('variant', 'seed'))


def test_the_table(program: Path, results: ModuleType) -> None:
    values = {'plain': {16: [10.0, 12.0, 17.0], 64: [50.0, 50.0, 50.0]}, 'plain-96': {16: [20.0]}}
    for variant, tops in values.items():
        for resolution, found in tops.items():
            for seed, top1 in enumerate(found):
                row = dict(variant=variant, seed=seed, resolution=resolution, top1=top1, images=3, epochs=2)
                results.append_rows(program.parent / 'every_size_top1.csv', [row])
    error = statistics.stdev([10, 12, 17]) / 3**0.5
    result = call(program, '--table', '--variants', 'plain-96', 'plain')
    caption, _, *lines = result.stdout.splitlines()
    assert caption == 'Test images: 3 at 16, 64 pixels.'
    cells = [[cell.strip() for cell in line.strip('|').split('|')] for line in lines]
    assert cells[0] == ['variant', 'model', 'seeds', '16', '64']
    assert cells[2] == ['`plain-96`', 'GPE and LPE', '1', '20.0', '']
    assert cells[3] == ['`plain`', 'GPE and LPE', '3', f'13.0 ± {error:.1f}', '50.0* ± 0.0']
    assert call(program, '--plot', program.parent / 'curves.png').returncode == 0
    assert (program.parent / 'curves.png').stat().st_size > 1000


def test_differences_are_those_of_the_same_seeds(program: Path, results: ModuleType) -> None:
    for variant, seeds in {'plain': {0: 10.0, 1: 40.0, 2: 70.0}, 'rope': {0: 11.0, 1: 43.0, 5: 0.0}}.items():
        for seed, top1 in seeds.items():
            row = dict(variant=variant, seed=seed, resolution=16, top1=top1, images=3, epochs=2)
            results.append_rows(program.parent / 'every_size_top1.csv', [row])
    row = dict(variant='rope', seed=2, resolution=16, top1=1, images=9, epochs=2)  # on other images
    results.append_rows(program.parent / 'every_size_top1.csv', [row])
    _, _, *lines = call(program, '--table', '--against', 'plain').stdout.splitlines()
    assert [cell.strip() for cell in lines[2].strip('|').split('|')][2:] == ['2', '+2.0 ± 1.0']
    assert len(lines) == 3


def test_several_processes_append(program: Path, results: ModuleType) -> None:
    path = program.parent / 'shared.csv'
    results.append_rows(path, [dict(a=1, b='x')])
    with open(path, 'a') as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        other = subprocess.Popen(
            [
                sys.executable,
                '-c',
                'from pathlib import Path; from measured import append_rows; '
                f"append_rows(Path({str(path)!r}), [dict(a=3, b='y')])",
            ],
            cwd=ROOT,
            env={'PYTHONPATH': f'{ROOT}:{FOLDER}'},
        )
        with pytest.raises(subprocess.TimeoutExpired):
            other.wait(timeout=8)
        file.write('2,z\r\n')
    assert other.wait(timeout=20) == 0
    assert [row['a'] for row in results.read_rows(path)] == ['1', '2', '3']
    with pytest.raises(ValueError, match='columns'):
        results.append_rows(path, [dict(a=1)])


def test_costs(tmp_path: Path) -> None:
    words = [
        sys.executable,
        FOLDER / 'costs.py',
        'every_size',
        '--out',
        tmp_path / 'costs.csv',
        '--threads',
        1,
    ]
    words += ['--variants', 'plain', 'plain+windows', '--rounds', 1]
    for sizes in ((16, 128), (128,)):  # the second call replaces rows of the first
        subprocess.run([*map(str, words), '--resolutions', *map(str, sizes)], check=True, timeout=120)
    table = subprocess.run([*map(str, words), '--table', 'gflops'], capture_output=True, text=True).stdout
    rows = [[cell.strip() for cell in line[1:-1].split('|')] for line in table.splitlines()]
    assert rows[0] == ['variant', 'model', '16', '128'] and len(rows) == 4
    (*_, small, large), (*_, small_windows, large_windows) = rows[2:]
    assert small == small_windows and float(large_windows) < float(large)
    # 257 tokens of width 128 in 6 blocks, the last one for the class token alone; besides these, norms.
    width, tokens = 128, 257
    embedding = 256 * width * (3 * 8**2 + 6 * 3**2)  # patches, and six convolutions of GPE and LPE
    block = 12 * tokens * width**2 + 2 * tokens**2 * width
    last = 2 * tokens * width**2 + 10 * width**2 + 2 * tokens * width
    assert float(large) == pytest.approx((embedding + 5 * block + last) / 1e9, rel=0.01)


def test_usage(program: Path) -> None:
    result = call(program, '--train-data', program.parent / 'nothing')
    assert result.returncode == 2 and 'nothing is not a folder' in result.stderr


@pytest.mark.parametrize(
    'name',
    [
        'every_size',
        'change_of_scale',
        'models',
        'positions',
        'consistency',
        'strategies',
        'resolutions',
        'training_price',
    ],
)
def test_every_variant_builds_and_takes_every_size(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(FOLDER)
    experiment = importlib.import_module('experiment')
    declared = experiment.find_experiment(name)
    for key, variant in declared.variants.items():
        if variant.same_as is not None:
            assert declared.key(key).owner.name != name
            continue
        assert declared.key(key).trained.declaration.weights_of is None
        (tmp_path / 'variant.py').write_text(variant.config_text(ROOT))
        cfg = Config.fromfile(tmp_path / 'variant.py')
        for field, value in variant.settings.items():
            assert _contains(cfg[field], value), variant
        if name not in ('every_size', 'change_of_scale'):
            assert tuple(cfg.train_dataloader.dataset.pipeline[1].resolutions) == variant.trained_on
        model = MODELS.build(cfg.model).backbone
        model.eval()  # of an EfficientNet, this returns None
        with torch.inference_mode():
            for size in (16, 96):
                (token,) = model(torch.zeros(1, 3, size, size))
                assert token.shape[:2] == (1, cfg.model.head.in_channels) and token.isfinite().all(), variant


def test_convolutional_networks_cost_about_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(FOLDER)
    costs = importlib.import_module('costs')
    variants = importlib.import_module('experiment').find_experiment('models').variants
    flops = {
        name: costs.complexity_at(costs.build(variants[name], 'cpu'), (64, 64)).flops
        for name in ('resformer-mr', 'resnet-mr', 'efficientnet-mr')
    }
    assert flops['resnet-mr'] == pytest.approx(flops['resformer-mr'], rel=0.03)
    assert flops['efficientnet-mr'] == pytest.approx(flops['resformer-mr'], rel=0.15)


@pytest.mark.parametrize(
    ('name', 'strides'),
    [
        pytest.param('dense_segmentation', (8, 16, 16), marks=pytest.mark.operators('mmseg')),
        pytest.param('dense_detection', (8, 16, 32), marks=pytest.mark.operators('mmdet')),
    ],
)
def test_dense_variants_build_and_predict(
    name: str, strides: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(FOLDER)
    costs = importlib.import_module('costs')
    variants = importlib.import_module('experiment').find_experiment(name).variants
    grids = {}
    for key, variant in variants.items():
        model = costs.build(variant, 'cpu')
        backbone = model.cfg.model.backbone
        assert _contains(backbone, variant.settings['model']['backbone']), variant
        assert bool(backbone.get('window_size')) == ('windows' in key), variant
        batch = costs.blank_batch(model, (96, 128))
        costs.predict(model, batch)
        with torch.inference_mode():
            grids[key] = [tuple(one.shape[2:]) for one in model.extract_feat(batch['inputs'])]
    expected = [(96 // stride, 128 // stride) for stride in strides]
    assert grids['merged'] == expected
    if name == 'dense_segmentation':
        assert grids['plain'] == [(12, 16)] * 3
        assert grids['merged-late'] == [(12, 16), (12, 16), (6, 8)]
    else:  # the pyramid has the same levels whatever the stride of its map
        assert all(grid == expected for grid in grids.values())


def _contains(whole: object, part: object) -> bool:
    if isinstance(part, dict) and isinstance(whole, dict):
        return all(_contains(whole.get(key), value) for key, value in part.items() if key != '_delete_')
    if isinstance(part, str) and part.startswith('[_base_.'):  # an expression
        return isinstance(whole, list) and len(whole) >= 3
    return whole == (list(part) if isinstance(part, tuple) and isinstance(whole, list) else part)
