"""Parsing and validation of backbone arguments."""

from __future__ import annotations

from collections.abc import Mapping, Sequence


def read_arch(arch: str | Mapping[str, int], zoo: Mapping[str, Mapping[str, int]]) -> Mapping[str, int]:
    """Return the dimensions of an architecture.

    Args:
        arch: the name of one, or its dimensions.
        zoo: the dimensions of those that have a name.

    Raises:
        ValueError: there is no architecture of that name, or a dimension is missing or left over.
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
    """Return one or several indices of blocks, of which negative ones count from the end, as positive ones.

    Args:
        name: of the argument, for the messages.
        indices: in increasing order of the blocks.
        num_layers: how many blocks there are.

    Raises:
        ValueError: they are not whole numbers, there is no such block, or they repeat or are out of order.
    """
    indices = (indices,) if isinstance(indices, int) else tuple(indices)
    for index in indices:
        if not isinstance(index, int):
            raise ValueError(f'{name} must be whole numbers, got {index!r}')
        if not -num_layers <= index < num_layers:
            raise ValueError(f'{name} contains {index}, but there are {num_layers} blocks')
    positive = tuple(index % num_layers for index in indices)
    if list(positive) != sorted(set(positive)):
        raise ValueError(f'{name} must be increasing without repeats, got {indices}')
    return positive


def check_rates(**rates: float) -> None:
    """Check probabilities of dropping something, by the names of their arguments.

    Raises:
        ValueError: one is negative, or 1 or more, which would leave nothing.
    """
    for name, rate in rates.items():
        if not 0 <= rate < 1:
            raise ValueError(f'{name} must be at least 0 and less than 1, got {rate}')


def initial_weights(pretrained: str | None, init_cfg: dict | None) -> dict | None:
    """Return the ``init_cfg`` of a backbone, given the path of a checkpoint or that config.

    Raises:
        ValueError: both are given.
    """
    if pretrained is None:
        return init_cfg
    if init_cfg is not None:
        raise ValueError(
            f'pretrained={pretrained!r} (or model.pretrained) and init_cfg both say where the weights of the '
            'backbone come from: set one of them to None'
        )
    return dict(type='resformer_mm.PretrainedResFormer', checkpoint=pretrained)
