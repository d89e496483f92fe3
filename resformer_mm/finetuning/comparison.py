"""Configs of three small classifiers on the same images: one on several resolutions, and two baselines."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from resformer_mm.files import write_atomically

from .data import FinetuningData, split_kind
from .plan import MINI_PATCH
from .writing import data_text, wrapped

RESOLUTIONS = (64, 48, 32)
# About as many images are seen as by the quickstart on its generated images.
IMAGES_SEEN = 28_000
FEWEST_EPOCHS, MOST_EPOCHS = 10, 200
BATCH_SIZE = 64
MOST_WARMUP = 100
CONFIG = '''\
"""{title} pixels, with {num_train} training images of {num_classes} classes.

    python tools/train.py {path}

Written by tools/quickstart.py: the model and the training of its base, with these images.

{notes}
"""

_base_ = 'resformer_mm::classification/{base}'

{data}
resolutions = {resolutions}  # of training, in pixels
test_resolutions = {test_resolutions}
max_epochs = {max_epochs}
batch_size = {batch_size}
warmup = {warmup}  # steps

model = dict(
{position}    head=dict(num_classes=len(classes)),
)

copies = dict(_base_.copies, resolutions=resolutions)
test_pipeline = [_base_.load, dict(_base_.crop, resolution=resolutions[0]), _base_.pack]
train_dataloader = dict(
    batch_size=batch_size,
    dataset=dict(train_data, _delete_=True, pipeline=[_base_.open_image, copies, _base_.pack]),
)
val_dataloader = dict(dataset=dict(val_data, _delete_=True, pipeline=test_pipeline))
test_dataloader = dict(dataset=dict({tested}_data, _delete_=True, test_mode=True, pipeline=test_pipeline))
val_evaluator = dict(topk=(1,))
test_evaluator = val_evaluator
val_cfg = dict(resolutions=resolutions)
test_cfg = dict(resolutions=test_resolutions)

# Float32, which is faster for such a narrow model.
optim_wrapper = dict(type='OptimWrapper')
param_scheduler = [
    dict(_base_.warmup, end=warmup),
    dict(_base_.cosine, end=max_epochs, T_max=max_epochs),
]
train_cfg = dict(max_epochs=max_epochs)
default_hooks = dict(logger=dict(interval=1))  # shows when the first step is done
'''
# The table of a DeiT has the grid of the training resolution.
LEARNED_TABLE = '    backbone=dict(global_position=dict(grid_size=resolutions[0] // _base_.patch)),\n'


@dataclass(frozen=True)
class ComparedModel:
    """One model of the comparison.

    Attributes:
        name: as it is called in tables and pictures.
        stem: name of its folder and, with '.py', of its config.
        base: config of the project that it inherits from, in the folder of classification.
        resolutions: training resolutions in pixels, the largest first.
        with_table: whether its positions are a learned table.
    """

    name: str
    stem: str
    base: str
    resolutions: tuple[int, ...]
    with_table: bool = False

    @property
    def cost(self) -> int:
        """Pixels of an image in a training step, all copies together."""
        return sum(side**2 for side in self.resolutions)


def compared_models(resolutions: Sequence[int] = RESOLUTIONS) -> tuple[ComparedModel, ...]:
    """Return a ResFormer on several resolutions, the same on the largest, and a DeiT on the largest.

    Args:
        resolutions: training resolutions in pixels, the largest first.
    """
    several, largest = tuple(resolutions), (resolutions[0],)
    return (
        ComparedModel(
            f'ResFormer on {", ".join(map(str, several))}',
            'resformer_mr',
            'resformer-mini_mr-64-48-32_1xb64-30e_mini.py',
            several,
        ),
        ComparedModel(
            f'ResFormer on {largest[0]}', 'resformer', 'resformer-mini_64_1xb64-30e_mini.py', largest
        ),
        ComparedModel(
            f'DeiT on {largest[0]}', 'deit', 'deit-mini_64_1xb64-30e_mini.py', largest, with_table=True
        ),
    )


def choose_resolutions(sizes: Sequence[tuple[int, int]], patch: int = MINI_PATCH) -> tuple[int, ...]:
    """Return 64, 48 and 32 pixels, or for smaller images what their short side has, in the same ratio.

    Args:
        sizes: (height, width) of training images in pixels.
        patch: patch size in pixels; resolutions are multiples of it.
    """
    short = statistics.median(min(size) for size in sizes)
    side = min(max(int(short) // patch, 2), RESOLUTIONS[0] // patch)
    ratios = (resolution / RESOLUTIONS[0] for resolution in RESOLUTIONS)
    return tuple(dict.fromkeys(round(side * ratio) * patch for ratio in ratios))


def choose_test_resolutions(largest: int, patch: int = MINI_PATCH) -> tuple[int, ...]:
    """Return resolutions from 3/8 of the largest training resolution to twice as many pixels, ascending."""
    side = largest // patch
    below = range(math.ceil(side * 3 / 8), side + 1)
    above = (round(side * ratio) for ratio in (1.25, 1.5, 2))
    return tuple(patch * number for number in sorted({*below, *above}))


def choose_epochs(num_train: int) -> int:
    """Return the number of epochs that sees about as many images as the quickstart on its own ones does."""
    return min(max(round(IMAGES_SEEN / num_train), FEWEST_EPOCHS), MOST_EPOCHS)


def check_splits(names: Sequence[str]) -> None:
    """Refuse data that is for the test alone.

    Args:
        names: names of the splits.

    Raises:
        ValueError: all of them are test splits.
    """
    if all(split_kind(name) == 'test' for name in names):
        raise ValueError(
            f'the only split is {", ".join(names)}, and nothing is trained on a test split: add a folder '
            f'"train", or give the folder {names[0]} itself as the data, and a fifth of it is held back'
        )


def write_comparison(
    folder: Path,
    data: FinetuningData,
    epochs: int,
    resolutions: Sequence[int] | None = None,
) -> dict[Path, ComparedModel]:
    """Write the configs of the three models, and return them by their paths.

    Args:
        folder: folder for the configs.
        data: images of classes.
        epochs: number of epochs.
        resolutions: training resolutions in pixels, the largest first; None chooses by the images.

    Raises:
        FileExistsError: the folder has a config of other data or of other settings.
    """
    models = compared_models(resolutions or choose_resolutions(data.sizes))
    texts = {folder / f'{model.stem}.py': model for model in models}
    written = {path: _config_text(path, model, data, epochs) for path, model in texts.items()}
    for path, text in written.items():
        if path.exists() and path.read_text(encoding='utf-8') != text:
            raise FileExistsError(
                f'{path} is of other images or another number of epochs: give another --work-dir, or remove '
                f'{folder}'
            )
    for path, text in written.items():
        with write_atomically(path) as partial:
            partial.write_text(text, encoding='utf-8')
    return texts


def _config_text(path: Path, model: ComparedModel, data: FinetuningData, epochs: int) -> str:
    batch = min(BATCH_SIZE, data.num_train)
    steps = epochs * math.ceil(data.num_train / batch)
    return CONFIG.format(
        title=model.name,
        path=path.as_posix(),
        base=model.base,
        num_train=data.num_train,
        num_classes=len(data.classes),
        notes=wrapped('\n'.join(f'- {note}' for note in data.notes)).replace('\\', '/'),
        data=data_text(data),
        resolutions=list(model.resolutions),
        test_resolutions=list(choose_test_resolutions(model.resolutions[0])),
        max_epochs=epochs,
        batch_size=batch,
        warmup=min(MOST_WARMUP, max(steps // 5, 1)),
        position=LEARNED_TABLE if model.with_table else '',
        tested='test' if data.test else 'val',
    )
