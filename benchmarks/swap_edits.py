"""The lines of a config that change when its backbone becomes a ResFormer.

Rules, in this order. Every other line stays as it is in the zoo.

1. The new backbone returns what the old one did: the same number of outputs, in the same form. It has the
   width of the old one if there is a ResFormer of that width, and is a ResFormer-Ti otherwise.
2. Where strides matter (detectors; heads and necks that fuse maps of different sizes), a
   ``SimpleFeaturePyramid`` makes the maps of the old strides: in the place of an FPN, before any other neck,
   or as the neck.
3. What reads the backbone is told the new width: ``in_channels`` and its like.
4. A head without weights, whose classifier was the end of the old backbone, becomes one with a linear layer.
5. A window that pools a whole map grows with it.
6. A head with a second, distilled classifier, for which the library has no loss, gets ``distillation=False``.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import torch
from mmengine.config import Config, ConfigDict
from mmengine.registry import MODELS
from swap_data import clip_length, image_channels, image_size
from swap_zoo import detector, type_name
from torch import Tensor, nn

from resformer_mm.models import ResFormer

PROBE_SIZE = 224  # most backbones of a fixed size were made for it; the others name theirs as img_size
PATCH = 16

# Necks that a SimpleFeaturePyramid replaces. RFP runs a second backbone, a DetectoRS_ResNet.
REPLACED_NECKS = ('FPN', 'RFP')
# Necks and fields of heads that need maps of several strides, outside detection.
STRIDED_NECKS = ('FPN', 'HRFuseScales')
STRIDED_FIELDS = ('strides', 'feature_strides')
# Necks that return maps as wide as those that they take: neck -> heads that read them.
SAME_WIDTH_NECKS = {
    'GlobalAveragePooling': ('head', 'cls_head'),
    'ClsBatchNormNeck': ('head',),
    'JPU': ('auxiliary_head',),
}
WIDTH_FIELDS = ('in_channels', 'c1_in_channels', 'input_features', 'embed_dim', 'embed_dims')
UNTRAINABLE_HEADS = ('LeViTClsHead', 'EfficientFormerClsHead')  # with distillation, their default
LINEAR_HEADS = {'ClsHead': 'LinearClsHead', 'MultiLabelClsHead': 'MultiLabelLinearClsHead'}


@dataclass
class Output:
    """One output of a backbone.

    Attributes:
        form: the ``out_type`` of a ResFormer with such an output.
        channels: width; 0 for a list of several tensors.
        stride: pixels of the image per position; 0 if it is not a map.
        with_token: whether a map comes with the class token.
    """

    form: str
    channels: int
    stride: int
    with_token: bool = False


def backbone_place(model: ConfigDict) -> tuple[Any, Any]:
    """Return the part of a model's config that has the backbone, and its key."""
    if 'image_encoder' in model:
        encoder = model.image_encoder
        return (encoder, 0) if isinstance(encoder, list) else (model, 'image_encoder')
    return model, 'backbone'


def probe(cfg: Config, library: str) -> list[Output]:
    """Return the outputs of the backbone of a config, which is built without its weights and run once."""
    holder, key = backbone_place(detector(cfg.model))
    settings = deepcopy(holder[key])
    for field in ('init_cfg', 'pretrained'):
        settings.pop(field, None)
    backbone: nn.Module = MODELS.build(settings)
    backbone.train()
    side = PROBE_SIZE
    try:
        outputs = _run(backbone, cfg, library, side)
    except (AssertionError, RuntimeError, ValueError):
        side = settings.get('img_size') or image_size(cfg)[0]
        side = side if isinstance(side, int) else side[0]
        outputs = _run(backbone, cfg, library, side)
    outputs = [outputs] if isinstance(outputs, Tensor) else list(outputs)
    described = [_describe(output, settings, side) for output in outputs]
    neck = detector(cfg.model).get('neck')
    if isinstance(neck, dict) and neck.get('dim') == 1:  # tokens (B, C, N), of which the neck takes the mean
        return [Output('featmap', output.shape[1], 0) for output in outputs]
    return described


def _run(backbone: nn.Module, cfg: Config, library: str, side: int) -> Any:
    image = torch.randn(2, image_channels(cfg), side, side)
    if takes_clips(cfg, library):
        image = image.unsqueeze(2).repeat(1, 1, clip_length(cfg)[1], 1, 1)
    elif library == 'mmaction':  # all frames of a video, which the backbone may shift
        image = image[:1].repeat(math.prod(clip_length(cfg)), 1, 1, 1)
    with torch.no_grad():
        return backbone(image)


def _describe(output: Any, settings: ConfigDict, side: int) -> Output:
    if not isinstance(output, Tensor):
        first, *rest = output
        if len(rest) == 1 and first.ndim >= 4 and rest[0].ndim == 2:
            return Output('featmap', first.shape[1], side // first.shape[-1], with_token=True)
        return Output('cls_token', 0, 0)
    if output.ndim >= 4:
        stride = 2 ** round(math.log2(side / output.shape[-1]))
        return Output('featmap', output.shape[1], stride)
    if output.ndim == 3:
        return Output('raw', output.shape[-1], 0)
    averaged = settings.get('out_type') == 'avg_featmap'
    return Output('avg_featmap' if averaged else 'cls_token', output.shape[-1], 0)


def takes_clips(cfg: Config, library: str) -> bool:
    """Return whether the backbone of a config takes clips rather than images."""
    return library == 'mmaction' and type_name(cfg.model) != 'Recognizer2D'


def swap(cfg: Config, library: str, outputs: Sequence[Output]) -> tuple[str, list[str]]:
    """Put a ResFormer in the place of the backbone of a config.

    Args:
        cfg: config, changed in place.
        library: name of the package.
        outputs: those of the old backbone.

    Returns:
        The line of the new backbone, and the other lines that changed.
    """
    model = detector(cfg.model)
    prefix = 'model.detector.' if model is not cfg.model else 'model.'
    widths = {output.channels for output in outputs}
    arch = next((name for name, dims in ResFormer.arch_zoo.items() if widths == {dims['embed_dims']}), 'tiny')
    width = ResFormer.arch_zoo[arch]['embed_dims']
    lines: list[str] = []

    pyramid = _pyramid(model, library, outputs, width)
    backbone = _backbone(cfg, library, outputs, arch, pyramid is not None)
    holder, key = backbone_place(model)
    holder[key] = ConfigDict(backbone)
    if pyramid is not None:
        width = pyramid['out_channels']
        _insert(model, pyramid, prefix, lines)
    for path, reader in _readers(model, pyramid is not None):
        _set_width(reader, f'{prefix}{path}', outputs, width, lines)
    _pass_on_widths(model, prefix, lines)
    _change_window(model, prefix, outputs, lines)
    _change_head(model, prefix, outputs, width, lines)
    return _line('backbone', backbone), lines


def _backbone(
    cfg: Config, library: str, outputs: Sequence[Output], arch: str, has_pyramid: bool
) -> dict[str, Any]:
    kind = 'ResFormer'
    if library == 'mmaction':
        kind = 'VideoResFormer' if takes_clips(cfg, library) else 'FrameResFormer'
    settings: dict[str, Any] = dict(type=f'resformer_mm.{kind}', arch=arch)
    if (channels := image_channels(cfg)) != 3:
        settings['in_channels'] = channels
    if kind == 'VideoResFormer':
        settings['num_frames'] = clip_length(cfg)[1]
    if kind == 'FrameResFormer' and (cfg.model.get('test_cfg') or {}).get('fcn_test'):
        settings['num_segments'] = math.prod(clip_length(cfg))
    last = outputs[-1]
    if last.form != 'cls_token':
        settings['out_type'] = last.form
    if last.with_token:
        settings['output_cls_token'] = True
    if len(outputs) > 1 and not has_pyramid:
        blocks = ResFormer.arch_zoo[arch]['num_layers']
        settings['out_indices'] = tuple(
            round(blocks * (index + 1) / len(outputs)) - 1 for index in range(len(outputs))
        )
    return settings


def _neck_types(model: ConfigDict) -> list[str]:
    neck = model.get('neck')
    return [type_name(item) for item in (neck if isinstance(neck, (list, tuple)) else [neck]) if item]


def _pyramid(model: ConfigDict, library: str, outputs: Sequence[Output], width: int) -> dict[str, Any] | None:
    """Return the pyramid that makes the maps of the old strides, None if strides do not matter."""
    if any(not output.stride or output.with_token for output in outputs):
        return None
    necks = _neck_types(model)
    if necks[:1] == ['RFP']:  # it reads the image beside the maps, for its second backbone
        outputs = [output for output in outputs if output.stride > 1]
    if library == 'mmdet':
        # Pooling, and encoders of one map, work at any stride.
        if necks[:1] == ['GlobalAveragePooling'] or (necks[:1] == ['ChannelMapper'] and len(outputs) == 1):
            return None
    else:
        head = model.get('decode_head') or {}
        strided = necks[:1] and necks[0] in STRIDED_NECKS
        if not strided and not any(field in str(head) for field in STRIDED_FIELDS):
            return None
    if necks[:1] and necks[0] in REPLACED_NECKS:
        neck = model.neck[0] if isinstance(model.neck, list) else model.neck
        end = neck.get('end_level', -1)
        used = outputs[neck.get('start_level', 0) : end + 1 if end >= 0 else None]
        channels, levels = neck.out_channels, neck.num_outs
    else:
        used, levels = outputs, len(outputs)
        shared = {output.channels for output in outputs}
        channels = shared.pop() if len(shared) == 1 else 256
    scales = [PATCH / output.stride for output in used]
    return dict(
        type='resformer_mm.SimpleFeaturePyramid',
        in_channels=width,
        out_channels=channels,
        scale_factors=[int(scale) if scale >= 1 else scale for scale in scales],
        num_outs=levels,
    )


def _insert(model: ConfigDict, pyramid: dict[str, Any], prefix: str, lines: list[str]) -> None:
    """Put a pyramid in the place of the first neck if that is an FPN, and before the necks otherwise."""
    neck = model.get('neck')
    necks = list(neck) if isinstance(neck, (list, tuple)) else [neck] if neck else []
    replaced = bool(necks) and type_name(necks[0]) in REPLACED_NECKS
    rest = necks[1:] if replaced else necks
    line = _line(f'{prefix}neck', pyramid)
    if rest:
        line = line.replace('neck=', 'neck[0]=' if replaced else 'neck=[', 1) + ('' if replaced else ', ...]')
        model.neck = [ConfigDict(pyramid), *rest]
    else:
        model.neck = ConfigDict(pyramid)
    lines.append(line)


def _readers(model: ConfigDict, has_pyramid: bool) -> Iterator[tuple[str, ConfigDict]]:
    """Yield path and config of every module that reads the backbone, or the pyramid behind it."""
    neck = model.get('neck')
    necks = list(neck) if isinstance(neck, (list, tuple)) else [neck] if neck else []
    if has_pyramid:
        behind, start = necks[1:], 1
    else:
        behind, start = necks, 0
    encoder = model.get('image_encoder')
    if isinstance(encoder, list):
        behind = encoder[1:]
    if behind and 'image_encoder' not in model:
        index = f'[{start}]' if isinstance(neck, (list, tuple)) else ''
        yield f'neck{index}', behind[0]
    heads = [key for key in model if key.endswith('head')]
    if behind:
        heads = [key for key in heads if key in SAME_WIDTH_NECKS.get(type_name(behind[0]), ())]
    elif has_pyramid and 'in_channels' not in str({key: model[key] for key in heads}):
        return
    for key in heads:
        head = model[key]
        for index, item in enumerate(head if isinstance(head, (list, tuple)) else [head]):
            if isinstance(item, dict):
                yield key + (f'[{index}]' if isinstance(head, (list, tuple)) else ''), item


def _set_width(
    reader: ConfigDict, path: str, outputs: Sequence[Output], width: int, lines: list[str]
) -> None:
    """Change the fields of a module that name the width of the old outputs."""
    old = {output.channels for output in outputs}
    total = sum(output.channels for output in outputs)
    for field, value in reader.items():
        if field in ('kernel_generate_head', 'bbox_head', 'shared_head', 'spatial_modulation_cfg'):
            if isinstance(value, dict) and not (field == 'bbox_head' and 'shared_head' in reader):
                _set_width(value, f'{path}.{field}', outputs, width, lines)
            continue
        new = value
        if field in WIDTH_FIELDS:
            if isinstance(value, int):
                # Heads may concatenate all outputs, ACRN beside their context.
                scales = [(channels, 1) for channels in old] + [
                    (total, len(outputs)),
                    (2 * total, 2 * len(outputs)),
                ]
                new = next((scale * width for channels, scale in scales if channels == value), value)
            elif isinstance(value, (list, tuple)) and set(value) <= old:
                new = type(value)(width for _ in value)
        elif field == 'out_channels' and path.endswith('spatial_modulation_cfg'):
            new = width  # the maps of a plain backbone have one width and one size: nothing to modulate
        if new != value:
            reader[field] = new
            lines.append(f'{path}.{field}={new!r}')


def _pass_on_widths(model: ConfigDict, prefix: str, lines: list[str]) -> None:
    """Tell what an ``SSDNeck`` passes on unchanged to its own output and to the head."""
    necks = model.get('neck')
    for index, neck in enumerate(necks if isinstance(necks, list) else []):
        if type_name(neck) != 'SSDNeck':
            continue
        widths = (*neck.in_channels, *neck.out_channels[len(neck.in_channels) :])
        neck.out_channels = model.bbox_head.in_channels = widths
        lines.append(f'{prefix}neck[{index}].out_channels={widths}')
        lines.append(f'{prefix}bbox_head.in_channels={widths}')


def _change_window(model: ConfigDict, prefix: str, outputs: Sequence[Output], lines: list[str]) -> None:
    """Change the window of a neck that pools the whole map of one image size."""
    neck = model.get('neck')
    if _neck_types(model) == ['GlobalAveragePooling'] and 'kernel_size' in neck:
        factor = outputs[-1].stride // PATCH
        neck.kernel_size = tuple(side * factor for side in neck.kernel_size)
        lines.append(f'{prefix}neck.kernel_size={neck.kernel_size}')


def _change_head(
    model: ConfigDict, prefix: str, outputs: Sequence[Output], width: int, lines: list[str]
) -> None:
    """Change what a classification head and its pooling assume about the old backbone."""
    head, neck = model.get('head'), model.get('neck')
    if isinstance(neck, dict) and neck.get('dim') == 1:
        neck.dim = 2
        lines.append(f'{prefix}neck.dim=2')
    if not isinstance(head, dict):
        return
    if type_name(head) in UNTRAINABLE_HEADS and head.get('distillation', True):
        head.distillation = False
        lines.append(f'{prefix}head.distillation=False')
    if linear := LINEAR_HEADS.get(type_name(head)):
        classes = outputs[-1].channels
        head.update(type=linear, num_classes=classes, in_channels=width)
        lines.append(f'{prefix}head.type={linear!r}')
        lines.append(f'{prefix}head.num_classes={classes}')
        lines.append(f'{prefix}head.in_channels={width}')


def _line(name: str, settings: dict[str, Any]) -> str:
    return f'{name}=dict({", ".join(f"{key}={value!r}" for key, value in settings.items())})'
