"""Training of some parameters of a model, with all others frozen."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn


def freeze_others(model: nn.Module, trained: Sequence[str], field: str) -> None:
    """Freeze all parameters of a model but some.

    It is done when the model is built, since distributed wrappers wait for the gradients of parameters that
    were not frozen when they were made.

    Args:
        model: the model.
        trained: starts of the names of the parameters that stay as they are, up to a dot or the end.
        field: name of the config field with ``trained``, for messages.

    Raises:
        ValueError: no parameter has one of these names, or one that has is frozen already.
    """
    starts = [trained] if isinstance(trained, str) else list(trained)
    found: dict[str, bool] = dict.fromkeys(starts, False)
    for name, parameter in model.named_parameters():
        own = [start for start in starts if f'{name}.'.startswith(f'{start}.')]
        if not own:
            parameter.requires_grad_(False)
        elif not parameter.requires_grad:
            raise ValueError(
                f'{field} names {own[0]!r}, but {name} is frozen by another setting, such as '
                'backbone.frozen_stages or backbone.lora: leave one of them out'
            )
        found.update(dict.fromkeys(own, True))
    if absent := [start for start, is_there in found.items() if not is_there]:
        raise ValueError(
            f'{field} names {absent[0]!r}, but no parameter of the model starts so: its parts are '
            f'{", ".join(name for name, _ in model.named_children())}'
        )
