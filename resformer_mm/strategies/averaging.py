"""Averaged weights of a sharded model."""

from __future__ import annotations

from typing import Any

from mmengine.hooks import EMAHook
from mmengine.registry import MODELS
from torch import Tensor, nn

from resformer_mm.compat.fsdp_gathered import release_gathered
from resformer_mm.registry import HOOKS


@HOOKS.register_module()
class ShardedEMAHook(EMAHook):
    """:class:`mmengine.hooks.EMAHook` in which every process averages its own shards.

    ``tools/train.py`` uses it with ``strategy`` wherever a config says ``EMAHook``, which copies the whole
    model, and whose checkpoints a ``FlexibleRunner`` cannot resume from. Checkpoints have the same entries:
    the averaged weights in 'state_dict', the others in 'ema_state_dict'.

    Args:
        **kwargs: see :class:`mmengine.hooks.EMAHook`.
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._resumed: dict[str, Tensor] | None = None

    def before_run(self, runner: Any) -> None:
        """Copy the shards, or take the averages of the checkpoint that the run resumes from."""
        self._model = runner.model
        self.src_model = LocalShards(runner.model)
        self.ema_model = MODELS.build(self.ema_cfg, default_args=dict(model=self.src_model))
        if self._resumed is None:
            return
        steps = self._resumed.pop('steps')
        averages = {name.removeprefix('module.'): value for name, value in self._resumed.items()}
        runner.strategy.load_model_state_dict(averages)
        self._swap_ema_parameters()
        self.ema_model.steps.copy_(steps)
        self._resumed = None

    def _swap_ema_parameters(self) -> None:
        super()._swap_ema_parameters()
        release_gathered(self._model)

    def before_save_checkpoint(self, runner: Any, checkpoint: dict) -> None:
        """Save the averages in the place of the weights, and the weights beside them."""
        # Of a single process, the weights are those in use, not a copy.
        weights = {f'module.{name}': value.clone() for name, value in checkpoint['state_dict'].items()}
        self._swap_ema_parameters()
        averages = {name: value.clone() for name, value in runner.strategy.model_state_dict().items()}
        self._swap_ema_parameters()
        checkpoint['state_dict'] = averages
        checkpoint['ema_state_dict'] = {'steps': self.ema_model.steps.cpu(), **weights}

    def after_load_checkpoint(self, runner: Any, checkpoint: dict) -> None:
        """Keep the averages until there are shards; a ``FlexibleRunner`` loads before ``before_run``."""
        if runner._resume and 'ema_state_dict' in checkpoint:
            self._swap_ema_state_dict(checkpoint)
            self._resumed = dict(checkpoint['ema_state_dict'])


class LocalShards(nn.Module):
    """The shards of one process as a module of their own, which averages can be taken of.

    Args:
        model: a sharded model; its parameters and buffers are shared, not copied.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        for index, parameter in enumerate(model.parameters()):
            self.register_parameter(f'parameter_{index}', parameter)
        for index, buffer in enumerate(model.buffers()):
            self.register_buffer(f'buffer_{index}', buffer)
