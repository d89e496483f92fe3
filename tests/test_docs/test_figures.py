"""Measured figures in the documentation are those of the committed results."""

from __future__ import annotations

import csv
import importlib
import re
import shlex
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import pytest
from pages import DOCS, README, ROOT, tables

EXPERIMENTS = DOCS / 'experiments.md'
DETECTION = {
    'box AP50': 'bbox_mAP_50',
    'box AP': 'bbox_mAP',
    'mask AP50': 'segm_mAP_50',
    'mask AP': 'segm_mAP',
}


def read(file: str) -> list[dict[str, str]]:
    with open(ROOT / 'benchmarks' / 'results' / file, newline='', encoding='utf-8') as stream:
        return list(csv.DictReader(stream))


def curves(file: str, resolution: str, metric: str, scale: float) -> list[dict[str, float]]:
    """Metric by resolution of every model of a file, in its order."""
    found: dict[str, dict[str, float]] = {}
    for row in read(file):
        found.setdefault(row['model'], {})[row[resolution]] = scale * float(row[metric])
    return list(found.values())


def compare(header: list[str], row: list[str], curve: Mapping[str, float]) -> None:
    """Check that the cells below resolutions are a curve, rounded to one digit."""
    cells = {title: cell for title, cell in zip(header, row) if title.isdigit()}
    assert cells and set(cells) <= set(curve)
    for resolution, cell in cells.items():
        assert float(cell.rstrip('*')) == pytest.approx(curve[resolution], abs=0.0501), (row[0], resolution)


def table(page: Path, first_cell: str) -> list[list[str]]:
    """The table of a page whose first row below the header starts with a cell."""
    [found] = [rows for rows in tables(page) if rows[1][0] == first_cell]
    return found


@pytest.mark.parametrize(
    ('first_cell', 'file', 'resolution', 'metric', 'scale'),
    [
        (
            'ResFormer on 64, 48, 32, one process',
            'imagenette_top1.csv',
            'test_resolution',
            'accuracy/top1',
            1,
        ),
        ('ResFormer on 64, 48, 32', 'quickstart_top1.csv', 'test_resolution', 'accuracy/top1', 1),
        (
            'ResFormer on 64, 48, 32, patches of 8 pixels',
            'quickstart_tokens_top1.csv',
            'test_resolution',
            'accuracy/top1',
            1,
        ),
        ('fine-tuned on 128, 96, 64', 'sweep_mini_segmentation.csv', 'resolution', 'mIoU', 1),
        ('trained on 40, 32, 24, 4 frames each', 'sweep_mini_video.csv', 'resolution', 'acc/top1', 100),
        ('PyTorch', 'sweep_exported_cpu.csv', 'resolution', 'accuracy/top1', 1),
        ('PyTorch, float32', 'sweep_low_precision_cpu.csv', 'resolution', 'accuracy/top1', 1),
    ],
)
def test_curves(first_cell: str, file: str, resolution: str, metric: str, scale: float) -> None:
    header, *rows = table(EXPERIMENTS, first_cell)
    for row, curve in zip(rows, curves(file, resolution, metric, scale), strict=True):
        compare(header, row, curve)


def test_the_readme_has_the_curves_on_real_images() -> None:
    header, *rows = table(README, 'ResFormer, trained on 64, 48 and 32')
    one_process, _, *baselines = curves('imagenette_top1.csv', 'test_resolution', 'accuracy/top1', 1)
    for row, curve in zip(rows, [one_process, *baselines], strict=True):
        compare(header, row, curve)


def test_detection() -> None:
    header, *rows = table(EXPERIMENTS, 'multi-resolution classifier')
    assert [row[1] for row in rows] == 2 * list(DETECTION)
    for index, row in enumerate(rows):
        metric = f'coco/{DETECTION[row[1]]}'
        compare(header, row, curves('sweep_mini_detection.csv', 'resolution', metric, 100)[index // 4])


@pytest.mark.parametrize(
    ('first_cell', 'file', 'columns'),
    [
        (
            '32',
            'turn_by_turn_memory_cpu.csv',
            'batch mode allocated_MiB allocated/joint resident_MiB resident/joint seconds_per_step',
        ),
        ('label map', 'sliced_inference_cpu.csv', 'case variant width height peak_MiB cpu_seconds'),
        (
            'before expanded filters',
            'speed_cpu.csv',
            'code variant mode resolutions batch dtype compiled timm/ours literal/ours',
        ),
        (
            '64',
            'attention_kernels_cpu.csv',
            'images heads tokens channels dtype what fused_ms products_ms fused/products',
        ),
        (
            'ResFormer, tiny',
            'one_forward_cpu.csv',
            'model kind copies batch drop_path_rate dtype compiled three_ms one/three three_subset/three'
            ' one_subset/three',
        ),
        (
            'segmentation, ADE20K',
            'task_loaders_cpu.csv',
            'task pipeline load decode annotations geometry colour pack total_ms of_library',
        ),
        ('1/2', 'reduced_decoding.csv', 'size oversampling mean percentile_99 largest contrast moved'),
        (
            'brightness (jitter)',
            'colour_operations_cpu.csv',
            'operation mmpretrain torchvision now of_mmpretrain',
        ),
        (
            'AdamW, tiny',
            'optimizer_groups_cpu.csv',
            'model optimizer groups step_ms step_ratio whole_ms whole_ratio',
        ),
        (
            'embedded, classification',
            'preflight_time_cpu.csv',
            'data seconds cpu_seconds command_seconds',
        ),
        ('backbone', 'dense_backbone_cpu.csv', 'task case images model cpu_seconds ratio'),
        ('detection', 'dense_detection_cpu.csv', 'task case images model cpu_seconds ratio'),
        ('segmentation', 'dense_segmentation_cpu.csv', 'task case images model cpu_seconds ratio'),
        (
            'mini',
            'evaluation_cpu.csv',
            'case megapixels variant seconds of_first decode_percent peak_MiB',
        ),
        ('float32', 'integer_files_cpu.csv', 'variant resolution same_class error_percent speedup'),
        (
            'tiny',
            'low_precision_cpu.csv',
            'model resolution images variant ms ratio error_percent',
        ),
        (
            '128 96 80',
            'compiled_step_cpu.csv',
            'resolutions model images dtype mode ms of_eager of_float32 compile_s',
        ),
        (
            'DEFAULT',
            'emulated_bfloat16_cpu.csv',
            'instructions product_ratio float32_s bfloat16_s chosen_s chosen',
        ),
    ],
)
def test_rows(first_cell: str, file: str, columns: str) -> None:
    _, *rows = table(EXPERIMENTS, first_cell)
    assert rows == [[row[column] for column in columns.split()] for row in read(file)]


def test_the_loader_before_and_now() -> None:
    _, *rows = table(EXPERIMENTS, '0.2')
    measured = read('loader_cpu.csv')
    keys = ('megapixels', 'pipeline')
    before = {
        tuple(row[key] for key in keys): row['total_ms']
        for row in measured
        if row['code'] == "PyTorch's resize"
    }
    stages = ('decode', 'crop_resize', 'rand_augment', 'colour', 'of_one_resolution', 'of_mmpretrain')
    now = [row for row in measured if row['code'] == 'now']
    assert before.keys() < {tuple(row[key] for key in keys) for row in now}
    for cells, row in zip(rows, now, strict=True):
        names = [row[key] for key in keys]
        assert cells == [*names, before.get(tuple(names), ''), *(row[key] for key in ('total_ms', *stages))]


def test_shares_of_a_step():
    _, *rows = table(EXPERIMENTS, 'box head')
    columns = 'part task forward_ms backward_ms percent'.split()
    found = [row for row in read('dense_shares_cpu.csv') if float(row['percent']) >= 1]
    assert rows == [[row[column] for column in columns] for row in found]


def test_swapped_backbones(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(ROOT / 'benchmarks')
    swap_results = importlib.import_module('swap_results')
    page, results = DOCS / 'swapping_the_backbone.md', read('swap_matrix.csv')
    outcomes = [
        'works, backbone line alone',
        'works, other lines changed',
        'explained',
        'excluded',
    ]
    for title, stack in (('maintained forks', 'onedl'), ('upstream', 'openmmlab')):
        (rows,) = (rows for header, *rows in tables(page) if header[0] == title)
        of_stack = [row for row in results if row['stack'] == stack]
        for library, *cells in rows:
            own = [swap_results.outcome(row) for row in of_stack if row['library'] == library]
            counts = [len(own), *(own.count(name) for name in outcomes)]
            assert [int(cell) for cell in cells] == counts, library
        assert {row['library'] for row in of_stack} == {row[0] for row in rows}
    _, *rows = table(page, 'none besides the backbone')
    trained = [row for row in results if row['loss'] == 'ok' and row['stack'] == 'onedl']
    changes = [change for row in trained for change in swap_results.changes(row)]
    assert {row[0]: int(row[1]) for row in rows} == Counter(changes)


@pytest.mark.parametrize('page', ['every_size.md', 'experiments.md'])
def test_tables_of_experiments(page: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The tables are what the commands on the page print."""
    monkeypatch.syspath_prepend(ROOT / 'benchmarks' / 'experiments')
    declared = importlib.import_module('experiment')
    measured = importlib.import_module('measured')
    folder = ROOT / 'benchmarks' / 'results'
    for header, *lines in tables(DOCS / page):
        if header[:2] != ['variant', 'model']:
            continue
        assert lines
        names, printed = [line[0].strip('`') for line in lines], []
        for name in declared.experiment_names():
            experiment = declared.find_experiment(name)
            if not set(names) <= set(experiment.variants):
                continue
            rows = measured.on_the_same_images(measured.measured_rows(experiment, folder))
            printed += [
                measured.metric_table(experiment, rows, names, metric, base)
                for metric in experiment.metrics
                for base in (None, next(iter(experiment.variants)))
            ]
            costs = measured.read_rows(folder / f'{name}_costs_cpu.csv')
            for setting in {(row['dtype'], row['threads']) for row in costs}:
                rows = [row for row in costs if (row['dtype'], row['threads']) == setting]
                printed += [
                    measured.cost_table(experiment, rows, names, column) for column in ('gflops', 'mib', 'ms')
                ]
        found = [[split_row(line) for line in text.splitlines()] for text in printed]
        assert [header, *lines] in [[first, *rest] for first, _, *rest in found], names


def test_shares_of_a_run() -> None:
    rows = read('every_size_shares_cpu.csv')
    epoch = {row['share']: float(row['seconds']) for row in rows if row['part'] == 'epoch'}
    training = 30 * (epoch['step'] + epoch['loading'])
    tests = [(int(row['part'].split()[-1]), float(row['seconds'])) for row in rows if row['part'] != 'epoch']
    small, large = (sum(one for size, one in tests if (size > 128) == is_large) for is_large in (False, True))
    text = ' '.join((DOCS / 'every_size.md').read_text(encoding='utf-8').split())
    assert f'A training takes {training:.0f} seconds, {3000 * epoch["step"] / training:.0f} % of them' in text
    assert f'decoding of files takes {30 * epoch["decoding"]:.0f},' in text
    assert f'A test takes {small:.0f} seconds up to 128 pixels and {large:.0f} seconds at 192' in text


def test_costs_of_large_sizes():
    [rows] = [rows for header, *rows in tables(DOCS / 'every_size.md') if header[0] == 'model']
    columns = 'model size tokens gflops ms mib'.split()
    assert rows == [[row[column] for column in columns] for row in read('every_size_cost_cpu.csv')]


def split_row(line: str) -> list[str]:
    """Cells of a line of a Markdown table."""
    return [cell.strip() for cell in line[1:-1].split('|')]


def test_time_to_the_first_step_is_the_measured_one():
    seconds = {row['stage']: row['seconds'] for row in read('quickstart_time.csv')}
    text = ' '.join(EXPERIMENTS.read_text(encoding='utf-8').split())
    assert f'after {seconds["first training step"]} seconds and the table after {seconds["table"]} (' in text


def test_scaling(monkeypatch: pytest.MonkeyPatch) -> None:
    """The tables are what the command on the page prints."""
    page = (DOCS / 'scaling.md').read_text(encoding='utf-8')
    [command] = [code for code in re.findall('```bash\n(.*?)```', page, re.DOTALL) if '$C/' in code]
    words = shlex.split(command.replace('$C', 'configs/classification').replace('\\\n', ''))
    monkeypatch.chdir(ROOT)
    monkeypatch.syspath_prepend(ROOT / 'tools' / 'analysis_tools')
    tool = importlib.import_module('scaling')
    arguments = words[words.index('tools/analysis_tools/scaling.py') + 1 :]
    notes, *printed = tool.report(tool.parse_args(arguments)).split('\n\n')
    assert len(printed) == 4
    for table in printed:
        assert table in page
    ms = float(arguments[arguments.index('--loader-ms') + 1])
    assert f'{ms:.0f} ms of one core' in page


def test_costs_of_recipes() -> None:
    """Of an image in an epoch, and relative to a single resolution."""
    costs = {row['variant']: row for row in read('training_price_per_image.csv')}
    [(_, *rows)] = [found for found in tables(EXPERIMENTS) if found[0][2:5] == ['at 64', 'at 48', 'at 32']]
    assert rows
    for name, _, *copies, tokens, gflops, of_tokens, of_gflops in rows:
        row = costs[name.strip('`')]
        assert (tokens, gflops) == (row['tokens'], row['gflops'])
        shown = {size: cell for size, cell in zip((64, 48, 32), copies) if cell}
        found = dict(entry.split(':') for entry in row['copies'].split())
        assert shown == {int(size): f'{float(number):.2f}' for size, number in found.items()}
        for cell, column in ((of_tokens, 'tokens'), (of_gflops, 'gflops')):
            assert cell == f'{float(row[column]) / float(costs["single"][column]):.2f}'


def test_causes_of_losses() -> None:
    _, *rows = table(DOCS / 'why_it_works.md', 'GPE and LPE on 64')
    columns = 'model resolution loss positions number_of_tokens object_size detail'.split()
    columns += ['accuracy_small', 'accuracy_enlarged', 'accuracy_kernels']
    found = [row for row in read('why_it_works_causes.csv') if int(row['resolution']) < 64]
    assert rows == [[row[column] for column in columns] for row in found]
    for *_, loss, positions, tokens, size, detail, _, _, _ in rows:
        assert float(loss) == pytest.approx(sum(map(float, (positions, tokens, size, detail))), abs=0.21)


def test_cascades() -> None:
    titles = {'max_probability': 'maximum probability', 'margin': 'margin', 'negative_entropy': 'entropy'}
    priors = {'none': 'none', 'fitted': 'small prediction'}
    found: dict[tuple[str, ...], dict[str, dict[str, str]]] = {}
    for row in read('cascade_confidences.csv'):
        key = titles[row['confidence']], row['temperature'], priors[row['prior']]
        found.setdefault(key, {})[row['resolution']] = row
    header, *rows = table(EXPERIMENTS, 'maximum probability')
    assert [tuple(row[:3]) for row in rows] == list(found)
    columns = {'saved': ('saved', 0), 'changed': ('points_changed', 1), 'gained': ('points_gained', 1)}
    for row, of_size in zip(rows, found.values()):
        for title, cell in zip(header[3:], row[3:], strict=True):
            measure, size = title.split(', ')
            column, digits = columns[measure]
            own = of_size[size][column], of_size[size][f'{column}_error']
            for text, value in zip(cell.split(' ± '), own, strict=True):
                assert float(text) == pytest.approx(float(value), abs=0.5001 * 10**-digits), (row[:3], title)
