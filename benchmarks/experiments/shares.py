"""Processor seconds of the parts of a run: of an epoch of a training, and of a test at every resolution.

    MINI_DATA_ROOT=path/to/imagenette python benchmarks/experiments/shares.py every_size --test-images 3925

One thread, one process. A part is measured on a few batches and multiplied up to the images of an epoch or of
the test, of which the experiment may take every n-th. `loading` is what a loader worker does, `decoding` the
reading of whole JPEG files, `step` forward, backward and update, `prediction` the forward pass in the type
and the batch sizes of the tests.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from experiment import Experiment, experiment_names, find_experiment
from mmengine.dataset import pseudo_collate
from mmengine.device import get_device
from mmengine.runner import Runner
from run import RESULTS, ROOT, fast_dtype

from resformer_mm.analysis.machine import describe_device
from resformer_mm.apis import load_model
from resformer_mm.config.files import enter_scope, read_config
from resformer_mm.config.resolutions import pipeline_at_resolution
from resformer_mm.datasets.decoding import decode_image
from resformer_mm.engine.inference_dtype import set_inference_dtype
from resformer_mm.engine.resolution_loaders import fitted_batch_sizes
from resformer_mm.files import write_csv
from resformer_mm.registry import DATASETS

BATCHES = 4
"""Measured batches of the training."""
IMAGES = 32
"""Measured images of a test at a resolution."""


def seconds(call: Callable[[], object]) -> float:
    """Return the processor seconds of a call."""
    start = time.process_time()
    call()
    return time.process_time() - start


def shares_of_training(config: Path) -> dict[str, float]:
    """Return the seconds of the parts of an epoch."""
    cfg = read_config(config)
    cfg.train_dataloader.update(num_workers=0, persistent_workers=False)
    enter_scope(cfg)
    with tempfile.TemporaryDirectory() as folder:
        cfg.work_dir = folder
        runner = Runner.from_cfg(cfg)
        loader = runner.build_dataloader(cfg.train_dataloader)
        wrapper = runner.build_optim_wrapper(cfg.optim_wrapper)
        runner.model.train()
        batches: list[Any] = []
        source = iter(loader)
        loading = seconds(lambda: batches.extend(next(source) for _ in range(BATCHES)))
        runner.model.train_step(batches[0], wrapper)
        step = seconds(lambda: [runner.model.train_step(batch, wrapper) for batch in batches])
        dataset = loader.dataset
        number = BATCHES * loader.batch_size
        files = [Path(dataset.get_data_info(index)['img_path']).read_bytes() for index in range(number)]
        decoding = seconds(lambda: [decode_image(file) for file in files])
    epochs = len(loader) / BATCHES
    return {'loading': epochs * loading, 'decoding': epochs * decoding, 'step': epochs * step}


def shares_of_test(config: Path, dtype: str, resolution: int, images: int) -> dict[str, float]:
    """Return the seconds of the parts of a test at a resolution."""
    model = load_model(config, device='cpu')
    set_inference_dtype(model, dtype, 'dtype')
    settings = model.cfg.test_dataloader
    size = fitted_batch_sizes(settings, [resolution])[resolution]
    dataset = dict(settings.dataset, indices=IMAGES)
    dataset['pipeline'] = pipeline_at_resolution(dataset['pipeline'], resolution)
    built = DATASETS.build(dataset)
    items: list[Any] = []
    loading = seconds(lambda: items.extend(built[index] for index in range(IMAGES)))
    batches = [pseudo_collate(items[start : start + size]) for start in range(0, IMAGES, size)]
    model.test_step(batches[0])
    prediction = seconds(lambda: [model.test_step(batch) for batch in batches])
    return {'loading': loading * images / IMAGES, 'prediction': prediction * images / IMAGES}


def measure(experiment: Experiment, name: str, test_images: int) -> list[dict[str, object]]:
    """Return a row for every part."""
    setting = dict(variant=name, torch=torch.__version__, machine=describe_device(get_device()))
    dtype = experiment.dtype or fast_dtype()
    rows: list[dict[str, object]] = []

    def add(part: str, found: dict[str, float]) -> None:
        for share, value in found.items():
            rows.append(dict(part=part, share=share, seconds=f'{value:.2f}', dtype=dtype, **setting))

    with tempfile.TemporaryDirectory() as folder:
        config = Path(folder, f'{name}.py')
        config.write_text(experiment.variants[name].config_text(ROOT), encoding='utf-8')
        add('epoch', shares_of_training(config))
        for resolution in experiment.resolutions:
            images = len(range(0, test_images, experiment.thinned.get(resolution, 1)))
            add(f'test at {resolution}', shares_of_test(config, dtype, resolution, images))
    return rows


def main() -> None:
    """Measure, and write the CSV."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('experiment', choices=experiment_names())
    parser.add_argument('--variant', help='(the first one)')
    parser.add_argument('--test-images', type=int, required=True, help='images of the whole test')
    parser.add_argument('--out', type=Path, help='CSV file (benchmarks/results/EXPERIMENT_shares_cpu.csv)')
    args = parser.parse_args()
    torch.set_num_threads(1)
    experiment = find_experiment(args.experiment)
    name = args.variant or next(iter(experiment.variants))
    if name not in experiment.variants:
        parser.error(f'{name} is not a variant of {experiment.name}: {", ".join(experiment.variants)}')
    out = args.out or RESULTS / f'{experiment.name}_shares_cpu.csv'
    write_csv(out, measure(experiment, name, args.test_images))


if __name__ == '__main__':
    main()
