"""One optimiser step out of one backward pass per resolution."""

from __future__ import annotations

from contextlib import nullcontext

from mmengine.model import MMDistributedDataParallel
from mmengine.optim import OptimWrapper
from torch import Tensor, nn

from resformer_mm.registry import MODEL_WRAPPERS


def train_by_turns(
    model: nn.Module, module: nn.Module, data: dict, optim_wrapper: OptimWrapper
) -> dict[str, Tensor]:
    """Forward and back-propagate each resolution in turn, then step; return the losses for the log.

    Works with gradient accumulation, mixed precision and distributed training, in which gradients are
    synchronised once, with the last resolution.

    Args:
        model: what is called: the module itself or its distributed wrapper.
        module: the model inside, with ``data_preprocessor`` and a forward mode 'turn'.
        data: one batch from the data loader.
        optim_wrapper: wrapper of the optimiser.
    """
    with optim_wrapper.optim_context(model):
        batch = module.data_preprocessor(data, training=True)
    copies = batch['inputs']
    copies = [copies] if isinstance(copies, Tensor) else copies
    logged: dict[str, Tensor] = {}
    teacher = None
    for index, image in enumerate(copies):
        is_last = index == len(copies) - 1
        synchronise = nullcontext() if is_last or model is module else model.no_sync()
        with synchronise, optim_wrapper.optim_context(model):
            losses, teacher = model(
                inputs=image,
                data_samples=batch['data_samples'],
                mode='turn',
                index=index,
                num_resolutions=len(copies),
                teacher=teacher,
            )
        loss, terms = module.parse_losses(losses)
        terms['loss'] = terms['loss'] + logged.get('loss', 0.0)
        logged.update(terms)
        if is_last:
            optim_wrapper.update_params(loss)
        else:
            optim_wrapper.backward(optim_wrapper.scale_loss(loss))
            # The wrapper counts backward passes to know when to step: only the last turn makes a step.
            optim_wrapper._inner_count -= 1
        del loss, losses
    return logged


class TurnByTurnTraining:
    """Makes a multi-resolution model free the activations of a resolution before the next; a mixin before it.

    The model has ``resolution_loss(image, data_samples, index, num_resolutions, teacher)``. The gradients are
    those of the joint step, since no gradient reaches a teacher; the peak memory is that of the largest
    resolution, not of the sum. For training on several processes set
    ``model_wrapper_cfg=dict(type='resformer_mm.TurnByTurnDistributedDataParallel')``.
    """

    def forward(self, inputs: Tensor | list[Tensor], data_samples=None, mode: str = 'tensor', **kwargs):
        """Forward in the modes of MMEngine, or in mode 'turn': the losses of one resolution.

        Raises:
            RuntimeError: a joint step of several resolutions is asked for, as a plain wrapper does.
        """
        if mode == 'turn':
            return self.resolution_loss(inputs, data_samples, **kwargs)
        if mode == 'loss' and self.training and isinstance(inputs, list) and len(inputs) > 1:
            raise RuntimeError(
                f'{type(self).__name__} was asked for all resolutions at once: on several processes set '
                "model_wrapper_cfg=dict(type='resformer_mm.TurnByTurnDistributedDataParallel'), or use the "
                'model that is trained on all at once'
            )
        return super().forward(inputs, data_samples, mode, **kwargs)

    def train_step(self, data: dict, optim_wrapper: OptimWrapper) -> dict[str, Tensor]:
        """Run forward and backward per resolution, then one optimiser step; return the logged losses."""
        return train_by_turns(self, self, data, optim_wrapper)


@MODEL_WRAPPERS.register_module()
class TurnByTurnDistributedDataParallel(MMDistributedDataParallel):
    """The distributed wrapper of models that back-propagate each resolution in turn."""

    def train_step(self, data: dict, optim_wrapper: OptimWrapper) -> dict[str, Tensor]:
        """Run forward and backward per resolution, then one optimiser step; return the logged losses."""
        return train_by_turns(self, self.module, data, optim_wrapper)
