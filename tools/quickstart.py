"""Train a multi-resolution ResFormer and two baselines on generated images, and compare them by resolution.

The baselines have the same size and see the same images as often: the same ResFormer on the largest
resolution alone, and a DeiT with a learned, interpolated position table on that resolution. Everything
runs through tools/train.py and tools/test.py; completed steps are not repeated.
"""

import argparse
import csv
import os
import re
import subprocess
import sys
import time
from pathlib import Path

from resformer_mm.analysis import format_table, plot_curves, read_curve, write_curves
from resformer_mm.progress import track
from resformer_mm.synthetic import write_image_folder

ROOT = Path(__file__).resolve().parents[1]
CONFIGS = ROOT / 'configs' / 'classification'
RESOLUTIONS = [24, 32, 40, 48, 56, 64, 80, 96, 128]
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
MODELS = [  # name, config, resolutions trained on
    ('ResFormer on 64, 48, 32', 'resformer-mini_mr-64-48-32_1xb64-30e_mini.py', (64, 48, 32)),
    ('ResFormer on 64', 'resformer-mini_64_1xb64-30e_mini.py', (64,)),
    ('DeiT on 64', 'deit-mini_64_1xb64-30e_mini.py', (64,)),
]


FIRST_STEP = re.compile(r'Epoch\(train\)\s+\[1\]\[\s*1/')


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
        return '{} min {:02} s'.format(*divmod(self.stages[stage], 60))

    def write(self, file: Path) -> None:
        """Write a table with a row for each stage."""
        with open(file, 'w', newline='') as stream:
            rows = csv.writer(stream, lineterminator='\n')
            rows.writerow(['stage', 'seconds'])
            rows.writerows(self.stages.items())


def run(tool: str, *args: object, log: Path, data_root: Path, time_line: TimeLine | None = None) -> None:
    """Run a tool as a user would, with its output in a log file.

    Args:
        time_line: where to note the first training step.

    Raises:
        SystemExit: the tool failed; the end of its output is printed.
    """
    # Threads that spin while they wait would slow down the processes that load the images.
    environment = {'OMP_WAIT_POLICY': 'PASSIVE', **os.environ, 'MINI_DATA_ROOT': str(data_root)}
    command = [sys.executable, str(ROOT / 'tools' / tool), *map(str, args)]
    with open(log, 'w') as file:
        process = subprocess.Popen(command, stdout=file, stderr=subprocess.STDOUT, env=environment)
        try:
            while time_line is not None and process.poll() is None:
                if FIRST_STEP.search(log.read_text(errors='replace')):
                    time_line.reach('first training step')
                    break
                time.sleep(0.2)
            code = process.wait()
        except BaseException:
            process.kill()
            raise
    if code:
        print(''.join(log.read_text(errors='replace').splitlines(keepends=True)[-25:]))
        sys.exit(f'error: tools/{tool} failed; its output is in {log}')


def train_and_test(
    name: str, config: str, folder: Path, data_root: Path, index: int, time_line: TimeLine
) -> None:
    """Train one model and evaluate it at every resolution, unless already done."""
    folder.mkdir(parents=True, exist_ok=True)
    metrics = folder / 'metrics.json'
    step = f'[{index + 2}/{len(MODELS) + 1}] {name}'
    if metrics.is_file():
        print(f'{step}: already done, in {folder}', flush=True)
        return
    start = time.time()
    print(f'{step}: training (log: {folder / "train.log"}) ...', flush=True)
    options = ('--work-dir', folder, '--resume', '--no-validate', '--cfg-options', *OPTIONS)
    log = folder / 'train.log'
    run('train.py', CONFIGS / config, *options, log=log, data_root=data_root, time_line=time_line)
    print(f'{step}: trained in {time.time() - start:.0f} s; testing ...', flush=True)
    checkpoint = Path((folder / 'last_checkpoint').read_text().strip())
    options = ('--resolutions', *RESOLUTIONS, '--out', metrics, '--out-item', 'metrics')
    options = ('--work-dir', folder / 'test', *options)
    run('test.py', CONFIGS / config, checkpoint, *options, log=folder / 'test.log', data_root=data_root)


def main() -> None:
    """Generate the data, train, test, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        '--work-dir',
        type=Path,
        default=ROOT / 'work_dirs' / 'quickstart',
        help='folder of the data and the results',
    )
    parser.add_argument(
        '--started',
        type=float,
        default=time.time(),
        help='when tools/quickstart.sh began, in seconds since the epoch, for the times that are printed',
    )
    args = parser.parse_args()
    work_dir = args.work_dir.absolute()
    data_root = work_dir / 'data'
    time_line = TimeLine(args.started)
    time_line.reach('installation')
    start = time.time()
    print(f'[1/{len(MODELS) + 1}] generating images in {data_root} ...', flush=True)
    write_image_folder(data_root, workers=os.cpu_count() or 1, track=track)
    print(f'      there after {time.time() - start:.0f} s', flush=True)

    curves = []
    for index, (name, config, trained_on) in enumerate(MODELS):
        folder = work_dir / Path(config).stem
        train_and_test(name, config, folder, data_root, index, time_line)
        curves.append(read_curve(folder / 'metrics.json', name, METRIC, trained_on))

    time_line.reach('table')
    print(f'\nTop-1 accuracy (%) by test resolution after {EPOCHS} epochs; * = trained on\n')
    print(format_table(curves))
    write_curves(curves, work_dir / 'top1_by_resolution.csv', METRIC)
    picture = work_dir / 'top1_by_resolution.png'
    plot_curves(curves, picture, 'top-1 accuracy (%)', 'Generated images: accuracy by test resolution')
    print(f'\nPicture: {picture}')
    time_line.write(work_dir / 'time_line.csv')
    stages = ', '.join(f'{stage} {time_line.format(stage)}' for stage in time_line.stages)
    print(f'Time since the start, on {os.cpu_count()} cores: {stages}')


if __name__ == '__main__':
    main()
