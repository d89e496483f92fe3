"""How a model is fine-tuned: architecture, resolutions and schedule, from the data and the weights."""

from __future__ import annotations

import math
import os
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from resformer_mm.checkpoints import architecture_of, read_weights
from resformer_mm.checkpoints.sources import locate
from resformer_mm.models.backbones.resformer import ResFormer

from .data import FinetuningData

MINI = dict(embed_dims=128, num_layers=6, num_heads=4, feedforward_channels=512)
MINI_PATCH = 8
# The paper trains at 224, 160 and 128 pixels.
COPIES = (1, 160 / 224, 128 / 224)
FEW_PER_CLASS = 10


@dataclass(frozen=True)
class TaskRecipe:
    """What is known to work for a task.

    Attributes:
        tokens: patches along the side of the largest resolution, of patches of 16 pixels and of 8.
        batch: samples of a step on a GPU, and on a CPU.
        steps: steps of a fine-tuning from weights; from scratch, twice as many.
        rate: learning rate from weights, and from scratch.
    """

    tokens: tuple[int, int]
    batch: tuple[int, int]
    steps: int
    rate: tuple[float, float]


RECIPES = {
    'classification': TaskRecipe((14, 14), (64, 32), 1500, (5e-4, 1e-3)),
    'segmentation': TaskRecipe((32, 16), (8, 8), 1500, (5e-4, 1e-3)),
    'detection': TaskRecipe((40, 24), (8, 8), 2000, (5e-4, 1e-3)),
    'video': TaskRecipe((14, 8), (8, 8), 1500, (5e-4, 1e-3)),
}


@dataclass(frozen=True)
class Architecture:
    """A backbone.

    Attributes:
        name: 'mini', 'tiny', 'small' or 'base'.
        embed_dims: number of channels.
        num_layers: number of blocks.
        patch: patch size in pixels.
    """

    name: str
    embed_dims: int
    num_layers: int
    patch: int

    @property
    def setting(self) -> str:
        """The argument ``arch`` of the backbone, as code."""
        if self.name != 'mini':
            return repr(self.name)
        return 'dict({}, _delete_=True)'.format(', '.join(f'{key}={value}' for key, value in MINI.items()))


@dataclass(frozen=True)
class Plan:
    """Settings of a fine-tuning.

    Attributes:
        arch: the backbone.
        weights: checkpoint to start from; None trains from scratch.
        resolutions: training resolutions in pixels, the largest first.
        test_resolutions: resolutions of the evaluation, ascending.
        max_epochs: number of epochs.
        batch_size: samples of a step.
        learning_rate: of the head; blocks of the backbone have less, if there are weights.
        layer_decay: factor from a block to the one before it; None has one rate for all.
        frozen_stages: blocks that are not trained; -1 trains everything.
        lora: settings of adapters that are trained in the place of the backbone; None trains the backbone.
        num_workers: loader workers.
        notes: why, one line each.
    """

    arch: Architecture
    weights: str | None
    resolutions: tuple[int, ...]
    test_resolutions: tuple[int, ...]
    max_epochs: int
    batch_size: int
    learning_rate: float
    layer_decay: float | None
    frozen_stages: int
    lora: dict[str, Any] | None
    num_workers: int
    notes: tuple[str, ...]


def make_plan(
    data: FinetuningData,
    arch: str | None = None,
    weights: str | None = None,
    resolutions: Sequence[int] | None = None,
    epochs: int | None = None,
    batch_size: int | None = None,
    frozen_stages: int | None = None,
    lora_rank: int | None = None,
) -> Plan:
    """Choose what is not given.

    Args:
        data: the data.
        arch: name of the architecture; that of the weights, or 'small' on a GPU and 'mini' on a CPU.
        weights: checkpoint to start from: a path, ``hf-hub:owner/name``, a name of the model zoo, or a URL.
        resolutions: training resolutions in pixels.
        epochs: number of epochs.
        batch_size: samples of a step.
        frozen_stages: number of blocks that are not trained.
        lora_rank: rank of adapters that are trained in the place of the backbone.

    Raises:
        CheckpointError: the weights cannot be read, or are not those of a ViT or ResFormer.
        ValueError: the architecture is not that of the weights, a resolution is below one patch, there are
            not so many blocks, or adapters or frozen blocks have no weights.
    """
    has_gpu = torch.cuda.is_available()
    weights = None if weights is None else _located(weights)
    recipe, notes = RECIPES[data.task], []
    architecture, text = choose_architecture(arch, weights, has_gpu)
    notes.append(text)
    chosen, text = choose_resolutions(data.sizes, architecture, recipe, resolutions)
    notes.append(text)
    is_mini = architecture.name == 'mini'
    batch = batch_size or min(recipe.batch[0 if has_gpu else 1], data.num_train)
    rate = recipe.rate[0 if weights else 1] * (1.0 if is_mini else 0.4)
    rate *= min(1.0, math.sqrt(batch / recipe.batch[0 if has_gpu else 1]))
    steps = recipe.steps * (1 if weights else 2)
    number = epochs or min(max(math.ceil(steps * batch / data.num_train), 10), 100 if weights else 200)
    notes.append(
        f'{number} epochs of {math.ceil(data.num_train / batch)} steps, batches of {batch}, '
        f'learning rate {rate:.2g}'
    )
    frozen, decay = -1, None
    if weights:
        decay = 0.75
        text = f'from {weights}: each block learns at {decay} times the rate of the next one'
        if data.fewest < FEW_PER_CLASS and data.task in ('classification', 'video'):
            frozen = architecture.num_layers // 2
            text += f'; the first {frozen} are frozen, as a class has {data.fewest} samples'
        notes.append(text)
    if frozen_stages is not None:
        frozen = _check_frozen(frozen_stages, architecture, weights)
        notes.append(f'the first {frozen} blocks are frozen')
    lora = None if lora_rank is None else _adapters(lora_rank, data.task, weights)
    if lora is not None:
        notes.append(f'the backbone is frozen but for its positions, and has adapters of rank {lora_rank}')
    if weights is None:
        notes.append('from scratch, which needs many images: give weights with --weights if there are any')
    return Plan(
        architecture,
        weights,
        chosen,
        test_resolutions(chosen, architecture.patch),
        number,
        batch,
        float(f'{rate:.2g}'),
        decay,
        frozen,
        lora,
        4 if has_gpu else 2,
        tuple(notes),
    )


def _check_frozen(number: int, architecture: Architecture, weights: str | None) -> int:
    if weights is None:
        raise ValueError('--frozen-stages without --weights would freeze random blocks: give weights')
    if not 0 <= number <= architecture.num_layers:
        raise ValueError(
            f'--frozen-stages {number}: {architecture.name} has {architecture.num_layers} blocks'
        )
    return number


def _adapters(rank: int, task: str, weights: str | None) -> dict[str, Any]:
    if weights is None:
        raise ValueError('--lora without --weights would freeze a random backbone: give weights')
    if rank < 1:
        raise ValueError(f'--lora {rank}: the rank must be at least 1')
    # Weights of other ViTs have no GPE and LPE, those for images nothing of time.
    trained = ['position', 'temporal_'] if task == 'video' else ['position']
    return dict(r=rank, alpha=2 * rank, modules_to_save=trained)


def _located(weights: str) -> str:
    """Return a URL, or the path of a file or folder from any working directory."""
    place = str(locate(weights))
    if '://' in place:
        return place
    return os.path.abspath(weights if Path(weights).is_dir() else place)


def choose_architecture(name: str | None, weights: str | None, has_gpu: bool) -> tuple[Architecture, str]:
    """Return the architecture, and why.

    Raises:
        CheckpointError: the weights cannot be read.
        ValueError: the architecture is not that of the weights.
    """
    known = {'mini': (MINI['embed_dims'], MINI['num_layers'], MINI_PATCH)}
    for size in ('tiny', 'small', 'base'):
        settings = ResFormer.arch_zoo[size]
        known[size] = settings['embed_dims'], settings['num_layers'], 16
    if weights is None:
        chosen = name or ('small' if has_gpu else 'mini')
        why = 'chosen' if name else 'there is a GPU' if has_gpu else 'there is no GPU'
        return Architecture(chosen, *known[chosen]), f'architecture {chosen}: {why}'
    found = architecture_of(read_weights(weights))
    shape = found.embed_dims, found.num_layers, found.patch_size
    chosen_by_shape = next((size for size, values in known.items() if values == shape), None)
    if chosen_by_shape is None or name not in (None, chosen_by_shape):
        wanted = f'--arch {name} is another model than' if name else 'no architecture is that of'
        raise ValueError(
            f'{wanted} {weights}: it has {shape[0]} channels, {shape[1]} blocks and patches of '
            f'{shape[2]} pixels; known are {", ".join(f"{size} {values}" for size, values in known.items())}'
        )
    return Architecture(chosen_by_shape, *shape), f'architecture {chosen_by_shape}: that of the weights'


def choose_resolutions(
    sizes: Sequence[tuple[int, int]],
    arch: Architecture,
    recipe: TaskRecipe,
    given: Sequence[int] | None = None,
) -> tuple[tuple[int, ...], str]:
    """Return training resolutions in pixels, the largest first, and why.

    The largest is as many whole patches as the short side of the median image has, but not more than the
    recipe; the others are in the ratio of the paper's.

    Raises:
        ValueError: a given resolution is below one patch.
    """
    patch = arch.patch
    short = int(statistics.median(min(size) for size in sizes))
    if given is not None:
        if low := [value for value in given if value < patch]:
            raise ValueError(f'--resolutions {low[0]}: a patch has {patch} pixels')
        return tuple(sorted(set(given), reverse=True)), 'resolutions: as given'
    most = recipe.tokens[0 if patch == 16 else 1]
    side = max(min(short // patch, most), 2)
    chosen = tuple(dict.fromkeys(max(round(side * ratio), 1) * patch for ratio in COPIES))
    why = f'the short side of the median image is {short} pixels'
    if short // patch > most:
        why += f', which is more than {most} patches of {patch}'
    return chosen, f'resolutions {", ".join(map(str, chosen))}: {why}'


def test_resolutions(resolutions: Sequence[int], patch: int) -> tuple[int, ...]:
    """Return the resolutions of the evaluation: the trained ones, a smaller and a larger one."""
    smaller = max(math.floor(min(resolutions) * 3 / 4 / patch), 1)
    larger = math.ceil(max(resolutions) * 5 / 4 / patch)
    return tuple(sorted({smaller * patch, larger * patch, *resolutions}))
