"""Draws of patch sizes that are the same in all processes, and in a resumed training."""

from __future__ import annotations

import numpy as np
from mmengine.dist import broadcast_object_list
from mmengine.hooks import Hook
from mmengine.runner import Runner

from resformer_mm.models.layers import FlexiblePatchEmbed
from resformer_mm.registry import HOOKS

PASSES = 16  # drawn for an iteration; further copies repeat them


@HOOKS.register_module()
class DrawPatchSizesHook(Hook):
    """Draw the patch sizes of every training iteration, the same in all processes.

    Without it, a :class:`~resformer_mm.models.layers.FlexiblePatchEmbed` with ``patch_sizes`` draws by
    itself, in every process separately: processes with fewer tokens then wait for those with more. Draws
    depend on the seed of the training and the number of the iteration alone, so a resumed run continues with
    the same sequence. A compiled backbone needs the hook, because it cannot draw. One program is compiled for
    each combination of sizes, up to the limit of PyTorch (``torch._dynamo.config.recompile_limit``, 8); other
    combinations run without compilation.

    Args:
        per_copy: whether each copy of a batch (each resolution) has a size of its own; otherwise, all copies
            of an iteration have the same, for which a compiled backbone needs one program for each size.
        seed: seed of the draws; by default that of the training.

    Raises:
        ValueError: the model has no patch embedding with ``patch_sizes``; raised before training.
    """

    def __init__(self, per_copy: bool = True, seed: int | None = None) -> None:
        self.per_copy = per_copy
        self.seed = seed
        self._seed = 0
        self._drawing: list[FlexiblePatchEmbed] = []

    def before_train(self, runner: Runner) -> None:
        """Find the patch embeddings, and agree on a seed."""
        self._drawing = [
            module
            for module in runner.model.modules()
            if isinstance(module, FlexiblePatchEmbed) and module.patch_sizes is not None
        ]
        if not self._drawing:
            raise ValueError(
                'custom_hooks: DrawPatchSizesHook has nothing to draw: set backbone.patch_embed='
                "dict(type='FlexiblePatchEmbed', patch_sizes=[...]), or leave the hook out"
            )
        seed = [runner.seed if self.seed is None else self.seed]
        broadcast_object_list(seed)  # each process may have its own
        self._seed = seed[0]

    def before_train_iter(self, runner: Runner, *args, **kwargs) -> None:
        """Draw the sizes of the passes of this iteration."""
        for module in self._drawing:
            module.set_step(self.draw(module.patch_sizes or (), runner.iter))

    def draw(self, sizes: tuple[int, ...], iteration: int) -> tuple[int, ...]:
        """Return the sizes of the passes of an iteration, for each copy in its order.

        Args:
            sizes: the sizes to draw from.
            iteration: number of the iteration, from 0.
        """
        rng = np.random.default_rng([self._seed, iteration])
        drawn = rng.choice(sizes, PASSES if self.per_copy else 1)
        return tuple(int(size) for size in drawn)

    def after_train(self, runner: Runner) -> None:
        """Let the patch embeddings draw by themselves again."""
        for module in self._drawing:
            module.set_step(())
