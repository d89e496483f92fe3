"""ResFormer in the registry of timm, which importing this module fills.

::

    import resformer_mm.timm_models
    import timm

    timm.create_model('resformer_small_patch16', features_only=True)
"""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path

from mmengine.logging import print_log
from torch import Tensor, nn

from resformer_mm.checkpoints.loading import starting_weights
from resformer_mm.checkpoints.reading import Weights
from resformer_mm.models import LearnedPositionEmbedding, ResFormer

try:
    from timm.data import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
    from timm.models import build_model_with_cfg, generate_default_cfgs, register_model
    from timm.models._features import feature_take_indices
except ImportError as error:
    raise ImportError('resformer_mm.timm_models needs timm 1.0 or later: pip install timm') from error

__all__ = ['TimmResFormer']
POOLS = ('token', 'avg', '')


class TimmResFormer(nn.Module):
    """A classifier with the interface of timm's vision transformers.

    Images have any height and width of at least one patch. A side of the map is that of the image divided by
    the patch, rounded up.
    Parameters have the names of the project's classifiers, ``backbone.`` and ``head.fc.``, so that
    :func:`~resformer_mm.checkpoints.load_pretrained` takes any supported checkpoint.

    Args:
        arch: see :class:`~resformer_mm.models.ResFormer`, as are ``patch_size`` and the arguments that are
            not listed.
        num_classes: number of classes; 0 for the pooled features.
        in_chans: channels of an image.
        global_pool: 'token', the class token; 'avg', the mean of the patches; '', all tokens.
        drop_rate: dropout before the classifier.
        proj_drop_rate: dropout after the position embedding, attention projections and MLP layers.
        drop_path_rate: stochastic depth of the last block.
        dynamic_img_size: True, as images of any size are taken; so are those of no whole number of patches.
        dynamic_img_pad: as ``dynamic_img_size``.

    Raises:
        ValueError: an argument is out of range; the message names it.
    """

    def __init__(
        self,
        arch: str | Mapping[str, int] = 'small',
        patch_size: int = 16,
        num_classes: int = 1000,
        in_chans: int = 3,
        global_pool: str = 'token',
        drop_rate: float = 0.0,
        proj_drop_rate: float = 0.0,
        drop_path_rate: float = 0.0,
        dynamic_img_size: bool = True,
        dynamic_img_pad: bool = True,
        **kwargs,
    ) -> None:
        super().__init__()
        if not (dynamic_img_size and dynamic_img_pad):
            raise ValueError('ResFormer takes images of any size: leave dynamic_img_size and _pad at True')
        self.backbone = ResFormer(
            arch,
            patch_size,
            in_chans,
            out_type='raw',
            drop_rate=proj_drop_rate,
            drop_path_rate=drop_path_rate,
            **kwargs,
        )
        self.in_chans = in_chans
        self.num_features = self.head_hidden_size = self.embed_dim = self.backbone.embed_dims
        self.num_prefix_tokens = self.backbone.num_prefix_tokens
        # Maps whose stride depends on the image are not features that other models could use.
        self.feature_info = [
            dict(module=f'backbone.blocks.{index}', num_chs=self.embed_dim, reduction=stride)
            for index in range(self.backbone.num_layers)
            if (stride := self.backbone.stride_after(index)) is not None
        ]
        self.global_pool = global_pool
        self.head = nn.Sequential(OrderedDict(drop=nn.Dropout(drop_rate), fc=nn.Identity()))
        self.reset_classifier(num_classes)

    @property
    def grad_checkpointing(self) -> bool:
        """Whether activations are recomputed in the backward pass."""
        return self.backbone.with_cp

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Recompute activations in the backward pass, or do not."""
        self.backbone.with_cp = enable

    def no_weight_decay(self) -> set[str]:
        """Return the names of parameters without weight decay."""
        own = [name for name, _ in self.backbone.named_parameters()]
        names = {
            f'backbone.{name}'
            for name in own
            if name in ('cls_token', 'registers') or '.attention_scale.' in name
        }
        if isinstance(self.backbone.global_position, LearnedPositionEmbedding):
            tables = dict(self.backbone.global_position.named_parameters())
            names |= {f'backbone.global_position.{name}' for name in tables}
        return names

    def group_matcher(self, coarse: bool = False) -> dict:
        """Return the patterns by which timm groups parameters into layers."""
        return dict(
            stem=r'^backbone\.(?:cls_token|registers|patch_embed|global_position|token_merger)',
            blocks=[(r'^backbone\.blocks\.(\d+)', None), (r'^backbone\.norm', (99999,))],
        )

    def get_classifier(self) -> nn.Module:
        """Return the linear classifier; an identity without classes."""
        return self.head.get_submodule('fc')

    def reset_classifier(self, num_classes: int, global_pool: str | None = None) -> None:
        """Replace the classifier, and perhaps the pooling before it.

        Raises:
            ValueError: there is no such pooling, or no class token to pool.
        """
        pool = self.global_pool if global_pool is None else global_pool
        if pool not in POOLS:
            raise ValueError(f'global_pool={pool!r} is unknown: choose from {POOLS}')
        if pool == 'token' and not self.backbone.with_cls_token:
            raise ValueError("global_pool='token' needs with_cls_token=True: choose 'avg'")
        self.num_classes, self.global_pool = num_classes, pool
        classifier: nn.Module = nn.Identity()
        if num_classes:
            weight = self.backbone.patch_embed.proj.weight
            classifier = nn.Linear(self.embed_dim, num_classes, device=weight.device, dtype=weight.dtype)
            nn.init.trunc_normal_(classifier.weight, std=0.02)
            nn.init.zeros_(classifier.bias)
        self.head.fc = classifier

    def forward_features(self, image: Tensor) -> Tensor:
        """Return the normalised tokens ``(B, P + H * W, C)``: class token, registers and patches."""
        (tokens,), _ = self.backbone.forward_tokens(image)
        return tokens

    def forward_head(self, tokens: Tensor, pre_logits: bool = False) -> Tensor:
        """Return the logits ``(B, num_classes)`` of tokens, or with ``pre_logits`` what they are made of."""
        if self.global_pool == 'token':
            tokens = tokens[:, 0]
        elif self.global_pool == 'avg':
            tokens = tokens[:, self.num_prefix_tokens :].mean(dim=1)
        return self.head.get_submodule('drop')(tokens) if pre_logits else self.head(tokens)

    def forward(self, image: Tensor) -> Tensor:
        """Return the logits ``(B, num_classes)`` of images ``(B, C_in, h, w)``."""
        # Only the class token is computed in the last block, if nothing else is pooled.
        (tokens,), _ = self.backbone.forward_tokens(image, cls_only=self.global_pool == 'token')
        return self.forward_head(tokens)

    def forward_intermediates(
        self,
        x: Tensor,
        indices: int | list[int] | None = None,
        return_prefix_tokens: bool = False,
        norm: bool = False,
        stop_early: bool = False,
        output_fmt: str = 'NCHW',
        intermediates_only: bool = False,
    ) -> list | tuple[Tensor, list]:
        """Return the normalised tokens after the last block, and the features of some blocks.

        Args:
            x: images ``(B, C_in, h, w)``.
            indices: blocks, counted from 0, negative ones from the end; the last n if an integer, all if
                None.
            return_prefix_tokens: whether each feature comes with the class token, ``(B, 1, C)``.
            norm: whether the features are normalised by the final norm.
            stop_early: with ``intermediates_only``, whether blocks after the last index are skipped.
            output_fmt: 'NCHW' for maps, 'NLC' for tokens.
            intermediates_only: whether only the features are returned.
        """
        if output_fmt not in ('NCHW', 'NLC'):
            raise ValueError(f'output_fmt={output_fmt!r} is unknown: choose NCHW or NLC')
        backbone = self.backbone
        taken, last = feature_take_indices(backbone.num_layers, indices)
        if not (stop_early and intermediates_only):
            last = backbone.num_layers - 1
        wanted = sorted({*taken, last})
        tokens, grids = backbone.block_tokens(x, wanted)
        normalise = nn.Identity() if backbone.norm is None else backbone.norm
        # In the order of the blocks, as in timm, whatever the order of the indices.
        features = [value for index, value in zip(wanted, tokens) if index in taken]
        features = [normalise(value) if norm else value for value in features]
        prefixes = [value[:, : self.num_prefix_tokens] for value in features]
        patches = [value[:, self.num_prefix_tokens :] for value in features]
        if output_fmt == 'NCHW':
            taken_grids = [grid for index, grid in zip(wanted, grids) if index in taken]
            patches = [
                value.transpose(1, 2).unflatten(2, grid).contiguous()
                for value, grid in zip(patches, taken_grids)
            ]
        pairs = return_prefix_tokens and self.num_prefix_tokens
        result = list(zip(patches, prefixes)) if pairs else patches
        return result if intermediates_only else (normalise(tokens[-1]), result)

    def prune_intermediate_layers(
        self, indices: int | list[int] = 1, prune_norm: bool = False, prune_head: bool = True
    ) -> list[int]:
        """Remove what features of some blocks do not need; return the indices of the blocks from 0."""
        taken, last = feature_take_indices(self.backbone.num_layers, indices)
        self.backbone.blocks = self.backbone.blocks[: last + 1]
        self.backbone.num_layers, self.backbone.out_indices = last + 1, (last,)
        if prune_norm:
            self.backbone.norm = None
        if prune_head:
            self.reset_classifier(0, '')
        return taken


def _default_cfg(**kwargs) -> dict:
    return dict(
        num_classes=1000,
        input_size=(3, 224, 224),
        min_input_size=(3, 16, 16),
        pool_size=None,
        fixed_input_size=False,
        crop_pct=0.875,  # 224 / 256
        interpolation='bicubic',
        mean=IMAGENET_DEFAULT_MEAN,
        std=IMAGENET_DEFAULT_STD,
        classifier='head.fc',
        paper_ids='arXiv:2212.00776',
        **kwargs,
    )


ARCHITECTURES = ('tiny', 'small', 'base')
default_cfgs = generate_default_cfgs({f'resformer_{arch}_patch16': _default_cfg() for arch in ARCHITECTURES})


def _create(arch: str, pretrained: bool, **kwargs) -> nn.Module:
    """Build a model; ``img_size`` is that of its data config, since the model takes any."""
    overlay = dict(kwargs.pop('pretrained_cfg_overlay', None) or {})
    size = kwargs.pop('img_size', None)
    if size is not None:
        height, width = (size, size) if isinstance(size, int) else size
        overlay['input_size'] = (kwargs.get('in_chans', 3), height, width)
    return build_model_with_cfg(
        TimmResFormer,
        f'resformer_{arch}_patch16',
        pretrained,
        arch=arch,
        pretrained_cfg_overlay=overlay,
        pretrained_filter_fn=_convert,
        feature_cfg=dict(out_indices=kwargs.pop('out_indices', 3), feature_cls='getter'),
        **kwargs,
    )


def _convert(state: Mapping[str, Tensor], model: nn.Module) -> dict[str, Tensor]:
    """Return the weights of a model that starts from a checkpoint of any supported kind."""
    weights = Weights(Path('the pretrained weights'), '', dict(state))
    started, report = starting_weights(model, weights)
    is_partial = bool(report.missing or report.unexpected)
    print_log(report.summary(), logger='current', level=logging.WARNING if is_partial else logging.INFO)
    return started


@register_model
def resformer_tiny_patch16(pretrained: bool = False, **kwargs) -> nn.Module:
    """Build a ResFormer-Ti of patch 16."""
    return _create('tiny', pretrained, **kwargs)


@register_model
def resformer_small_patch16(pretrained: bool = False, **kwargs) -> nn.Module:
    """Build a ResFormer-S of patch 16."""
    return _create('small', pretrained, **kwargs)


@register_model
def resformer_base_patch16(pretrained: bool = False, **kwargs) -> nn.Module:
    """Build a ResFormer-B of patch 16."""
    return _create('base', pretrained, **kwargs)
