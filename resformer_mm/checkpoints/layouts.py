"""Names of ViTs in other libraries, next to those of timm."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from .reading import CheckpointError

Rules = tuple[tuple[str, str], ...]  # (pattern, replacement), applied in order

_BLOCK = r'blocks.\1.'
_OPENMMLAB = (
    (r'^patch_embed\.projection\.', 'patch_embed.proj.'),
    (r'^(?:ln|norm)1\.', 'norm.'),
    (r'^(?:ln|norm)2\.', 'fc_norm.'),
    (r'^layers\.(\d+)\.(?:ln|norm)([12])\.', _BLOCK + r'norm\2.'),
    (r'^layers\.(\d+)\.attn\.gamma1\.weight$', _BLOCK + 'ls1.gamma'),
    (r'^layers\.(\d+)\.ffn\.gamma2\.weight$', _BLOCK + 'ls2.gamma'),
    (r'^layers\.(\d+)\.attn\.attn\.in_proj_', _BLOCK + 'attn.qkv.'),
    (r'^layers\.(\d+)\.attn\.attn\.out_proj\.', _BLOCK + 'attn.proj.'),
    (r'^layers\.(\d+)\.attn\.(qkv|proj)\.', _BLOCK + r'attn.\2.'),
    (r'^layers\.(\d+)\.ffn\.layers\.0\.0\.', _BLOCK + 'mlp.fc1.'),
    (r'^layers\.(\d+)\.ffn\.layers\.1\.', _BLOCK + 'mlp.fc2.'),
)
_HUGGING_FACE = (
    (r'^embeddings\.cls_token$', 'cls_token'),
    (r'^embeddings\.mask_token$', 'mask_token'),
    (r'^embeddings\.distillation_token$', 'dist_token'),
    (r'^embeddings\.register_tokens$', 'reg_token'),
    (r'^embeddings\.position_embeddings$', 'pos_embed'),
    (r'^embeddings\.patch_embeddings\.(?:projection\.)?', 'patch_embed.proj.'),
    # Up to version 4 of transformers and in its files, and in memory since version 5; then those of DINOv3.
    (r'^(?:encoder\.layer|layers|(?:model\.)?layer)\.(\d+)\.', _BLOCK),
    (r'\.attention\.attention\.(q|k|v)(?:uery|ey|alue)\.', r'.attn.\1.'),
    (r'\.attention\.(q|k|v)_proj\.', r'.attn.\1.'),
    (r'\.attention\.(?:output\.dense|o_proj)\.', '.attn.proj.'),
    (r'\.intermediate\.dense\.', '.mlp.fc1.'),
    (r'^(blocks\.\d+)\.output\.dense\.', r'\1.mlp.fc2.'),
    (r'\.mlp\.up_proj\.', '.mlp.fc1.'),
    (r'\.mlp\.down_proj\.', '.mlp.fc2.'),
    (r'\.layernorm_before\.', '.norm1.'),
    (r'\.layernorm_after\.', '.norm2.'),
    (r'\.layer_scale([12])\.lambda1$', r'.ls\1.gamma'),
    (r'^layernorm\.', 'norm.'),
    (r'^(?:cls_)?classifier\.', 'head.'),
    (r'^distillation_classifier\.', 'head_dist.'),
)
_TORCHVISION = (
    (r'^class_token$', 'cls_token'),
    (r'^encoder\.pos_embedding$', 'pos_embed'),
    (r'^conv_proj\.', 'patch_embed.proj.'),
    (r'^encoder\.layers\.encoder_layer_(\d+)\.ln_([12])\.', _BLOCK + r'norm\2.'),
    (r'^encoder\.layers\.encoder_layer_(\d+)\.self_attention\.in_proj_', _BLOCK + 'attn.qkv.'),
    (r'^encoder\.layers\.encoder_layer_(\d+)\.self_attention\.out_proj\.', _BLOCK + 'attn.proj.'),
    (r'^encoder\.layers\.encoder_layer_(\d+)\.mlp\.(?:0|linear_1)\.', _BLOCK + 'mlp.fc1.'),
    (r'^encoder\.layers\.encoder_layer_(\d+)\.mlp\.(?:3|linear_2)\.', _BLOCK + 'mlp.fc2.'),
    (r'^encoder\.ln\.', 'norm.'),
)
# The code of DeiT III numbers its layer scales; that of DINOv2 and DINOv3 has other names for the registers.
_TIMM = (
    (r'^blocks\.(\d+)\.gamma_([12])$', _BLOCK + r'ls\2.gamma'),
    (r'^(?:register|storage)_tokens$', 'reg_token'),
)
_HEADS = (
    (r'^(?:head\.layers\.head|head\.fc|heads\.head)\.(weight|bias)$', r'head.\1'),
    (r'^head\.layers\.head_dist\.', 'head_dist.'),
)

# Layout -> (a name that only it has, translations).
_LAYOUTS: dict[str, tuple[str, Rules]] = {
    'mmpretrain or mmseg': (r'layers\.0\.ffn\.layers\.0\.0\.weight', _OPENMMLAB),
    'Hugging Face': (
        r'(?:encoder\.layer|layers|model\.layer|(?<!encoder\.)(?<!model\.)layer)'
        r'\.0\.attention\.(?:attention\.query|q_proj)\.weight',
        _HUGGING_FACE,
    ),
    'torchvision': (r'encoder\.layers\.encoder_layer_0\.self_attention\.in_proj_weight', _TORCHVISION),
    'timm': (r'blocks\.0\.attn\.qkv\.weight', _TIMM),
}
# Parts that hold another copy of the ViT, a part of another kind, or the ViT that is meant.
_COPIES = re.compile(r'(^|\.)(momentum_\w+|encoder_k|target_\w+|ema\w*|decode_head|\w*decoder)\.')
_MEANT = ('backbone.', 'base_encoder.', 'encoder_q.', 'teacher.backbone.')


@dataclass(frozen=True)
class Layout:
    """Where a ViT is among the names of a checkpoint, and the library that named its parts.

    Attributes:
        library: the library.
        prefix: what precedes its names, e.g. 'backbone.'.
    """

    library: str
    prefix: str

    def timm_name(self, name: str) -> str:
        """Return timm's name of a parameter; that of another part than the ViT stays as it is."""
        prefix = self.prefix
        # A head is beside the ViT, that is below a part of the prefix.
        while not name.startswith(prefix):
            prefix = prefix[: prefix[:-1].rfind('.') + 1]
        name = name.removeprefix(prefix)
        for pattern, replacement in (*_LAYOUTS[self.library][1], *_HEADS):
            name = re.sub(pattern, replacement, name)
        return name


def find_layout(names: Iterable[str], source: str) -> Layout | None:
    """Return where the ViT of a checkpoint is; None if there is not any that is known.

    Args:
        names: names of the tensors.
        source: the file, for messages.

    Raises:
        CheckpointError: there are several ViTs, and nothing says which of them is meant.
    """
    names = list(names)
    for library, (pattern, _) in _LAYOUTS.items():
        found = [match[1] for match in map(re.compile(rf'((?:.*\.)?){pattern}').fullmatch, names) if match]
        prefixes = [prefix for prefix in found if not _COPIES.search(prefix)]
        if len(prefixes) > 1:
            prefixes = [prefix for prefix in _MEANT if prefix in prefixes] or prefixes
            if prefixes[0] not in _MEANT:
                raise CheckpointError(
                    f'{source} has several ViTs, at {", ".join(map(repr, prefixes[:4]))}: save the state '
                    'dict of one of them'
                )
        if prefixes:
            return Layout(library, prefixes[0])
    return None
