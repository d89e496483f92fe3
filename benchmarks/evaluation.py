"""Time and memory of an evaluation at ten resolutions: one after the other, in one pass, with fitted batches.

    python benchmarks/evaluation.py --out benchmarks/results/evaluation_cpu.csv

Each variant runs in a process of its own with random weights and two loader workers, on JPEG files of 0.2 or
4 megapixels, made by benchmarks/loader.py. The rounds take the variants in a rotating order. `one after the
other` and `one pass` have the batch size of the config at all resolutions, `fitted` has smaller batches above
the resolution of the pipeline. Seconds are medians over the rounds, and `of_first` is the median over the
rounds of the ratio to the first variant. `decode_percent` is what decoding every image once takes of the
processor time of the first variant, times the number of resolutions. `peak_MiB` is the largest increase of
the memory of the process and its workers during the evaluation, shared pages counted once.
"""

from __future__ import annotations

import argparse
import multiprocessing
import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path

import torch
from loader import PHOTOS, write_photos
from mmengine.config import Config

from resformer_mm.analysis.machine import describe_device
from resformer_mm.apis import build_test_loop, build_test_runner, load_model, make_test_config
from resformer_mm.datasets.decoding import decode_image
from resformer_mm.files import write_csv
from resformer_mm.progress import track

CONFIGS = Path(__file__).resolve().parents[1] / 'configs'
MINI = 'classification/resformer-mini_mr-64-48-32_1xb64-30e_mini.py'
LARGE = 'classification/resformer-{}_mr-224-160-128_8xb128-300e_in1k.py'
LOW = [24, 32, 40, 48, 56, 64, 72, 80, 96, 128]
HIGH = [96, 112, 128, 160, 192, 224, 256, 288, 320, 384]
VARIANTS = ('one after the other', 'one pass', 'one pass, fitted')


@dataclass(frozen=True)
class Case:
    """A model and its data.

    Attributes:
        config: config file.
        resolutions: in pixels.
        megapixels: size of the photos.
        images: number of photos.
        batch: batch size of the config.
    """

    config: str
    resolutions: list[int]
    megapixels: str
    images: int
    batch: int


CASES = {
    'mini': Case(MINI, LOW, '0.2', 192, 64),
    'mini, large photos': Case(MINI, LOW, '4', 32, 32),
    'tiny': Case(LARGE.format('tiny'), HIGH, '0.2', 32, 32),
    'small': Case(LARGE.format('small'), HIGH, '0.2', 16, 16),
}


def write_classes(root: Path, photos: list[str]) -> None:
    """Write a folder of ten classes."""
    for index, path in enumerate(photos):
        folder = root / 'val' / f'class_{index % 10}'
        folder.mkdir(parents=True, exist_ok=True)
        (folder / Path(path).name).hardlink_to(path)


def write_case(case: Case, folder: Path) -> tuple[dict, list[str]]:
    """Write photos, a config and weights; return the arguments of a test, and the photos."""
    folder.mkdir()
    photos = write_photos(folder, PHOTOS[case.megapixels], case.images)
    cfg = Config.fromfile(CONFIGS / case.config)
    root = folder / 'data'
    dataset = cfg.test_dataloader.dataset
    write_classes(root, photos)
    dataset.update(type='resformer_mm.ImageFolder', data_root=str(root), data_prefix='val')
    dataset.pop('split', None)
    cfg.model.head.num_classes = 10
    cfg.custom_hooks = []  # averages of weights expect the start of a run before weights are loaded
    cfg.test_dataloader.update(batch_size=case.batch, num_workers=2)
    cfg.val_dataloader, cfg.val_evaluator = cfg.test_dataloader, cfg.test_evaluator
    config, checkpoint = folder / 'config.py', folder / 'weights.pth'
    for module in (cfg.model.backbone, cfg.model):
        module.pop('init_cfg', None)
    cfg.dump(config)
    torch.manual_seed(0)
    torch.save({'state_dict': load_model(config, device='cpu').state_dict()}, checkpoint)
    return dict(config=str(config), checkpoint=str(checkpoint), resolutions=case.resolutions), photos


def evaluate(connection: Connection, arguments: dict, variant: str, threads: int) -> None:
    """Evaluate in this process; send seconds, processor seconds and metrics."""
    torch.set_num_threads(threads)
    resolutions = arguments['resolutions']
    options = {} if variant == VARIANTS[2] else {'test_cfg.batch_resolution': max(resolutions)}
    with tempfile.TemporaryDirectory() as folder:
        cfg = make_test_config(
            **arguments,
            work_dir=folder,
            cfg_options=options,
            resolutions_per_pass=1 if variant == VARIANTS[0] else None,
        )
        cfg.log_level = 'ERROR'
        runner = build_test_runner(cfg)
        build_test_loop(runner)
        runner.load_or_resume()
        connection.send('ready')
        connection.recv()
        start, cpu = time.perf_counter(), _processor_seconds()
        metrics = runner.test()
        connection.send((time.perf_counter() - start, _processor_seconds() - cpu, metrics))


def _processor_seconds() -> float:
    usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def measure(arguments: dict, variant: str, threads: int) -> tuple[float, float, float, dict]:
    """Return seconds, processor seconds, peak memory in MiB and metrics of a variant."""
    context = multiprocessing.get_context('spawn')
    ours, theirs = context.Pipe()
    process = context.Process(target=evaluate, args=(theirs, arguments, variant, threads))
    process.start()
    theirs.close()
    ours.recv()
    before = peak = held_bytes(process.pid)
    ours.send('go')
    while not ours.poll(0.1):
        peak = max(peak, held_bytes(process.pid))
    seconds, cpu, metrics = ours.recv()
    process.join()
    return seconds, cpu, (peak - before) / 2**20, metrics


def held_bytes(pid: int) -> int:
    """Return the memory of a process and its descendants, with shared pages counted once."""
    total = 0
    for number in processes(pid):
        try:
            lines = Path(f'/proc/{number}/smaps_rollup').read_text().splitlines()
        except OSError:  # it ended
            continue
        total += sum(1024 * int(line.split()[1]) for line in lines if line.startswith('Pss:'))
    return total


def processes(pid: int) -> Iterator[int]:
    """Yield a process and its descendants."""
    yield pid
    for file in Path(f'/proc/{pid}/task').glob('*/children'):
        try:
            children = file.read_text().split()
        except OSError:
            continue
        for child in children:
            yield from processes(int(child))


def decode_seconds(photos: list[str]) -> float:
    """Return the processor seconds of decoding every photo once."""
    start = time.process_time()
    for path in photos:
        decode_image(Path(path).read_bytes())
    return time.process_time() - start


def run(name: str, rounds: int, threads: int, folder: Path) -> list[dict]:
    """Return a row for every variant of a case."""
    case = CASES[name]
    arguments, photos = write_case(case, folder)
    found: dict[str, list] = {variant: [] for variant in VARIANTS}
    for number in track(range(rounds), name):
        for index in range(len(VARIANTS)):
            variant = VARIANTS[(index + number) % len(VARIANTS)]
            found[variant].append(measure(arguments, variant, threads))
    first = found[VARIANTS[0]]
    decode = len(case.resolutions) * decode_seconds(photos)
    share = 100 * decode / statistics.median(cpu for _, cpu, _, _ in first)
    assert len({str(one[3]) for variant in VARIANTS[:2] for one in found[variant]}) == 1, 'metrics differ'
    rows = []
    for variant in VARIANTS:
        ratios = [one[0] / other[0] for one, other in zip(found[variant], first)]
        rows.append(
            {
                'case': name,
                'megapixels': case.megapixels,
                'variant': variant,
                'seconds': f'{statistics.median(one[0] for one in found[variant]):.1f}',
                'of_first': f'{statistics.median(ratios):.2f}',
                'decode_percent': f'{share:.0f}',
                'peak_MiB': f'{statistics.median(one[2] for one in found[variant]):.0f}',
                'resolutions': ' '.join(map(str, case.resolutions)),
                'images': case.images,
                'batch': case.batch,
                'workers': 2,
                'rounds': rounds,
                'threads': threads,
                'device': describe_device('cpu'),
                'torch': torch.__version__,
            }
        )
    return rows


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--cases', nargs='+', choices=list(CASES), default=list(CASES))
    parser.add_argument('--rounds', type=int, default=3)
    parser.add_argument('--threads', type=int, default=2)
    parser.add_argument('--out', type=Path)
    args = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for number, name in enumerate(args.cases):
            rows += run(name, args.rounds, args.threads, Path(folder, str(number)))
            for row in rows[-3:]:
                print(*list(row.values())[:7], sep=', ', flush=True)
            if args.out is not None:
                write_csv(args.out, rows)


if __name__ == '__main__':
    sys.exit(main())
