"""Train a multi-resolution ResFormer and two baselines, and compare them by resolution.

    bash tools/quickstart.sh                          # generated images
    bash tools/quickstart.sh --data data/photos       # class folders of your own, with or without splits

The baselines have the same size and see the same images as often: the same ResFormer on the largest
resolution alone, and a DeiT with a learned, interpolated position table on that resolution. Everything
runs through tools/train.py and tools/test.py; completed steps are not repeated.

Images of your own stay where they are. They are checked first; without a validation or test split, a fifth of
them is held back, always the same ones. Resolutions are those of the generated images, or smaller ones if the
images are smaller.
"""

import argparse
import csv
import os
import re
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from resformer_mm.analysis import format_table, plot_curves, read_curve, write_curves
from resformer_mm.datasets.checks.task_check import CheckOptions
from resformer_mm.finetuning import FinetuningData, check_folder, prepare_data
from resformer_mm.finetuning.comparison import (
    ComparedModel,
    check_splits,
    choose_epochs,
    choose_test_resolutions,
    compared_models,
    write_comparison,
)
from resformer_mm.progress import track
from resformer_mm.synthetic import write_image_folder

ROOT = Path(__file__).resolve().parents[1]
CONFIGS = ROOT / 'configs' / 'classification'
METRIC = 'accuracy/top1'
# Shorter than the configs (10 minutes on 2 cores), and in float32, which is faster for such a narrow model.
EPOCHS = 14
OPTIONS = [
    'default_hooks.logger.interval=1',  # shows when the first step is done
    f'train_cfg.max_epochs={EPOCHS}',
    f'param_scheduler.1.end={EPOCHS}',
    f'param_scheduler.1.T_max={EPOCHS}',
    'optim_wrapper.type=OptimWrapper',
]
STEP = re.compile(r'Epoch\(train\)\s+\[(\d+)\]\[\s*(\d+)/(\d+)\].*? eta: ((?:\d+ days?, )?[\d:]+)')
TOLD_EVERY = 60  # seconds


@dataclass(frozen=True)
class Comparison:
    """What is compared on what.

    Attributes:
        images: what the images are, for the title of the picture.
        data_root: MINI_DATA_ROOT of the configs.
        models: config -> model.
        folders: config -> folder of the results.
        epochs: number of epochs.
        options: options of the training.
    """

    images: str
    data_root: Path
    models: dict[Path, ComparedModel]
    folders: dict[Path, Path]
    epochs: int
    options: Sequence[str] = ()


class TimeLine:
    """Prints the seconds since the start when a stage is reached, and collects them."""

    def __init__(self, start: float) -> None:
        self.start = start
        self.stages: dict[str, int] = {}

    def reach(self, stage: str) -> None:
        """Note the time of a stage, unless it was reached before."""
        if stage not in self.stages:
            self.stages[stage] = round(time.time() - self.start)
            print(f'      {stage} after {self.format(stage)}', flush=True)

    def format(self, stage: str) -> str:
        """Return the time of a stage as minutes and seconds."""
        return duration(self.stages[stage])

    def write(self, file: Path) -> None:
        """Write a table with a row for each stage."""
        with open(file, 'w', newline='') as stream:
            rows = csv.writer(stream, lineterminator='\n')
            rows.writerow(['stage', 'seconds'])
            rows.writerows(self.stages.items())


class TrainingProgress:
    """Reads the log of a training, and tells the first step and the time left.

    Args:
        log: the file.
        time_line: where to note the first step.
        epochs: epochs of the training.
        ahead: what the models that are trained afterwards cost, as a multiple of this one.
    """

    def __init__(self, log: Path, time_line: TimeLine, epochs: int, ahead: float) -> None:
        self.log, self.time_line, self.epochs, self.ahead = log, time_line, epochs, ahead
        self._read = 0
        self._told: float | None = None

    def update(self) -> None:
        """Read what was added to the log, and print what is to be told."""
        with open(self.log, 'rb') as file:
            file.seek(self._read)
            # A line that is still being written is left for the next call.
            text = file.read().rpartition(b'\n')[0]
        self._read += len(text)
        lines = text.decode(errors='replace').splitlines()
        steps = [found for line in lines if (found := STEP.search(line))]
        if not steps:
            return
        self.time_line.reach('first training step')
        now = time.monotonic()
        is_last = int(steps[-1][1]) == self.epochs and steps[-1][2] == steps[-1][3]
        if self._told is None:
            self._told = now
        elif now - self._told >= TOLD_EVERY and not is_last:
            self._told = now
            print(f'      {self.text(steps[-1])}', flush=True)

    def text(self, step: re.Match[str]) -> str:
        """Return the epoch and the time left at a step of the log."""
        epoch, number, of = map(int, step.groups()[:3])
        left = seconds_of(step[4])
        done = ((epoch - 1) * of + number) / (self.epochs * of)
        whole = left / (1 - done)
        text = f'epoch {epoch} of {self.epochs}: about {duration(left)} left'
        return f'{text}, {duration(left + self.ahead * whole)} with the next models' if self.ahead else text


def seconds_of(eta: str) -> int:
    """Return the seconds of '0:05:10' or '1 day, 2:05:10'."""
    *days, clock = eta.split(', ')
    seconds = 0
    for part in clock.split(':'):
        seconds = 60 * seconds + int(part)
    return seconds + (86400 * int(days[0].split()[0]) if days else 0)


def duration(seconds: float) -> str:
    """Return minutes and seconds as text."""
    return '{} min {:02} s'.format(*divmod(round(seconds), 60))


def epochs_text(number: int) -> str:
    """Return '1 epoch' or '14 epochs'."""
    return f'{number} epoch{"" if number == 1 else "s"}'


def run(
    tool: str, *args: object, log: Path, data_root: Path, progress: TrainingProgress | None = None
) -> None:
    """Run a tool as a user would, with its output in a log file.

    Args:
        progress: what to tell of a training meanwhile.

    Raises:
        SystemExit: the tool failed; the end of its output is printed.
    """
    # Threads that spin while they wait would slow down the processes that load the images.
    environment = {'OMP_WAIT_POLICY': 'PASSIVE', **os.environ, 'MINI_DATA_ROOT': str(data_root)}
    command = [sys.executable, str(ROOT / 'tools' / tool), *map(str, args)]
    with open(log, 'w') as file:
        process = subprocess.Popen(command, stdout=file, stderr=subprocess.STDOUT, env=environment)
        try:
            while progress is not None and process.poll() is None:
                progress.update()
                time.sleep(0.2)
            code = process.wait()
        except BaseException:
            process.kill()
            raise
    if code:
        print(''.join(log.read_text(errors='replace').splitlines(keepends=True)[-25:]))
        sys.exit(f'error: tools/{tool} failed; its output is in {log}')


def train_and_test(comparison: Comparison, config: Path, time_line: TimeLine) -> None:
    """Train one model and evaluate it at every resolution, unless already done."""
    folder, model = comparison.folders[config], comparison.models[config]
    folder.mkdir(parents=True, exist_ok=True)
    metrics = folder / 'metrics.json'
    index = list(comparison.models).index(config)
    step = f'[{index + 2}/{len(comparison.models) + 1}] {model.name}'
    if metrics.is_file():
        print(f'{step}: already done, in {folder}', flush=True)
        return
    start = time.time()
    print(f'{step}: training (log: {folder / "train.log"}) ...', flush=True)
    options: tuple[object, ...] = ('--work-dir', folder, '--resume', '--no-validate')
    if comparison.options:
        options += ('--cfg-options', *comparison.options)
    log, data_root = folder / 'train.log', comparison.data_root
    ahead = sum(other.cost for other in list(comparison.models.values())[index + 1 :]) / model.cost
    progress = TrainingProgress(log, time_line, comparison.epochs, ahead)
    run('train.py', config, *options, log=log, data_root=data_root, progress=progress)
    print(f'{step}: trained in {time.time() - start:.0f} s; testing ...', flush=True)
    checkpoint = Path((folder / 'last_checkpoint').read_text().strip())
    options = ('--resolutions', *choose_test_resolutions(model.resolutions[0]))
    options += ('--work-dir', folder / 'test', '--out', metrics, '--out-item', 'metrics')
    run('test.py', config, checkpoint, *options, log=folder / 'test.log', data_root=data_root)


def on_generated_images(work_dir: Path) -> Comparison:
    """Generate the images."""
    data_root = work_dir / 'data'
    start = time.time()
    print(f'[1/4] generating images in {data_root} ...', flush=True)
    write_image_folder(data_root, workers=os.cpu_count() or 1, track=track)
    print(f'      there after {time.time() - start:.0f} s', flush=True)
    models = {CONFIGS / model.base: model for model in compared_models()}
    folders = {config: work_dir / config.stem for config in models}
    return Comparison('Generated images', data_root, models, folders, EPOCHS, OPTIONS)


def on_own_images(root: Path, work_dir: Path, epochs: int | None) -> Comparison:
    """Check the images, split them if need be, and write the configs.

    Raises:
        SystemExit: the images have faults, or cannot be used; they are named.
    """
    print(f'[1/4] checking the images in {root} ...', flush=True)
    try:
        data = read_images(root, work_dir / 'data')
        epochs = epochs or choose_epochs(data.num_train)
        models = write_comparison(work_dir, data, epochs)
    except (OSError, ImportError, ValueError) as error:
        fail(f'--data {root}: {error}')
    num_tested = data.num_test or data.num_val
    print(f'      {data.num_train} images to train on for {epochs_text(epochs)}, {num_tested} to test:')
    print(f'      an accuracy is known to about {50 / num_tested**0.5:.1f} points')
    print(''.join(f'      - {note}\n' for note in data.notes), end='', flush=True)
    folders = {config: work_dir / config.stem for config in models}
    return Comparison(root.resolve().name, root, models, folders, epochs)


def read_images(root: Path, folder: Path) -> FinetuningData:
    """Return the images of class folders, or of a list.

    Args:
        root: their folder.
        folder: folder for lists of a split that is made.

    Raises:
        SystemExit: the images have faults; they are named.
        OSError, ImportError, ValueError: they cannot be used.
    """
    options = CheckOptions(None, None, 255, os.cpu_count() or 1, show_progress=True)
    task, sources, report = check_folder(root, folder, options, 'classification')
    if not report.is_sound:
        print(report.text(10, details=True))
        print('tools/check_data.py --fix repairs what is certain')
        fail(f'--data {root} has faults: correct them', 1)
    check_splits([source.name for source in sources])
    return prepare_data(task, sources, folder)


def fail(message: str, code: int = 2) -> NoReturn:
    """End with a message."""
    print(f'error: {message}', file=sys.stderr)
    sys.exit(code)


def parse_args() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--data', type=Path, metavar='FOLDER', help='class folders of your own images')
    parser.add_argument(
        '--epochs',
        type=int,
        help='epochs on your own images (as many as see 28,000 images, but at least 10 and at most 200)',
    )
    parser.add_argument(
        '--work-dir',
        type=Path,
        help='folder of the results and of generated images (work_dirs/quickstart, with --data '
        'work_dirs/quickstart_FOLDER)',
    )
    parser.add_argument(
        '--started',
        type=float,
        default=time.time(),
        help='when tools/quickstart.sh began, in seconds since the epoch, for the times that are printed',
    )
    args = parser.parse_args()
    if args.epochs is not None and args.data is None:
        parser.error('--epochs is for images of your own: give them with --data')
    if args.epochs is not None and args.epochs < 1:
        parser.error('--epochs must be at least 1')
    suffix = '' if args.data is None else f'_{args.data.resolve().name}'
    args.work_dir = (args.work_dir or ROOT / 'work_dirs' / f'quickstart{suffix}').absolute()
    return args


def main() -> None:
    """Generate or check the data, train, test, and print the table."""
    args = parse_args()
    work_dir, time_line = args.work_dir, TimeLine(args.started)
    time_line.reach('installation')
    if args.data is None:
        comparison = on_generated_images(work_dir)
    else:
        comparison = on_own_images(args.data, work_dir, args.epochs)
    curves = []
    for config, model in comparison.models.items():
        train_and_test(comparison, config, time_line)
        metrics = comparison.folders[config] / 'metrics.json'
        curves.append(read_curve(metrics, model.name, METRIC, model.resolutions))

    time_line.reach('table')
    length = epochs_text(comparison.epochs)
    print(f'\nTop-1 accuracy (%) by test resolution after {length}; * = trained on\n')
    print(format_table(curves))
    write_curves(curves, work_dir / 'top1_by_resolution.csv', METRIC)
    picture = work_dir / 'top1_by_resolution.png'
    title = f'{comparison.images}: accuracy by test resolution'
    plot_curves(curves, picture, 'top-1 accuracy (%)', title)
    print(f'\nPicture: {picture}')
    time_line.write(work_dir / 'time_line.csv')
    stages = ', '.join(f'{stage} {time_line.format(stage)}' for stage in time_line.stages)
    print(f'Time since the start, on {os.cpu_count()} cores: {stages}')


if __name__ == '__main__':
    main()
