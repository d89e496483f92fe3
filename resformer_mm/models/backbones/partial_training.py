"""Training a part of a backbone: frozen stages, and adapters beside frozen weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from torch import nn

from resformer_mm.models.layers import (
    GlobalPosition,
    GridMerger,
    PatchEmbed,
    add_adapters,
    is_adapter,
    is_trained,
)

from .saved import SavedBackbone

if TYPE_CHECKING:
    from typing_extensions import Self  # part of `typing` since Python 3.11

LORA = ('r', 'alpha', 'dropout', 'target_modules', 'modules_to_save')


class PartialTraining(SavedBackbone):
    """Base of backbones of which ``frozen_stages`` or ``lora`` train a part."""

    frozen_stages: int
    num_layers: int
    lora: dict[str, Any] | None
    patch_embed: PatchEmbed
    cls_token: nn.Parameter | None
    registers: nn.Parameter | None
    global_position: GlobalPosition
    token_merger: GridMerger | None
    drop: nn.Dropout
    blocks: nn.ModuleList
    norm: nn.LayerNorm | None

    def _add_adapters(self, lora: Mapping[str, Any] | None) -> dict[str, Any] | None:
        if lora is None:
            return None
        lora = dict(lora)
        if unknown := sorted(set(lora) - set(LORA)):
            raise ValueError(f'backbone.lora has the unknown keys {unknown}: choose from {list(LORA)}')
        first = max(self.frozen_stages, 0)
        blocks = {f'blocks.{index}': block for index, block in enumerate(self.blocks) if index >= first}
        if not blocks:
            raise ValueError(
                f'backbone.frozen_stages={self.frozen_stages} leaves no block for backbone.lora: freeze fewer'
            )
        add_adapters(blocks, **lora)
        return lora

    def _freeze_for_adapters(self, modules_to_save: str | Sequence[str] = ()) -> None:
        for name, parameter in self.named_parameters():
            if not is_adapter(name) and not is_trained(name, modules_to_save):
                parameter.requires_grad_(False)

    def _freeze(self) -> None:
        if not -1 <= self.frozen_stages <= self.num_layers:
            raise ValueError(
                f'frozen_stages must be between -1 and {self.num_layers}, got {self.frozen_stages}'
            )
        if self.lora is not None:
            self._freeze_for_adapters(self.lora.get('modules_to_save', ()))
        if self.frozen_stages < 0:
            return
        frozen = [self.patch_embed, self.global_position, self.drop, *self.blocks[: self.frozen_stages]]
        for tokens in (self.cls_token, self.registers):
            if tokens is not None:
                tokens.requires_grad_(False)
        if self.frozen_stages == self.num_layers and self.norm is not None:
            frozen.append(self.norm)
        if self.token_merger is not None and self.token_merger.index <= self.frozen_stages:
            frozen.append(self.token_merger)
        for module in frozen:
            module.eval().requires_grad_(False)

    def train(self, mode: bool = True) -> Self:
        """Set the mode; frozen stages stay in evaluation mode."""
        super().train(mode)
        if mode:
            self._freeze()
            self._check_modules_to_save()
        return self

    def _check_modules_to_save(self) -> None:
        # Not in the constructor, because a subclass adds modules after it.
        saved = (self.lora or {}).get('modules_to_save', ())
        names = [name for name, _ in self.named_parameters()]
        for part in [saved] if isinstance(saved, str) else saved:
            if not any(part in name for name in names):
                raise ValueError(
                    f'backbone.lora.modules_to_save has {part!r}, but no parameter of the backbone has it in '
                    'its name: correct it, or leave it out'
                )
