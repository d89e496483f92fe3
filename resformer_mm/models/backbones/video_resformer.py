"""ResFormer for clips, with the attention of TimeSformer (paper, action recognition on Kinetics-400)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from resformer_mm.compat.tracing import dense_in_export
from resformer_mm.models.layers import (
    Attention,
    ClipBlock,
    ClipGrid,
    DividedBlock,
    JointAttention,
    PreNormBlock,
    TemporalPositionEmbedding,
    TokenGrid,
    frame_count,
    frame_grid,
    merge_frames,
)
from resformer_mm.registry import MODELS

from .resformer import ResFormer


@MODELS.register_module()
class VideoResFormer(ResFormer):
    """A ResFormer that attends over time as well, for clips of any number, height and width of frames.

    Every frame is cut into patches, which receive the global position embedding of an image and the temporal
    embedding of their frame. The clip has one class token, which receives neither. ``attention_type`` selects
    the blocks:

    - 'divided_space_time': attention over time, attention over space with local position embedding, MLP; see
      :class:`~resformer_mm.models.layers.DividedBlock` for the equations.
    - 'joint_space_time': attention among all tokens of the clip, local position embedding in each frame; see
      :class:`~resformer_mm.models.layers.JointAttention` for other local positions.
    - 'space_only': every frame is processed as an image, without a temporal embedding; the class tokens of
      the frames are averaged before the final norm.

    Weights of an image :class:`ResFormer` fit by name. The new parameters, ``temporal_*``, are initialised so
    that the model treats every frame as the image model does: the temporal embedding and the projection after
    the attention over time are zero. A clip of one repeated frame then gives the class token of the image.
    With 'joint_space_time' this holds only approximately, because the class token is one of 1 + T * N tokens
    in the attention instead of one of 1 + N.

    ``forward`` maps clips ``(B, C_in, T, h, w)`` to one tensor, or to a tuple if there are several out
    indices or ``output_cls_token``, as the backbones of mmaction do.

    Args:
        arch: see :class:`ResFormer`, as are all arguments that are not listed.
        num_frames: number of learned temporal embeddings; they are interpolated for clips of another number.
        attention_type: 'divided_space_time', 'joint_space_time' or 'space_only'.
        temporal_init_std: standard deviation of the initial temporal embedding. With 0, the model starts as
            the image model. If classes depend on the order of the frames and training is short, they are
            learned much sooner with 2, about the size of the tokens. 'space_only' has no such embedding.
        out_type: 'cls_token' ``(B, C)``, 'raw' ``(B, 1 + T * H * W, C)`` (class token first, if there is
            one), 'featmap' ``(B, C, T, H, W)`` or 'avg_featmap' ``(B, C)``, the mean over the patch tokens.
        **kwargs: further arguments of :class:`ResFormer`, except for windows and registers. An attention
            scale follows the number of tokens of a frame, or of the clip with 'joint_space_time'; attention
            over time, which has fewer, has none. A token merger merges the patches of each frame; its index
            must be 0.

    Raises:
        ValueError: an argument is out of range or conflicts with another; the message names it.
    """

    attention_types: Mapping[str, tuple[type[PreNormBlock], type[Attention]]] = {
        'divided_space_time': (DividedBlock, Attention),
        'joint_space_time': (ClipBlock, JointAttention),
        'space_only': (ClipBlock, Attention),
    }

    pools_maps = True  # as the heads of mmaction do

    def __init__(
        self,
        arch: str | Mapping[str, int] = 'base',
        num_frames: int = 8,
        attention_type: str = 'divided_space_time',
        temporal_init_std: float = 0.0,
        **kwargs,
    ) -> None:
        if attention_type not in list(self.attention_types):
            raise ValueError(
                f'attention_type={attention_type!r} is unknown: choose from {list(self.attention_types)}'
            )
        if kwargs.get('window_size') or kwargs.get('window_block_indices'):
            raise ValueError(
                'VideoResFormer attends to whole frames: leave window_size and window_block_indices out'
            )
        if kwargs.get('num_registers'):
            raise ValueError(
                'VideoResFormer has no registers, which frames could not share: leave num_registers out'
            )
        if (kwargs.get('token_merger') or {}).get('index', 0) != 0:
            raise ValueError(
                'VideoResFormer merges tokens before its blocks only: leave backbone.token_merger.index out'
            )
        # Classes, not modules: the base class builds the blocks with them.
        self.block_class, self.attention_class = self.attention_types[attention_type]
        super().__init__(arch, **kwargs)
        self.attention_type = attention_type
        self.temporal_position = None
        if attention_type != 'space_only':
            self.temporal_position = TemporalPositionEmbedding(self.embed_dims, num_frames, temporal_init_std)
        self._freeze()

    def _reset_parameters(self) -> None:
        super()._reset_parameters()
        for block in self.blocks:
            if isinstance(block, DividedBlock):
                nn.init.zeros_(block.temporal_fc.weight)

    def _freeze(self) -> None:
        super()._freeze()
        # The base class also calls this before the temporal embedding exists.
        temporal_position = self._modules.get('temporal_position')
        if temporal_position is not None and self.frozen_stages >= 0:
            temporal_position.eval().requires_grad_(False)

    # Clips, not images: callers of a backbone know which of the two it takes.
    def forward(  # type: ignore[override]
        self, clip: Tensor | Sequence[Tensor], pool: str | None = None
    ) -> Any:  # an output, a tuple of outputs, or what `forward_pooled` or `forward_copies` returns
        """Return the output in the form given by ``out_type``.

        It is a tuple if there are several out indices, or if every map comes with the class token.

        Args:
            clip: ``(B, C_in, T, h, w)``; a list of such batches for :meth:`forward_copies`.
            pool: for :meth:`forward_pooled`, whose result is returned.
        """
        if not isinstance(clip, Tensor):
            return self._outputs_of_copies(clip, pool)
        if pool is not None:
            return self._outputs_and_pooled(clip, pool)
        return self._formatted(*self.forward_tokens(clip, cls_only=self.out_type == 'cls_token'), None)

    def _as_output(self, feats: tuple) -> Any:
        # A list of a map and a token is one output: heads of mmaction find it in a tuple.
        return feats[0] if len(feats) == 1 and not self.output_cls_token else feats

    def forward_tokens(  # type: ignore[override]
        self, clip: Tensor, cls_only: bool = False
    ) -> tuple[list[Tensor], list[ClipGrid]]:
        """Return the tokens ``(B, 1 + T * H * W, C)`` of every out index, and the grid ``(T, H, W)`` of each.

        Args:
            clip: ``(B, C_in, T, h, w)``.
            cls_only: whether to return only the class token for the last out index, ``(B, 1, C)``. Its block
                then skips the computation for the patch tokens.

        Raises:
            ValueError: the clip does not have five dimensions or the channels of the model, has no frame, or
                a side is shorter than a patch.
        """
        tokens, grid = self._embed(clip)
        block_grid = self._block_grid(grid)
        outputs = []
        for index in range(self.out_indices[-1] + 1):
            is_last = index == self.out_indices[-1]
            tokens = self._run_block(index, tokens, block_grid, cls_only and is_last)
            if index in self.out_indices:
                outputs.append(self._finish(tokens, grid, index))
        return outputs, [grid] * len(outputs)

    repeated = (forward_tokens,)

    def _block_grid(self, grid: TokenGrid) -> TokenGrid:
        return frame_grid(grid) if self.attention_type == 'space_only' else grid

    def _embed(self, clip: Tensor) -> tuple[Tensor, ClipGrid]:  # type: ignore[override]
        """Return the input of the first block and its grid; with 'space_only', ``(B * T, 1 + N, C)``."""
        if clip.ndim != 5:
            raise ValueError(
                f'VideoResFormer takes clips (B, C, T, H, W), got {tuple(clip.shape)}: end the pipeline with '
                "FormatShape(input_format='NCTHW'), with format_shape='NCTHW' in the data preprocessor"
            )
        num_frames, in_channels = clip.shape[2], self.patch_embed.proj.in_channels
        if clip.shape[1] != in_channels or num_frames == 0:
            raise ValueError(
                f'VideoResFormer takes clips (B, {in_channels}, T, H, W) of one frame or more, got '
                f'{tuple(clip.shape)}: correct the order of the dimensions, or backbone.in_channels'
            )
        frames = dense_in_export(clip.transpose(1, 2)).flatten(0, 1)
        patches, plane = self._merge_patches(*self.patch_embed(frames))
        position = self.global_position(plane)
        if position is not None:
            patches = patches + position
        if self.temporal_position is not None:
            patches = patches.unflatten(0, (-1, num_frames))
            patches = patches + self.temporal_position(num_frames).unsqueeze(2)
            patches = dense_in_export(patches).flatten(1, 2)
        return self.drop(self._prepend_tokens(patches)), (num_frames, *plane)

    def _finish(self, tokens: Tensor, grid: TokenGrid, index: int) -> Tensor:
        """Return the tokens of clips for an out index, normalised after the last block."""
        if self.attention_type == 'space_only':
            tokens = merge_frames(tokens, frame_count(grid), self.with_cls_token)
        return super()._finish(tokens, grid, index)
