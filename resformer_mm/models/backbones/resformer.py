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
    BranchFactors,
    GlobalPosition,
    Grid,
    LocalPosition,
    Packing,
    PatchEmbed,
    PreNormBlock,
    TokenGrid,
    WindowAttention,
    add_adapters,
    is_adapter,
    is_trained,
    pad_cls_token,
    separate_padding,
)
from resformer_mm.registry import MODELS

from .arguments import block_indices, check_rates, initial_weights, read_arch
from .saved import SavedBackbone

LORA = ('r', 'alpha', 'dropout', 'target_modules', 'modules_to_save')
OUT_TYPES = ('cls_token', 'raw', 'featmap', 'avg_featmap')


@MODELS.register_module()
class ResFormer(SavedBackbone):
    """A DeiT-shaped ViT whose position embeddings follow the size of the input.

    ``forward`` maps images ``(B, C_in, h, w)`` of at least one patch to a tuple with one entry per out index.
    Images are padded with zeros at the bottom and the right to a multiple of the patch size. If the images of
    a batch were padded to one size and their ``sizes`` are given, the output for an image does not depend on
    the other images.

    Args:
        arch: 'tiny', 'small', 'base', or a dict with ``embed_dims``, ``num_layers``, ``num_heads`` and
            ``feedforward_channels``.
        patch_size: side of a patch in pixels.
        in_channels: channels of the image.
        out_indices: block or blocks whose output is returned, counted from 0; negative ones from the end.
        out_type: 'cls_token' ``(B, C)``, 'raw' ``(B, 1 + H * W, C)`` (class token first, if there is one),
            'featmap' ``(B, C, H, W)`` or 'avg_featmap' ``(B, C)``, the mean over the patch tokens.
        drop_rate: dropout after the position embedding, attention projections and MLP layers.
        drop_path_rate: stochastic depth of the last block; it rises linearly from 0 at the first.
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
        window_size: side in tokens of the windows of the blocks in ``window_block_indices``.
        window_block_indices: blocks that attend inside windows instead of over the whole map.
        lora: freezes the backbone and trains low-rank adapters instead: a dict with ``r``, the rank (8),
            ``alpha`` (r), ``dropout`` (0), ``target_modules``, names of linear layers of the blocks
            (('qkv', 'proj')), and ``modules_to_save``, parts of names of parameters that are trained, too.
            Blocks of ``frozen_stages`` get none. None trains the backbone itself.
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
        lora: Mapping[str, Any] | None = None,
        pretrained: str | None = None,
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(initial_weights(pretrained, init_cfg))
        dims = read_arch(arch, self.arch_zoo)
        check_rates(drop_rate=drop_rate, drop_path_rate=drop_path_rate)
        self.embed_dims = dims['embed_dims']
        self.num_layers = dims['num_layers']
        self.patch_size = patch_size
        self.out_indices = block_indices('out_indices', out_indices, self.num_layers)
        self.out_type = self._check_out_type(out_type, with_cls_token)
        self.with_cls_token = with_cls_token
        if output_cls_token and (out_type != 'featmap' or not with_cls_token):
            raise ValueError(
                "output_cls_token=True needs out_type='featmap' and with_cls_token=True, got "
                f'out_type={out_type!r} and with_cls_token={with_cls_token}'
            )
        self.output_cls_token = output_cls_token
        self.frozen_stages = frozen_stages
        self.with_cp = with_cp

        self.patch_embed = PatchEmbed(in_channels, self.embed_dims, patch_size)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, self.embed_dims)) if with_cls_token else None
        self.global_position = self._build_global_position(global_position or dict(type='NoGlobalPosition'))
        self.drop = nn.Dropout(drop_rate)

        windowed = block_indices('window_block_indices', window_block_indices, self.num_layers)
        if bool(windowed) != (window_size > 0):
            raise ValueError(
                f'window_size={window_size} and window_block_indices={tuple(window_block_indices)} '
                'go together: give a positive window_size and the blocks that use it, or neither'
            )
        self.blocks = nn.ModuleList()
        for index in range(self.num_layers):
            attention: dict[str, Any] = dict(
                embed_dims=self.embed_dims,
                num_heads=dims['num_heads'],
                with_cls_token=with_cls_token,
                local_position=local_position,
                drop_rate=drop_rate,
            )
            attn = (
                WindowAttention(**attention, window_size=window_size)
                if index in windowed
                else self.attention_class(**attention)
            )
            rate = drop_path_rate * index / max(1, self.num_layers - 1)
            channels = dims['feedforward_channels']
            self.blocks.append(
                self.block_class(self.embed_dims, attn, channels, drop_rate=drop_rate, drop_path_rate=rate)
            )
        self.norm = nn.LayerNorm(self.embed_dims, eps=1e-6) if final_norm else None
        self._reset_parameters()
        self.lora = self._add_adapters(lora)
        self._freeze()

    @staticmethod
    def _check_out_type(out_type: str, with_cls_token: bool) -> str:
        if out_type not in OUT_TYPES:
            raise ValueError(f'out_type={out_type!r} is unknown: choose from {OUT_TYPES}')
        if out_type == 'cls_token' and not with_cls_token:
            raise ValueError(
                "out_type='cls_token' needs with_cls_token=True: without a class token, set "
                "out_type='avg_featmap' for a classifier or 'featmap' for maps"
            )
        return out_type

    def _build_global_position(self, config: dict) -> GlobalPosition:
        config = {'_scope_': 'resformer_mm', 'with_cls_token': self.with_cls_token, **config}
        if config['with_cls_token'] and not self.with_cls_token:
            raise ValueError(
                'global_position.with_cls_token=True needs a class token: leave it out of the config, or set '
                'backbone.with_cls_token=True'
            )
        return MODELS.build({**config, 'embed_dims': self.embed_dims})

    def _reset_parameters(self) -> None:
        # Position modules keep their own initialisation: some must start at zero.
        positions = [m for m in self.modules() if isinstance(m, (GlobalPosition, LocalPosition))]
        own = {module for position in positions for module in position.modules()}
        for module in self.modules():
            if isinstance(module, nn.Linear) and module not in own:
                nn.init.trunc_normal_(module.weight, std=0.02)
                nn.init.zeros_(module.bias)
        if self.cls_token is not None:
            nn.init.trunc_normal_(self.cls_token, std=0.02)

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
        if self.cls_token is not None:
            self.cls_token.requires_grad_(False)
        if self.frozen_stages == self.num_layers and self.norm is not None:
            frozen.append(self.norm)
        for module in frozen:
            module.eval().requires_grad_(False)

    def train(self, mode: bool = True) -> ResFormer:
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
            image, padding = separate_padding(image, sizes, self.patch_size)
        outputs, grid = self.forward_tokens(image, self.out_type == 'cls_token', padding)
        return tuple(self.format_output(tokens, grid, padding) for tokens in outputs)

    def forward_tokens(
        self, image: Tensor, cls_only: bool = False, padding: BatchPadding | None = None
    ) -> tuple[list[Tensor], Grid]:
        """Return the tokens ``(B, N, C)`` of every out index, and the token grid ``(H, W)``.

        Args:
            image: ``(B, C_in, h, w)``.
            cls_only: whether to return only the class token for the last out index, N = 1. Its block then
                skips the computation for the patch tokens.
            padding: which tokens belong to the images of a padded batch.
        """
        outputs, grid = self.block_tokens(image, self.out_indices, cls_only, padding)
        last = self.out_indices[-1]
        if last == self.num_layers - 1 and self.norm is not None:
            outputs[-1] = self.norm(outputs[-1])
        if padding is not None:
            outside = pad_cls_token(~padding.valid.unsqueeze(2), self.with_cls_token)
            for position, tokens in enumerate(outputs):
                if not (cls_only and position == len(outputs) - 1):
                    outputs[position] = tokens.masked_fill(outside, 0)
        return outputs, grid

    def block_tokens(
        self,
        image: Tensor,
        indices: Sequence[int],
        cls_only: bool = False,
        padding: BatchPadding | None = None,
    ) -> tuple[list[Tensor], Grid]:
        """Return the tokens ``(B, N, C)`` after the blocks of increasing indices, and the token grid.

        They are not normalised. The other arguments are those of :meth:`forward_tokens`.
        """
        tokens, grid = self._embed_image(image, padding)
        outputs = []
        for index in range(indices[-1] + 1):
            is_last = index == indices[-1]
            tokens = self._run_block(index, tokens, grid, cls_only and is_last, padding=padding)
            if index in indices:
                outputs.append(tokens)
        return outputs, grid

    def _embed_image(self, image: Tensor, padding: BatchPadding | None = None) -> tuple[Tensor, Grid]:
        """Return the input of the first block ``(B, N, C)`` and the token grid."""
        tokens, grid = self.patch_embed(image)
        if padding is None:
            position = self.global_position(grid)
        else:
            position = self.global_position.of_batch(padding.grids, grid)
        if position is not None:
            tokens = tokens + position
        return self.drop(self._prepend_cls_token(tokens)), grid

    def _prepend_cls_token(self, tokens: Tensor) -> Tensor:
        """Prepend the class token, if there is one, to patch tokens ``(B, N, C)``."""
        if self.cls_token is None:
            return tokens
        cls_position = self.global_position.cls_token_embedding()
        cls_token = self.cls_token if cls_position is None else self.cls_token + cls_position
        return torch.cat((cls_token.expand(tokens.shape[0], -1, -1), tokens), dim=1)

    def _run_block(self, index: int, tokens: Tensor, grid: TokenGrid, cls_only: bool, **kwargs) -> Tensor:
        """Return the output of a block, with ``cls_only`` for the class token alone."""
        block: Any = self.blocks[index]  # a PreNormBlock, or one in a wrapper such as that of FSDP
        return self._run(block.forward_cls if cls_only else block, tokens, grid, **kwargs)

    def _run(self, function: Callable[..., Tensor], *args, **kwargs) -> Tensor:
        """Return the result of a part of the model, with ``with_cp`` without keeping its activations."""
        if self.with_cp and self.training:
            return checkpoint(function, *args, **kwargs, use_reentrant=False)
        return function(*args, **kwargs)

    def forward_pooled(self, image: Tensor, pool: str) -> tuple[tuple[Tensor | list[Tensor], ...], Tensor]:
        """Return what :meth:`forward` returns, and the tokens of the last out index pooled to ``(B, C)``.

        The pooled tokens are what scale consistency compares (paper, Section 3.2).

        Args:
            image: ``(B, C_in, h, w)``.
            pool: 'cls', the class token, or 'gap', the mean of the patch tokens.
        """
        # A call of the module: compilers, sharding wrappers and hooks do not see calls of its other methods.
        return self(image, pool=pool)

    def _outputs_and_pooled(
        self, image: Tensor, pool: str
    ) -> tuple[tuple[Tensor | list[Tensor], ...], Tensor]:
        outputs, grid = self.forward_tokens(image, pool == 'cls' and self.out_type == 'cls_token')
        return self._formatted(outputs, grid, pool)

    @property
    def packs_copies(self) -> bool:
        """Whether :meth:`forward_copies` computes what the class computes batch by batch.

        Not for subclasses with another forward pass, for blocks of other classes or in wrappers, and while
        parts of blocks have hooks, which expect the tokens of one batch.
        """
        own = type(self)
        methods = ('forward_tokens', 'block_tokens', 'forward_pooled')
        if any(getattr(own, name) is not getattr(ResFormer, name) for name in methods):
            return False
        for block in self.blocks:
            if type(block) is not Block or type(block.attn).forward is not Attention.forward:
                return False
        return not any(_has_hooks(module) for module in self.blocks.modules())

    def forward_copies(self, images: Sequence[Tensor], pool: str | None = None) -> list:
        """Return what :meth:`forward`, or with ``pool`` :meth:`forward_pooled`, returns for several batches.

        Norms and linear layers take the tokens of all batches as one matrix, which saves time where batches
        or images are small; patches, positions and attention are computed batch by batch.

        Args:
            images: batches ``(B_i, C_in, h_i, w_i)``, each of its own size.
            pool: as in :meth:`forward_pooled`; None pools nothing.
        """
        return self(list(images), pool=pool)

    def _outputs_of_copies(self, images: Sequence[Tensor], pool: str | None) -> list:
        cls_only = self.out_type == 'cls_token' and pool in (None, 'cls')
        embedded = [self._embed_image(image) for image in images]
        packing = Packing(*zip(*embedded))
        factors = self._draw_factors([image.shape[0] for image in images], embedded[0][0])
        rows = packing.pack([tokens for tokens, _ in embedded])
        outputs: list[list[Tensor]] = [[] for _ in images]  # by batch, then by out index
        for index in range(self.out_indices[-1] + 1):
            block: Any = self.blocks[index]
            is_short = cls_only and index == self.out_indices[-1]
            run_block = block.forward_cls_packed if is_short else block.forward_packed
            rows = self._run(run_block, rows, packing, factors[index])
            if index in self.out_indices:
                norm = self.norm if index == self.num_layers - 1 else None
                found = rows if norm is None else norm(rows)
                parts = packing.unpack_samples(found) if is_short else packing.unpack(found)
                for own, part in zip(outputs, parts):
                    own.append(part)
        return [self._formatted(tokens, grid, pool) for tokens, grid in zip(outputs, packing.grids)]

    def _draw_factors(self, batches: Sequence[int], like: Tensor) -> list[BranchFactors]:
        """Draw stochastic depth for every block, in the order in which batch by batch would draw it."""

        def joined(draws: Sequence[Tensor | None]) -> Tensor | None:
            found = [draw for draw in draws if draw is not None]
            return torch.cat(found) if found else None

        drop_paths: list[Any] = [block.drop_path for block in self.blocks[: self.out_indices[-1] + 1]]
        draws = [
            [(one.factors(like, batch), one.factors(like, batch)) for one in drop_paths] for batch in batches
        ]
        return [
            (joined([attn for attn, _ in of_block]), joined([mlp for _, mlp in of_block]))
            for of_block in zip(*draws)
        ]

    def _formatted(self, outputs: Sequence[Tensor], grid: Grid, pool: str | None) -> tuple:
        """Return the outputs in the form given by ``out_type``, with ``pool`` also the pooled tokens."""
        feats = tuple(self.format_output(tokens, grid) for tokens in outputs)
        if pool is None:
            return feats
        tokens = outputs[-1]
        return feats, tokens[:, 0] if pool == 'cls' else self.patch_tokens(tokens).mean(dim=1)

    def format_output(
        self, tokens: Tensor, grid: TokenGrid, padding: BatchPadding | None = None
    ) -> Tensor | list[Tensor]:
        """Return tokens ``(B, N, C)``, which are zero in the padding, in the form given by ``out_type``.

        With ``output_cls_token``, this is the list of the map and the class token.
        """
        if self.out_type == 'raw':
            return tokens
        if self.out_type == 'cls_token':
            return tokens[:, 0]
        patches = self.patch_tokens(tokens)
        if self.out_type == 'avg_featmap':
            if padding is not None:
                return patches.sum(dim=1) / padding.valid.sum(dim=1, keepdim=True)
            return patches.mean(dim=1)
        # A view of the tokens would be a channels-last map. Convolutions keep this layout, and RoIAlign of
        # mmcv 2 reads it as if it were contiguous, with wrong results and no error.
        # `contiguous` would ask for the layout, which an exported program cannot know.
        featmap = patches.transpose(1, 2).unflatten(2, grid).clone(memory_format=torch.contiguous_format)
        return [featmap, tokens[:, 0]] if self.output_cls_token else featmap

    def patch_tokens(self, tokens: Tensor) -> Tensor:
        """Return the tokens without the class token."""
        return tokens[:, 1:] if self.with_cls_token else tokens

    def get_layer_depth(self, param_name: str, prefix: str = '') -> tuple[int, int]:
        """Return the depth of a parameter and the number of depths, for layer-wise learning-rate decay.

        Modules before the blocks have depth 0, block i has depth i + 1, modules after them the last depth.

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
        return 0, num_depths

    def _load_from_state_dict(self, state_dict: dict, prefix: str, *args, **kwargs) -> None:
        # A lenient loader would only log the different shape, and the weights would stay random.
        key = f'{prefix}patch_embed.proj.weight'
        weight, own = state_dict.get(key), self.patch_embed.proj.weight
        if weight is not None and weight.shape != own.shape:
            raise ValueError(
                f'the checkpoint does not fit this backbone: {key} is {tuple(weight.shape)} there and '
                f'{tuple(own.shape)} here (width, channels, patch, patch). Set backbone.arch, in_channels '
                'and patch_size to those of the checkpoint, or use another checkpoint.'
            )
        super()._load_from_state_dict(state_dict, prefix, *args, **kwargs)


def _has_hooks(module: nn.Module) -> bool:
    return any(
        (
            module._forward_hooks,
            module._forward_pre_hooks,
            module._backward_hooks,
            module._backward_pre_hooks,
        )
    )
