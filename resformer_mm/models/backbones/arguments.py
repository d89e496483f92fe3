"""Parsing and validation of backbone arguments."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from resformer_mm.config_types import type_field, type_name

PRETRAINED = ('Pretrained', 'PretrainedInit')  # MMEngine's initialiser, and its class
INITIALISER = 'resformer_mm.PretrainedResFormer'


def read_arch(arch: str | Mapping[str, int], zoo: Mapping[str, Mapping[str, int]]) -> Mapping[str, int]:
    """Return the dimensions of an architecture.

    Args:
        arch: the name of an architecture, or its dimensions.
        zoo: the dimensions of the named architectures.

    Raises:
        ValueError: the name is unknown, or a dimension is missing or unknown.
    """
    if isinstance(arch, str):
        if arch not in zoo:
            raise ValueError(f'arch={arch!r} is unknown: choose from {list(zoo)} or give a dict')
        return zoo[arch]
    wanted = set(next(iter(zoo.values())))
    if set(arch) != wanted:
        raise ValueError(f'arch must have exactly the keys {sorted(wanted)}, got {sorted(arch)}')
    return arch


def block_indices(name: str, indices: int | Sequence[int], num_layers: int) -> tuple[int, ...]:
    """Return indices of blocks as non-negative numbers; negative ones count from the end.

    Args:
        name: name of the argument, for messages.
        indices: in increasing order of the blocks.
        num_layers: number of blocks.

    Raises:
        ValueError: an index is not an integer or does not exist, or the indices are not increasing.
    """
    indices = (indices,) if isinstance(indices, int) else tuple(indices)
    for index in indices:
        if not isinstance(index, int):
            raise ValueError(f'{name} must be integers, got {index!r}')
        if not -num_layers <= index < num_layers:
            raise ValueError(f'{name} contains {index}, but there are {num_layers} blocks')
    positive = tuple(index % num_layers for index in indices)
    if list(positive) != sorted(set(positive)):
        raise ValueError(f'{name} must be increasing without repeats, got {indices}')
    return positive


def check_rates(**rates: float) -> None:
    """Check drop rates, given by the names of their arguments.

    Raises:
        ValueError: a rate is negative, or at least 1, which would drop everything.
    """
    for name, rate in rates.items():
        if not 0 <= rate < 1:
            raise ValueError(f'{name} must be at least 0 and less than 1, got {rate}')


def check_count(name: str, number: int) -> int:
    """Return a number of things, given the name of its argument.

    Raises:
        ValueError: it is not an integer, or negative.
    """
    if type(number) is not int or number < 0:
        raise ValueError(f'{name} must be an integer of at least 0, got {number!r}')
    return number


def initial_weights(pretrained: str | None, init_cfg: dict | None) -> dict | None:
    """Return the ``init_cfg`` of a backbone, given either a checkpoint path or an ``init_cfg``.

    MMEngine's 'Pretrained' becomes :class:`~resformer_mm.checkpoints.initialisation.PretrainedResFormer`.

    Raises:
        ValueError: both are given.
    """
    if pretrained is None:
        if type_name(type_field(init_cfg)) not in PRETRAINED:
            return init_cfg
        settings = {name: value for name, value in dict(init_cfg or {}).items() if name != 'map_location'}
        return {**settings, 'type': INITIALISER, 'partial': True}
    if init_cfg is not None:
        raise ValueError(
            f'pretrained={pretrained!r} (or model.pretrained) and init_cfg both say where the weights of the '
            'backbone come from: set one of them to None'
        )
    return dict(type=INITIALISER, checkpoint=pretrained)
