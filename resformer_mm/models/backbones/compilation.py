"""Compilation of a backbone for images of all sizes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn


class AnySizeCompilation(nn.Module):
    """Base of backbones whose :meth:`compile` makes at most two programs for all sizes of images.

    Its first argument is a batch of images or clips, or a list of such batches.
    """

    def compile(self, *args, **kwargs) -> None:
        """Compile the forward pass in place: for the first sizes of images, and once more for all others.

        A training step and an evaluation have programs of their own, as have lists of other lengths. With
        ``dynamic=True``, the first program is for all sizes; with ``dynamic=False``, there is one per size.

        Args:
            *args: see :func:`torch.compile`.
            **kwargs: see :func:`torch.compile`.

        Raises:
            ValueError: the backbone drops tokens, which it draws outside of the program.
        """
        if getattr(self, 'token_drop', None) is not None:
            raise ValueError(
                'a backbone with token_drop cannot be compiled: set compile=False or backbone.token_drop=None'
            )
        super().compile(*args, **kwargs)
        if kwargs.get('dynamic') is not False:
            compiled = self._compiled_call_impl
            assert compiled is not None
            self._compiled_call_impl = MarkedCall(compiled, starts_static=kwargs.get('dynamic') is None)


class MarkedCall:
    """A compiled call of a backbone that tells the compiler that sizes of images vary.

    By itself, PyTorch's compiler takes the sides as fixed that did not change from the first call to the
    second, and with ``dynamic=True`` it takes equal sides as always equal. Lists of sizes, in which some
    images keep their size and some are square, would be compiled again and again.

    Args:
        compiled: the compiled call of a module.
        starts_static: whether the first sizes have a program of their own, which is faster.
    """

    def __init__(self, compiled: Callable, starts_static: bool) -> None:
        self.compiled = compiled
        self.starts_static = starts_static
        self._first: dict[tuple, list[torch.Size] | None] = {}  # by program
        self._varies = False

    def __call__(self, images: Tensor | Sequence[Tensor], *args: Any, **kwargs: Any) -> Any:
        """Return what the call returns."""
        batches = [images] if isinstance(images, Tensor) else images
        sizes = [batch.shape[-2:] for batch in batches]
        program = isinstance(images, Tensor), len(batches), torch.is_grad_enabled()
        # The compiler remembers sides that vary, and makes no further program for fixed ones.
        self._first.setdefault(program, None if self._varies else sizes)
        if not self.starts_static or self._first[program] != sizes:
            self._varies = True
            for batch in batches:
                torch._dynamo.maybe_mark_dynamic(batch, [batch.ndim - 2, batch.ndim - 1])
        return self.compiled(images, *args, **kwargs)
