"""Conversion of published ResFormer, DeiT and ViT checkpoints to this project's names, and back."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from resformer_mm.files import write_atomically
from resformer_mm.version import __version__

from .architecture import Architecture, infer_architecture
from .kinds import check_kind
from .layouts import Layout, find_layout
from .reading import CheckpointError, Weights, read_weights
from .report import Report, compare
from .translation import translate

POSITIONS = ('gpe', 'learned')
TABLE = 'backbone.global_position.table'
CLS_TABLE = 'backbone.global_position.cls_token_table'
GPE_PUBLISHED, GPE = 'pos_embed.embed_layer.', 'backbone.global_position.conv.'
# Parts of ViTs that may have no position table, but rotary positions, and that no ResFormer has.
VIT_PARTS = r'(^|\.)(reg_token|register_tokens|storage_tokens|rope_embed\.periods|gamma_1|ls1\.gamma)$'
LPE_PUBLISHED, LPE = re.compile(r'(blocks\.\d+\.attn)\.get_v\.'), '.attn.local_position.conv.'
# What the published code has a place for, in its names.
PUBLISHED = re.compile(
    r'cls_token|pos_embed(\.embed_layer\.\w+)?|patch_embed\.proj\.\w+|norm\.\w+|head\.\w+|'
    r'blocks\.\d+\.(norm[12]|attn\.(qkv|proj|get_v)|mlp\.fc[12])\.\w+'
)


@dataclass
class Conversion:
    """Converted weights.

    Attributes:
        state: name -> tensor under the new names.
        architecture: the model that the shapes imply.
        report: which tensors were matched, missing or unexpected.
    """

    state: dict[str, Tensor]
    architecture: Architecture
    report: Report


def detect_layout(state: Mapping[str, Tensor], source: str) -> str:
    """Return 'resformer_mm', 'resformer' (published), 'timm' (DeiT, ViT) or another library of ViTs.

    The names alone decide. 'resformer' is also the answer if no ViT is found.

    Raises:
        CheckpointError: there are several ViTs.
    """
    return _detect(state, source)[0]


def _detect(state: Mapping[str, Tensor], source: str) -> tuple[str, Layout | None]:
    """Return the name of the layout, and where the ViT of another library is."""
    has_blocks = any(name.startswith('backbone.blocks.') for name in state)
    is_vit = any(map(re.compile(VIT_PARTS).search, state))
    if _has_own_positions(state) or (has_blocks and 'backbone.pos_embed' not in state and not is_vit):
        return 'resformer_mm', None
    found = find_layout(state, source)
    if found is None or (found.library == 'timm' and f'{found.prefix}pos_embed' not in state and not is_vit):
        return 'resformer', None
    return found.library, found


def _has_own_positions(state: Mapping[str, Tensor]) -> bool:
    return any('.local_position.' in name or 'global_position.' in name for name in state)


def check_other_kind(state: Mapping[str, Tensor], source: str) -> None:
    """Check that a checkpoint can be one of a ResFormer, DeiT or ViT.

    Raises:
        CheckpointError: something shows that it is not.
    """
    if not _has_own_positions(state):  # a position module of somebody may have any names
        check_kind(state, source)


def rename_weights(
    weights: Weights, position: str | None = None, keep_registers: bool = False
) -> tuple[dict[str, tuple[str, Tensor]], Report]:
    """Rename the tensors of a published ResFormer, DeiT or ViT checkpoint to this project's names.

    Returns a dict of name -> (name in the file, tensor), and a report that lists what is dropped.

    Args:
        weights: result of :func:`read_weights`.
        position: 'gpe' or 'learned'; see :func:`convert_weights`.
        keep_registers: whether registers of a ViT are kept, for a model that has some.

    Raises:
        CheckpointError: the checkpoint is of another kind, distilled, or has several ViTs.
    """
    source, state = str(weights.path), weights.state
    check_other_kind(state, source)
    layout, place = _detect(state, source)
    if layout == 'resformer_mm':
        raise CheckpointError(
            f"{source} already has this project's names and needs no conversion; --reverse converts it back"
        )
    if position not in (None, *POSITIONS):
        raise CheckpointError(f'position={position!r} is unknown: choose from {POSITIONS}')
    if position is not None and layout == 'resformer':
        raise CheckpointError(f'{source} has no position table: leave out --position {position}')
    report = Report(source, layout, notes=list(weights.notes))
    origins = {name: name for name in state}
    if place is not None:
        translation = translate(state, place, source, keep_registers)
        state, origins = translation.state, translation.origins
        report.notes += translation.notes
        report.absent = {to_project_name(name): reason for name, reason in translation.absent.items()}
        for name, reason in translation.dropped.items():
            report.unexpected[name], report.reasons[name] = tuple(weights.state[name].shape), reason
    renamed: dict[str, tuple[str, Tensor]] = {}
    for name, value in state.items():
        origin = origins[name]
        if name != 'pos_embed':
            renamed[to_project_name(name)] = (origin, value)
        elif position == 'learned':
            for target, part in _split_table(value, 'cls_token' in state, source).items():
                renamed[target] = (origin, part)
        else:
            report.unexpected[origin] = tuple(value.shape)
            report.reasons[origin] = (
                "dropped, replaced by GPE and LPE (position='learned' of from_pretrained, or --position "
                'learned of the converter, keeps it)'
            )
    return renamed, report


def convert_weights(
    weights: Weights, position: str | None = None, num_heads: int | None = None
) -> Conversion:
    """Convert a published ResFormer, DeiT or ViT checkpoint to this project's classifier.

    DeiT and ViT have a position table. With ``position='gpe'``, the default, they initialise a
    ResFormer: the table is dropped, and GPE and LPE keep their initialisation, as the report states. With
    'learned' the table becomes that of a ``LearnedPositionEmbedding``, without loss.

    Args:
        weights: result of :func:`read_weights`.
        position: 'gpe' or 'learned'; for a source with a position table only.
        num_heads: number of attention heads; needed if the shapes do not imply it and the width is not a
            multiple of 64.

    Raises:
        CheckpointError: the checkpoint is of another kind, distilled, incomplete or inconsistent.
    """
    renamed, report = rename_weights(weights, position)
    return _finish(renamed, report, num_heads)


def architecture_of(weights: Weights) -> Architecture:
    """Return the model that the shapes of a checkpoint imply, whether or not it needs a conversion.

    Raises:
        CheckpointError: the checkpoint is of another kind, incomplete or inconsistent.
    """
    source = str(weights.path)
    if detect_layout(weights.state, source) != 'resformer_mm':
        return convert_weights(weights).architecture
    return infer_architecture({with_backbone(name): value for name, value in weights.state.items()}, source)


def reverse_weights(weights: Weights, num_heads: int | None = None) -> Conversion:
    """Rename this project's classifier to the names of the published checkpoints.

    A learned position table becomes DeiT's ``pos_embed``.

    Raises:
        CheckpointError: the checkpoint is of another kind, incomplete or inconsistent, or has parts that the
            published code does not have, such as registers.
    """
    source = str(weights.path)
    if detect_layout(weights.state, source) != 'resformer_mm':
        raise CheckpointError(f"{source} does not have this project's names: leave out --reverse")
    report = Report(source, 'resformer_mm', notes=list(weights.notes))
    renamed = {with_backbone(name): (name, value) for name, value in weights.state.items()}
    if others := [name for name in renamed if not _has_published_name(name)]:
        raise CheckpointError(
            f'{source} has parts that the published code does not have: {", ".join(others[:4])}'
            f'{" ..." if len(others) > 4 else ""}. Leave out --reverse, or train a model without them'
        )
    conversion = _finish(renamed, report, num_heads)
    state = {}
    for name, value in conversion.state.items():
        if name in (TABLE, CLS_TABLE):
            parts = [conversion.state[key] for key in (CLS_TABLE, TABLE) if key in conversion.state]
            state['pos_embed'] = torch.cat(parts, dim=1)
        else:
            state[to_published_name(name)] = value
    conversion.state = state
    return conversion


def convert_file(
    source: str | Path,
    destination: str | Path,
    reverse: bool = False,
    key: str | None = None,
    position: str | None = None,
    num_heads: int | None = None,
) -> tuple[Conversion, dict]:
    """Convert a file; return the conversion and the content for :func:`write_checkpoint`.

    Raises:
        CheckpointError: see :func:`read_weights`, :func:`convert_weights`, :func:`reverse_weights`; or the
            destination is the source.
    """
    if Path(source).resolve() == Path(destination).resolve():
        raise CheckpointError(f'{destination} would overwrite the source: give another destination')
    weights = read_weights(source, key)
    if reverse:
        if position is not None:
            raise CheckpointError('--position is for DeiT and ViT sources; it does not go with --reverse')
        conversion = reverse_weights(weights, num_heads)
        return conversion, dict(model=conversion.state)
    conversion = convert_weights(weights, position, num_heads)
    meta = dict(
        converted_from=weights.path.name,
        layout=conversion.report.layout,
        backbone=conversion.architecture.backbone_config(),
        num_classes=conversion.architecture.num_classes,
        resformer_mm_version=__version__,
    )
    return conversion, dict(state_dict=conversion.state, meta=meta)


def write_checkpoint(content: dict, destination: str | Path) -> None:
    """Write a checkpoint, creating its folder; an interrupted run leaves no half-written file.

    Raises:
        CheckpointError: the destination cannot be written.
    """
    try:
        with write_atomically(destination) as partial, open(partial, 'wb') as file:
            torch.save(content, file)
    except OSError as error:
        raise CheckpointError(
            f'cannot write {destination}: {error.strerror or "it is a folder"}; choose another path'
        ) from error


def to_project_name(name: str) -> str:
    """Return this project's name of a published one."""
    if name.startswith(GPE_PUBLISHED):
        return GPE + name.removeprefix(GPE_PUBLISHED)
    if name.startswith('head.'):
        return 'head.fc.' + name.removeprefix('head.')
    return 'backbone.' + LPE_PUBLISHED.sub(r'\1.local_position.conv.', name)


def to_published_name(name: str) -> str:
    """Return the published name of one of this project's."""
    if name.startswith(GPE):
        return GPE_PUBLISHED + name.removeprefix(GPE)
    if name.startswith('head.fc.'):
        return 'head.' + name.removeprefix('head.fc.')
    return name.removeprefix('backbone.').replace(LPE, '.attn.get_v.')


def _has_published_name(name: str) -> bool:
    if not name.startswith(('backbone.', 'head.')):  # of another part, which the report names
        return True
    return name in (TABLE, CLS_TABLE) or PUBLISHED.fullmatch(to_published_name(name)) is not None


def with_backbone(name: str) -> str:
    """Return the name in a classifier of a parameter of a classifier or of a backbone alone."""
    tokens = ('cls_token', 'registers', 'patch_embed.', 'global_position.', 'temporal_position.')
    known = (*tokens, 'token_merger.', 'blocks.', 'norm.')
    return f'backbone.{name}' if name.startswith(known) else name


def _split_table(table: Tensor, with_cls_token: bool, source: str) -> dict[str, Tensor]:
    """Split timm's ``pos_embed`` ``(1, [1 +] N, C)`` into our two tables, as copies."""
    rows = table.shape[1] if table.ndim == 3 else 0
    if rows and math.isqrt(rows) ** 2 == rows and not (with_cls_token and rows == 1):
        return {TABLE: table.clone()}
    if with_cls_token and rows > 1 and math.isqrt(rows - 1) ** 2 == rows - 1:
        return {CLS_TABLE: table[:, :1].clone(), TABLE: table[:, 1:].clone()}
    raise CheckpointError(
        f'{source}: pos_embed {tuple(table.shape)} is not of a square grid: use another file'
    )


def _finish(renamed: dict[str, tuple[str, Tensor]], report: Report, num_heads: int | None) -> Conversion:
    """Compare renamed tensors with the model that they imply, and keep those that it has."""
    tensors = {name: value for name, (_, value) in renamed.items()}
    architecture = infer_architecture(tensors, report.source, num_heads, report.layout)
    shapes = {name: (origin, tuple(value.shape)) for name, (origin, value) in renamed.items()}
    compare(report, shapes, architecture.shapes())
    if not architecture.num_classes:
        report.notes.append('no classification head in this file')
    report.explain_missing()
    return Conversion({name: tensors[name] for name in report.matched}, architecture, report)
