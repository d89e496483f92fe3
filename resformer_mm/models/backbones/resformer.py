"""The ResFormer backbone (paper, Section 3)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from resformer_mm.models.layers import (
    Attention,
    BatchPadding,
    Block,
    DropPath,
    GlobalPosition,
    Grid,
    LocalPosition,
    PreNormBlock,
    RandomTokenDrop,
    TokenGrid,
    WindowAttention,
    build_patch_embed,
    pad_prefix_tokens,
    separate_padding,
)
from resformer_mm.registry import MODELS

from .arguments import block_indices, check_count, check_rates, initial_weights, read_arch
from .compilation import AnySizeCompilation
from .copies import CopiesForward
from .partial_training import PartialTraining


@MODELS.register_module()
class ResFormer(AnySizeCompilation, CopiesForward, PartialTraining):
    """A DeiT-shaped ViT whose position embeddings follow the size of the input.

    ``forward`` maps images ``(B, C_in, h, w)`` of at least one patch to a tuple with one entry per out index.
    Images are padded with zeros at the bottom and the right to a multiple of the patch size. If the images of
    a batch were padded to one size and their ``sizes`` are given, the output for an image does not depend on
    the other images.

    Args:
        arch: 'tiny', 'small', 'base', or a dict with ``embed_dims``, ``num_layers``, ``num_heads`` and
            ``feedforward_channels``.
        patch_size: side of a patch in pixels; with ``patch_embed``, of its kernel.
        in_channels: channels of the image.
        out_indices: block or blocks whose output is returned, counted from 0; negative ones from the end.
        out_type: 'cls_token' ``(B, C)``, 'raw' ``(B, 1 + H * W, C)`` (class token first, if there is one),
            'featmap' ``(B, C, H, W)`` or 'avg_featmap' ``(B, C)``, the mean over the patch tokens.
        drop_rate: dropout after the position embedding, attention projections and MLP layers.
        drop_path_rate: stochastic depth of the last block; it rises linearly from 0 at the first.
        drop_path: config of stochastic depth: ``DropPath``, or ``SubsetDropPath``, which computes the kept
            samples of a batch alone.
        with_cls_token: whether there is a class token.
        output_cls_token: whether every map comes with the class token, ``[(B, C, H, W), (B, C)]``, as heads
            such as mmseg's ``DPTHead`` expect. It needs ``out_type='featmap'`` and a class token.
        final_norm: whether the output of the last block is normalised.
        frozen_stages: -1 trains everything, 0 freezes what precedes the blocks, n also the first n blocks.
        with_cp: activation checkpointing of every block: less memory, more time, the same gradients.
        global_position: config of the position embedding added at the input: ``GlobalPositionEmbedding``,
            ``LearnedPositionEmbedding``, ``NoGlobalPosition`` or your own :class:`GlobalPosition`.
        local_position: config of the position module in every attention, e.g. ``LocalPositionEmbedding``;
            None for none.
        window_size: side in tokens of the windows of the blocks in ``window_block_indices``. No weight
            depends on it; :meth:`set_window_size` changes it.
        window_block_indices: blocks in which patches attend inside windows instead of over the whole map. The
            class token and the registers belong to every window, and attend to the whole map.
        token_merger: config of a token merger, which makes the token grid smaller before the first or, with
            ``index``, before a later block: ``TokenMerger``, whose grid has at most a given size whatever the
            image, or ``StridedTokenMerger`` for maps of a fixed stride. The number of heads and the width of
            the MLP are those of the blocks unless given. None merges nothing.
        token_drop: config of :class:`~resformer_mm.models.layers.RandomTokenDrop`, which drops a share of the
            patch tokens of large images in training; None drops none. For classifiers, without windows and
            token mergers.
        patch_embed: config of a patch embedding whose patches have another size at run time:
            ``FlexiblePatchEmbed`` or ``MultiKernelPatchEmbed``; None for patches of ``patch_size``.
        lora: freezes the backbone and trains low-rank adapters instead: a dict with ``r``, the rank (8),
            ``alpha`` (r), ``dropout`` (0), ``target_modules``, names of linear layers of the blocks
            (('qkv', 'proj')), and ``modules_to_save``, parts of names of parameters that are trained, too.
            Blocks of ``frozen_stages`` get none. None trains the backbone itself.
        num_registers: number of learned tokens beside the class token, without positions, which are not part
            of the output (Darcet et al., arXiv 2309.16588).
        attention_scale: config of an :class:`~resformer_mm.models.layers.AttentionScale`, a factor of the
            attention scores by the number of tokens, e.g. ``LogTokensScale``; None for none.
        pretrained: checkpoint of a classifier, short for an ``init_cfg`` of type ``PretrainedResFormer``;
            models of the libraries pass their field ``model.pretrained`` under this name.

    Raises:
        ValueError: an argument is out of range or conflicts with another; the message names it.
    """

    block_class: type[PreNormBlock] = Block
    attention_class: type[Attention] = Attention  # of the blocks without windows

    arch_zoo: Mapping[str, Mapping[str, int]] = {
        'tiny': dict(embed_dims=192, num_layers=12, num_heads=3, feedforward_channels=768),
        'small': dict(embed_dims=384, num_layers=12, num_heads=6, feedforward_channels=1536),
        'base': dict(embed_dims=768, num_layers=12, num_heads=12, feedforward_channels=3072),
    }

    def __init__(
        self,
        arch: str | Mapping[str, int] = 'small',
        patch_size: int = 16,
        in_channels: int = 3,
        out_indices: int | Sequence[int] = -1,
        out_type: str = 'cls_token',
        drop_rate: float = 0.0,
        drop_path_rate: float = 0.0,
        with_cls_token: bool = True,
        output_cls_token: bool = False,
        final_norm: bool = True,
        frozen_stages: int = -1,
        with_cp: bool = False,
        global_position: dict | None = dict(type='GlobalPositionEmbedding'),
        local_position: dict | None = dict(type='LocalPositionEmbedding'),
        window_size: int = 0,
        window_block_indices: Sequence[int] = (),
        token_merger: dict | None = None,
        token_drop: dict | None = None,
        patch_embed: dict | None = None,
        lora: Mapping[str, Any] | None = None,
        drop_path: dict = dict(type='DropPath'),
        num_registers: int = 0,
        attention_scale: dict | None = None,
        pretrained: str | None = None,
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(initial_weights(pretrained, init_cfg))
        dims = read_arch(arch, self.arch_zoo)
        check_rates(drop_rate=drop_rate, drop_path_rate=drop_path_rate)
        self.embed_dims = dims['embed_dims']
        self.num_layers = dims['num_layers']
        self.out_indices = block_indices('out_indices', out_indices, self.num_layers)
        self.out_type = self._check_out_type(out_type, with_cls_token)
        self.with_cls_token = with_cls_token
        self.num_registers = check_count('num_registers', num_registers)
        self.output_cls_token = self._check_output_cls_token(output_cls_token)
        self.frozen_stages = frozen_stages
        self.with_cp = with_cp

        self.patch_embed = build_patch_embed(patch_embed, in_channels, self.embed_dims, patch_size)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, self.embed_dims)) if with_cls_token else None
        self.registers = None
        if num_registers:
            self.registers = nn.Parameter(torch.zeros(1, num_registers, self.embed_dims))
        self.global_position = self._build_global_position(global_position or dict(type='NoGlobalPosition'))
        self.drop = nn.Dropout(drop_rate)
        common = dict(embed_dims=self.embed_dims, num_heads=dims['num_heads'], drop_rate=drop_rate)
        channels = dims['feedforward_channels']
        self.token_merger = self._build_token_merger(token_merger, feedforward_channels=channels, **common)
        windowed = self._check_windows(window_size, window_block_indices)
        attention = dict(
            common,
            with_cls_token=with_cls_token,
            local_position=local_position,
            num_registers=num_registers,
            attention_scale=attention_scale,
        )
        self.token_drop = self._build_token_drop(token_drop, bool(windowed))
        self.blocks = nn.ModuleList()
        for index in range(self.num_layers):
            attn = self._build_attention(attention, index, window_size if index in windowed else 0)
            depth = self._build_drop_path(drop_path, drop_path_rate * index / max(1, self.num_layers - 1))
            self.blocks.append(
                self.block_class(self.embed_dims, attn, channels, drop_rate=drop_rate, drop_path=depth)
            )
        self.norm = nn.LayerNorm(self.embed_dims, eps=1e-6) if final_norm else None
        self._reset_parameters()
        self.lora = self._add_adapters(lora)
        self._freeze()

    def _check_output_cls_token(self, output_cls_token: bool) -> bool:
        if output_cls_token and (self.out_type != 'featmap' or not self.with_cls_token):
            raise ValueError(
                "output_cls_token=True needs out_type='featmap' and with_cls_token=True, got "
                f'out_type={self.out_type!r} and with_cls_token={self.with_cls_token}'
            )
        return output_cls_token

    def _check_windows(self, window_size: int, indices: Sequence[int]) -> tuple[int, ...]:
        """Return the blocks with windows, counted from 0."""
        windowed = block_indices('window_block_indices', indices, self.num_layers)
        if bool(windowed) != (window_size > 0):
            raise ValueError(
                f'window_size={window_size} and window_block_indices={tuple(indices)} '
                'go together: give a positive window_size and the blocks that use it, or neither'
            )
        return windowed

    def _build_attention(self, settings: dict[str, Any], index: int, window_size: int) -> Attention:
        """Return the attention of a block, over the whole map if ``window_size`` is 0."""
        attn = (
            WindowAttention(**settings, window_size=window_size)
            if window_size
            else self.attention_class(**settings)
        )
        if attn.local_position is not None:
            attn.local_position.set_depth(index, self.num_layers)
        return attn

    def _build_global_position(self, config: dict) -> GlobalPosition:
        config = {'_scope_': 'resformer_mm', 'with_cls_token': self.with_cls_token, **config}
        if config['with_cls_token'] and not self.with_cls_token:
            raise ValueError(
                'global_position.with_cls_token=True needs a class token: leave it out of the config, or set '
                'backbone.with_cls_token=True'
            )
        return MODELS.build({**config, 'embed_dims': self.embed_dims})

    @staticmethod
    def _build_drop_path(config: dict, rate: float) -> DropPath:
        try:
            built = MODELS.build({'_scope_': 'resformer_mm', **config, 'rate': rate})
        except TypeError:  # of a class without a rate
            built = None
        if not isinstance(built, DropPath):
            raise ValueError(
                f'backbone.drop_path={dict(config)} is not a stochastic depth: its type is DropPath or '
                'SubsetDropPath, and the rate is backbone.drop_path_rate'
            )
        return built

    def _build_token_drop(self, config: dict | None, with_windows: bool) -> RandomTokenDrop | None:
        if config is None:
            return None
        built = MODELS.build({'_scope_': 'resformer_mm', **config})
        if not isinstance(built, RandomTokenDrop):
            raise ValueError(
                f'backbone.token_drop={dict(config)} drops no tokens: its type is RandomTokenDrop'
            )
        problem = None
        if self.out_type not in ('cls_token', 'avg_featmap') or self.output_cls_token:
            problem = f'out_type={self.out_type!r}, which needs all tokens'
        elif with_windows or self.token_merger is not None:
            problem = f'{"windows" if with_windows else "token_merger"}, which needs whole grids'
        elif type(self)._embed is not ResFormer._embed:
            problem = f'{type(self).__name__}, which takes clips'
        if problem is not None:
            raise ValueError(f'backbone.token_drop cannot be combined with {problem}: leave one of them out')
        return built

    def _reset_parameters(self) -> None:
        # Position modules keep their own initialisation: some must start at zero.
        positions = [m for m in self.modules() if isinstance(m, (GlobalPosition, LocalPosition))]
        own = {module for position in positions for module in position.modules()}
        for module in self.modules():
            if isinstance(module, nn.Linear) and module not in own:
                nn.init.trunc_normal_(module.weight, std=0.02)
                nn.init.zeros_(module.bias)
        for tokens in (self.cls_token, self.registers):
            if tokens is not None:
                nn.init.trunc_normal_(tokens, std=0.02)

    def forward(
        self,
        image: Tensor | Sequence[Tensor],
        sizes: Sequence[Grid] | None = None,
        pool: str | None = None,
    ) -> Any:  # a tuple of outputs, or what `forward_pooled` or `forward_copies` returns
        """Return one entry per out index, in the form given by ``out_type``.

        Args:
            image: ``(B, C_in, h, w)``; a list of such batches for :meth:`forward_copies`.
            sizes: real height and width in pixels of each image of a batch that was padded at the bottom and
                the right. Position embeddings, attention and means are then those of each image alone, and
                maps and raw tokens are zero in the padding, whose pixels are not read. Without sizes, or if
                every image has as many patches as the batch, nothing is masked.
            pool: for :meth:`forward_pooled`, whose result is returned.

        Raises:
            ValueError: the sizes do not fit the batch.
        """
        if not isinstance(image, Tensor):
            return self._outputs_of_copies(image, pool)
        if pool is not None:
            return self._outputs_and_pooled(image, pool)
        padding = None
        if sizes is not None:
            if self.token_drop is not None and self.training:
                raise ValueError('backbone.token_drop drops no tokens of padded batches: set it to None')
            image, padding = separate_padding(image, sizes, self.patch_size)
        cls_only = self.out_type == 'cls_token'
        if padding is not None and self._packs_padded:
            outputs, grids = self._tokens_of_padded(image, padding, cls_only)
        else:
            outputs, grids = self.forward_tokens(image, cls_only, padding)
        return tuple(
            self.format_output(tokens, grid, self._padding_at(index, padding, grid))
            for index, tokens, grid in zip(self.out_indices, outputs, grids)
        )

    def forward_tokens(
        self, image: Tensor, cls_only: bool = False, padding: BatchPadding | None = None
    ) -> tuple[list[Tensor], list[Grid]]:
        """Return the tokens ``(B, N, C)`` of every out index, and the token grid ``(H, W)`` of each.

        The first of the N tokens is the class token, if there is one, and the next are the registers.

        Args:
            image: ``(B, C_in, h, w)``.
            cls_only: whether to return only the class token for the last out index, N = 1. Its block then
                skips the computation for the patch tokens.
            padding: which tokens belong to the images of a padded batch.
        """
        outputs, grids = self.block_tokens(image, self.out_indices, cls_only, padding)
        outputs[-1] = self._finish(outputs[-1], grids[-1], self.out_indices[-1])
        for position, index in enumerate(self.out_indices):
            own = self._padding_at(index, padding, grids[position])
            if own is not None and not (cls_only and position == len(outputs) - 1):
                outside = pad_prefix_tokens(~own.valid.unsqueeze(2), self.num_prefix_tokens)
                outputs[position] = outputs[position].masked_fill(outside, 0)
        return outputs, grids

    def block_tokens(
        self,
        image: Tensor,
        indices: Sequence[int],
        cls_only: bool = False,
        padding: BatchPadding | None = None,
    ) -> tuple[list[Tensor], list[Grid]]:
        """Return the tokens ``(B, N, C)`` after the blocks of increasing indices, and their token grids.

        They are not normalised. The other arguments are those of :meth:`forward_tokens`.
        """
        tokens, grid = self._embed(image, padding)
        own = self._padding_at(0, padding, grid)
        outputs, grids = [], []
        for index in range(indices[-1] + 1):
            if self._merges_at(index):
                tokens, grid = self._merge(tokens, grid, padding)
                own = self._padding_at(index, padding, grid)
            is_last = index == indices[-1]
            tokens = self._run_block(index, tokens, grid, cls_only and is_last, padding=own)
            if index in indices:
                outputs.append(tokens)
                grids.append(grid)
        return outputs, grids

    def _finish(self, tokens: Tensor, grid: TokenGrid, index: int) -> Tensor:
        """Return the tokens for an out index, normalised after the last block."""
        return self.norm(tokens) if index == self.num_layers - 1 and self.norm is not None else tokens

    def _embed(self, image: Tensor, padding: BatchPadding | None = None) -> tuple[Tensor, Grid]:
        """Return the input of the first block ``(B, N, C)`` and the token grid."""
        tokens, grid = self.patch_embed(image)
        tokens, grid = self._merge_patches(tokens, grid, padding)
        own = self._padding_at(0, padding, grid)
        if own is None:
            position = self.global_position(grid)
        else:
            position = self.global_position.of_batch(own.grids, grid)
        if position is not None:
            tokens = tokens + position
        if self.token_drop is not None:
            tokens, grid = self.token_drop(tokens, grid)
        return self.drop(self._prepend_tokens(tokens)), grid

    def _prepend_tokens(self, tokens: Tensor) -> Tensor:
        """Prepend the class token and the registers, if there are any, to patch tokens ``(B, N, C)``."""
        prefix: list[Tensor] = []
        if self.cls_token is not None:
            cls_position = self.global_position.cls_token_embedding()
            prefix.append(self.cls_token if cls_position is None else self.cls_token + cls_position)
        if self.registers is not None:
            prefix.append(self.registers)
        if not prefix:
            return tokens
        return torch.cat([*(one.expand(tokens.shape[0], -1, -1) for one in prefix), tokens], dim=1)

    def _run_block(self, index: int, tokens: Tensor, grid: TokenGrid, cls_only: bool, **kwargs) -> Tensor:
        """Return the output of a block, with ``cls_only`` for the class token alone."""
        block: Any = self.blocks[index]  # a PreNormBlock, or one in a wrapper such as that of FSDP
        return self._run(block.forward_cls if cls_only else block, tokens, grid, **kwargs)

    def _run(self, function: Callable[..., Tensor], *args, **kwargs) -> Tensor:
        """Return the result of a part of the model, with ``with_cp`` without keeping its activations."""
        if self.with_cp and self.training:
            return checkpoint(function, *args, **kwargs, use_reentrant=False)
        return function(*args, **kwargs)

    repeated: tuple[Callable, ...] = (forward_tokens, block_tokens)

    def set_window_size(self, window_size: int) -> None:
        """Change the side of the windows, e.g. to attend to more or fewer tokens at test time.

        The settings, with which the model is saved, change with it; weights do not.

        Args:
            window_size: the new side in tokens.

        Raises:
            ValueError: no block has windows, or ``window_size`` is not a positive integer.
        """
        windows = [module for module in self.modules() if isinstance(module, WindowAttention)]
        if not windows:
            raise ValueError(
                'no block of the backbone has windows: build it with window_size and window_block_indices'
            )
        for attn in windows:
            attn.window_size = window_size
        self.settings['window_size'] = window_size

    def get_layer_depth(self, param_name: str, prefix: str = '') -> tuple[int, int]:
        """Return the depth of a parameter and the number of depths, for layer-wise learning-rate decay.

        Modules before the blocks have depth 0, block i has depth i + 1, modules after them the last depth. A
        token merger has the depth of the block before it.

        Args:
            param_name: full name of the parameter.
            prefix: prefix of the backbone's parameters, e.g. 'backbone.'.
        """
        num_depths = self.num_layers + 2
        if not param_name.startswith(prefix):
            return num_depths - 1, num_depths  # the head
        name = param_name[len(prefix) :]
        if name.startswith('blocks.'):
            return int(name.split('.')[1]) + 1, num_depths
        if name.startswith('norm.'):
            return num_depths - 1, num_depths
        if name.startswith('token_merger.') and self.token_merger is not None:
            return self.token_merger.index, num_depths
        return 0, num_depths

    def _load_from_state_dict(self, state_dict: dict, prefix: str, *args, **kwargs) -> None:
        # A lenient loader would only log the different shape, and the weights would stay random.
        key = f'{prefix}patch_embed.proj.weight'
        weight, own = state_dict.get(key), self.patch_embed.proj.weight
        if weight is not None and weight.shape != own.shape:
            raise ValueError(
                f'the checkpoint does not fit this backbone: {key} is {tuple(weight.shape)} there and '
                f'{tuple(own.shape)} here (width, channels, patch, patch). Set backbone.arch, in_channels '
                'and patch_size to those of the checkpoint, or use another checkpoint. Patches of another '
                'size than the kernel are set in backbone.patch_embed, of type FlexiblePatchEmbed.'
            )
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)
