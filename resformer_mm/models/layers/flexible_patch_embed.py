"""Patch embeddings whose patches have any size at run time, through resized kernels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from resformer_mm.config_types import find_type, type_field
from resformer_mm.registry import MODELS

from .grids import Grid
from .kernel_resizing import apply_to_lines, kernel_resizing, resize_kernel
from .patch_embed import PatchEmbed

FIELD = 'backbone.patch_embed'
LARGEST = 4  # the largest patch in sides of the kernel
TOOL = 'tools/model_converters/add_patch_kernels.py'


@MODELS.register_module()
class FlexiblePatchEmbed(PatchEmbed):
    """A patch embedding that resizes its kernel to the size of the patches (FlexiViT).

    Smaller patches make more tokens of the same image, so that a small image can be worth as many as wanted;
    larger ones make fewer. See :mod:`~resformer_mm.models.layers.kernel_resizing` for the equation. Weights
    are those of :class:`PatchEmbed`, whose checkpoints fit. The bias is that of every size.

    The size of the patches is, in evaluation, ``patch_size``, or the one whose number of tokens comes nearest
    to ``tokens``. In training, it is the same, unless there are ``patch_sizes`` to draw from: each pass draws
    one, and so does each copy of a batch that passes together with others. A drawn size that is larger than
    the image is replaced by the largest that is not. Draws are from PyTorch's generator of the CPU, or set by
    :class:`~resformer_mm.engine.DrawPatchSizesHook`, which makes them the same in all processes. A patch
    embedding that is frozen (``frozen_stages``) is in evaluation mode, and draws nothing.

    Args:
        in_channels: channels of the image.
        embed_dims: width C of a token.
        kernel_size: side of the kernel in pixels, the ``patch_size`` of the backbone.
        patch_sizes: sides in pixels from which training draws; None draws nothing.
        patch_size: side of a patch in pixels; by default that of the kernel.
        tokens: number of tokens to come near to, in the place of ``patch_size``. The side is one of
            ``patch_sizes`` or, without them, any from one pixel to four times the kernel. Of numbers that
            are equally near, in terms of their ratio to ``tokens``, it is the smaller one, and of sizes with
            this number of tokens the smallest, which needs the least padding.

    Raises:
        ValueError: a size or the number of tokens is out of range, or there are both ``patch_size`` and
            ``tokens``.
    """

    matrices: Tensor

    def __init__(
        self,
        in_channels: int,
        embed_dims: int,
        kernel_size: int,
        patch_sizes: Sequence[int] | None = None,
        patch_size: int | None = None,
        tokens: int | None = None,
    ) -> None:
        super().__init__(in_channels, embed_dims, kernel_size)
        self._range = range(1, LARGEST * kernel_size + 1)
        if tokens is not None and patch_size is not None:
            raise ValueError(
                f'{FIELD}.tokens={tokens} and {FIELD}.patch_size={patch_size} both set the size of the '
                'patches: give one of them'
            )
        if tokens is not None and (not isinstance(tokens, int) or tokens < 1):
            raise ValueError(f'{FIELD}.tokens must be an integer of at least 1, got {tokens!r}')
        if patch_sizes is not None and not patch_sizes:
            raise ValueError(f'{FIELD}.patch_sizes is empty: give sizes to draw from, or None')
        self.patch_sizes = None if patch_sizes is None else tuple(sorted(set(patch_sizes)))
        self.patch_size = kernel_size if patch_size is None else patch_size
        self.tokens = tokens
        for size in (*(self.patch_sizes or ()), self.patch_size):
            self._check(size)
        self._num_set = self._pass = 0
        self._set_kernels((kernel_size,))

    def _set_kernels(self, sides: tuple[int, ...]) -> None:
        """Set the sides of the stored kernels, and the matrices that resize them to every size."""
        self.kernel_sizes = sides
        # One tensor, because there are many small ones; not part of a checkpoint.
        matrices = [kernel_resizing(self._nearest(size), size).ravel() for size in self._range]
        ends = np.cumsum([matrix.size for matrix in matrices]).tolist()
        self._places = dict(zip(self._range, zip([0, *ends], ends)))
        self.register_buffer(
            'matrices', torch.tensor(np.concatenate(matrices), dtype=torch.float32), persistent=False
        )

    @property
    def fixed_size(self) -> int:
        """Side of a patch in pixels, if it is that of every image and pass.

        Raises:
            ValueError: it is not.
        """
        if self.tokens is not None:
            raise ValueError(
                f'{FIELD}.tokens={self.tokens} makes the size of the patches depend on the image, but images '
                'of different sizes in a batch, detection and exported files need one size: set '
                f'{FIELD}.patch_size in its place'
            )
        if self.training and self.patch_sizes is not None:
            raise ValueError(
                f'{FIELD}.patch_sizes={list(self.patch_sizes)} draws the size of the patches in training, '
                'but images of different sizes in a batch need one size: leave patch_sizes out, and set '
                f'{FIELD}.patch_size'
            )
        return self.patch_size

    @property
    def smallest_size(self) -> int:
        """Side in pixels of the smallest image in evaluation."""
        return self.patch_size if self.tokens is None else self._choices[-1]

    @property
    def changes_size(self) -> bool:
        """Whether patches have another size than the first kernel, in training or in evaluation."""
        sizes = {self.patch_size, *(self.patch_sizes or ())}
        return self.tokens is not None or sizes != {self.kernel_sizes[0]}

    @property
    def _choices(self) -> Sequence[int]:
        """The sizes that ``tokens`` chooses from, large to small."""
        return (self.patch_sizes or self._range)[::-1]

    def size_for(self, height: int, width: int) -> int:
        """Return the side of a patch in pixels for an image of a height and a width in evaluation."""
        if self.tokens is None:
            return self.patch_size
        best, best_number = self._choices[-1], 0
        for size in self._choices:
            if size > height or size > width:
                continue
            number = (height + size - 1) // size * ((width + size - 1) // size)
            if best_number in (0, number) or self._is_nearer(number, best_number):
                best, best_number = size, number
        return best

    def _is_nearer(self, number: int, other: int) -> bool:
        """Whether the ratio of a number of tokens to the wanted one is nearer to 1 than that of another."""
        wanted: int = self.tokens  # type: ignore[assignment]
        return max(number, wanted) * min(other, wanted) < max(other, wanted) * min(number, wanted)

    def next_size(self, height: int, width: int) -> int:
        """Return the side of a patch for the next pass, which training draws."""
        if not self.training or self.patch_sizes is None:
            return self.size_for(height, width)
        if self._num_set:
            size = getattr(self, f'_size_{self._pass % self._num_set}')
            self._pass += 1
        else:
            size = self.patch_sizes[int(torch.randint(len(self.patch_sizes), (), device='cpu'))]
        for smaller in self.patch_sizes[::-1]:
            if smaller <= size and smaller <= height and smaller <= width:
                return smaller
        return self.patch_sizes[0]

    def set_step(self, sizes: Sequence[int]) -> None:
        """Set the sizes of the next passes in training, in their order and from the first one again.

        Args:
            sizes: sides in pixels; none for draws of the module itself.
        """
        self._num_set, self._pass = len(sizes), 0
        # An attribute each, not a list: a compiled program then depends only on those that it reads.
        for index, size in enumerate(sizes):
            setattr(self, f'_size_{index}', size)

    def kernel(self, size: int) -> tuple[Tensor, Tensor | None]:
        """Return the kernel ``(C, C_in, p, p)`` for patches of a side p in pixels, and the bias ``(C,)``."""
        nearest = self._nearest(size)
        stored = self._stored(nearest)
        if size == nearest:
            return stored.weight, stored.bias
        start, end = self._places[size]
        return resize_kernel(stored.weight, self.matrices[start:end].view(size, nearest)), stored.bias

    def _project(self, image: Tensor, patch: int) -> Tensor:
        return F.conv2d(image, *self.kernel(patch), stride=patch)

    def fixed(self, size: int | None = None) -> PatchEmbed:
        """Return a plain patch embedding of one size with the resized kernel.

        Args:
            size: side of a patch in pixels; by default that of evaluation.

        Raises:
            ValueError: the size is out of range, or differs from image to image.
        """
        if size is None:
            size = self.fixed_size
        self._check(size)
        weight, bias = self.kernel(size)
        plain = PatchEmbed(self.proj.in_channels, self.proj.out_channels, size).to(weight)
        plain.load_state_dict({'proj.weight': weight, 'proj.bias': bias})
        return plain.train(self.training)

    def _nearest(self, size: int) -> int:
        """Return the side of the stored kernel for a size; of two that are equally near, the larger."""
        return min(self.kernel_sizes, key=lambda side: (max(side, size) / min(side, size), -side))

    def _stored(self, side: int) -> nn.Conv2d:
        """Return the stored kernel of a side."""
        return self.proj

    def _check(self, size: int) -> None:
        if not isinstance(size, int) or size not in self._range:
            raise ValueError(
                f'{FIELD}: a patch size must be an integer from 1 to {self._range[-1]}, {LARGEST} times the '
                f'kernel, got {size!r}'
            )

    def extra_repr(self) -> str:
        """Return the settings."""
        size = f'patch_size={self.patch_size}' if self.tokens is None else f'tokens={self.tokens}'
        return size if self.patch_sizes is None else f'patch_sizes={self.patch_sizes}, {size}'


@MODELS.register_module()
class MultiKernelPatchEmbed(FlexiblePatchEmbed):
    """A patch embedding with kernels of several sizes, the nearest of which is resized (MSPE).

    Patches that are much smaller than a kernel have few of its pixels; a kernel of their own size makes
    better tokens of them (https://arxiv.org/abs/2405.18240). The first kernel has the names of
    :class:`PatchEmbed`, the others are ``kernels.SIZE``. The nearest kernel is that with the ratio of sides
    nearest to 1.

    Further kernels start as the resized first one. ``tools/model_converters/add_patch_kernels.py`` adds them
    to a checkpoint in this way; it can then be trained with all other weights frozen
    (``MultiResolutionClassifier(trained=['backbone.patch_embed.kernels'])``).

    Args:
        in_channels: see :class:`FlexiblePatchEmbed`, as are the arguments that are not listed.
        kernel_sizes: sides in pixels of the further kernels.

    Raises:
        ValueError: there is no further kernel, or two have the same size; see also
            :class:`FlexiblePatchEmbed`.
    """

    def __init__(
        self,
        in_channels: int,
        embed_dims: int,
        kernel_size: int,
        kernel_sizes: Sequence[int],
        patch_sizes: Sequence[int] | None = None,
        patch_size: int | None = None,
        tokens: int | None = None,
    ) -> None:
        super().__init__(in_channels, embed_dims, kernel_size, patch_sizes, patch_size, tokens)
        first, sides = self.proj, list(kernel_sizes)
        for side in sides:
            self._check(side)
        own = self.kernel_sizes[0]
        if not sides or len({own, *sides}) <= len(sides):
            raise ValueError(
                f'{FIELD}.kernel_sizes={sides} must be at least one, and differ from each other and from the '
                f'patch_size of the backbone, {own}'
            )
        self._set_kernels((own, *sides))
        self.kernels = nn.ModuleDict(
            {str(side): nn.Conv2d(first.in_channels, first.out_channels, side, side) for side in sides}
        )
        with torch.no_grad():
            for name, tensor in added_kernels(first.weight, first.bias, sides).items():
                self.get_parameter(name).copy_(tensor)

    def _stored(self, side: int) -> nn.Conv2d:
        if side == self.kernel_sizes[0]:
            return self.proj
        kernel = self.kernels[str(side)]
        assert isinstance(kernel, nn.Conv2d)
        return kernel

    def kernel(self, size: int) -> tuple[Tensor, Tensor | None]:
        """Return the kernel and bias for a size, as :class:`FlexiblePatchEmbed` does.

        In training, the other kernels get a gradient of zero, for which distributed training waits.
        """
        weight, bias = super().kernel(size)
        if self.training and torch.is_grad_enabled():
            nearest = self._nearest(size)
            others = [self._stored(side) for side in self.kernel_sizes if side != nearest]
            unused = [parameter.sum() for one in others for parameter in one.parameters()]
            assert bias is not None
            bias = bias + 0 * torch.stack(unused).sum()
        return weight, bias

    def _load_from_state_dict(self, state_dict: dict, prefix: str, *args, **kwargs) -> None:
        # A lenient loader would only log what is missing, and kernels would stay those of other weights.
        missing = [side for side in self.kernels if f'{prefix}kernels.{side}.weight' not in state_dict]
        if missing and f'{prefix}proj.weight' in state_dict:
            raise ValueError(
                f'the checkpoint has no kernels of the sizes {", ".join(missing)} of {FIELD}.kernel_sizes: '
                f'add them with {TOOL}'
            )
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)


def build_patch_embed(config: dict | None, in_channels: int, embed_dims: int, patch_size: int) -> PatchEmbed:
    """Return the patch embedding of a backbone.

    Args:
        config: ``patch_embed`` of the backbone; None for a plain one.
        in_channels: channels of the image.
        embed_dims: width C of a token.
        patch_size: side of the kernel in pixels.

    Raises:
        ValueError: the config is not that of a patch embedding.
    """
    if config is None:
        return PatchEmbed(in_channels, embed_dims, patch_size)
    sizes = dict(in_channels=in_channels, embed_dims=embed_dims, kernel_size=patch_size)
    if given := [name for name in sizes if name in config]:
        raise ValueError(f'{FIELD}.{given[0]} follows from the other arguments of the backbone: leave it out')
    kind = find_type(type_field(config), MODELS, 'resformer_mm')
    if not (isinstance(kind, type) and issubclass(kind, PatchEmbed)):
        raise ValueError(
            f"{FIELD}={dict(config)} is not a patch embedding: give dict(type='FlexiblePatchEmbed', ...) or "
            "dict(type='MultiKernelPatchEmbed', ...)"
        )
    return MODELS.build({'_scope_': 'resformer_mm', **config, **sizes})


def fix_patches(model: nn.Module, extent: Grid | None = None) -> None:
    """Replace the flexible patch embeddings in a model by plain ones of one size, see ``fixed``.

    Args:
        model: the model, in evaluation mode; it is changed.
        extent: height and width in pixels of the images that the size is for; by default it must be that of
            every image.

    Raises:
        ValueError: there is no extent, and the size differs from image to image.
    """
    for parent in list(model.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, FlexiblePatchEmbed):
                setattr(parent, name, child.fixed(None if extent is None else child.size_for(*extent)))


def added_kernels(weight: Tensor, bias: Tensor | None, sides: Sequence[int]) -> Mapping[str, Tensor]:
    """Return the tensors of further kernels of a :class:`MultiKernelPatchEmbed` by name: the first, resized.

    Args:
        weight: the first kernel, ``(C, C_in, p, p)``.
        bias: its bias ``(C,)``.
        sides: sides of the further kernels in pixels.
    """
    found = {}
    for side in sides:
        matrix = torch.tensor(kernel_resizing(weight.shape[-1], side), dtype=torch.float32)
        found[f'kernels.{side}.weight'] = apply_to_lines(matrix.to(weight.device), weight)
        if bias is not None:
            found[f'kernels.{side}.bias'] = bias.clone()
    return found
