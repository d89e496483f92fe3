"""Patch size of a config's backbone for a test."""

from __future__ import annotations

from mmengine.config import Config
from mmengine.registry import MODELS

from resformer_mm.config_types import find_type, type_field, type_name
from resformer_mm.libraries import TASKS, model_class, scope_of, task_of_class


def set_patches(cfg: Config, patch_size: int | None = None, tokens: int | None = None) -> None:
    """Set the patch size of a config's backbone, or the number of tokens that it follows from.

    The backbone gets a :class:`~resformer_mm.models.layers.FlexiblePatchEmbed` unless it has one: its weights
    are those of the plain patch embedding.

    Args:
        cfg: the config; it is changed.
        patch_size: side of a patch in pixels.
        tokens: number of tokens, in the place of ``patch_size``.

    Raises:
        ValueError: both are given; the backbone is not a ResFormer; or the model is a detector, whose strides
            are those of one patch size.
    """
    sizes = (('patch_size', patch_size), ('tokens', tokens))
    given = {name: value for name, value in sizes if value is not None}
    if not given:
        return
    option = ' and '.join(f'--{name.replace("_", "-")}' for name in given)
    if len(given) > 1:
        raise ValueError(f'{option} both set the size of the patches: give one of them')
    if task_of_class(model_class(cfg)) is TASKS['detection']:
        raise ValueError(
            f'{option} does not apply to detectors: the strides of their necks and heads are those of one '
            'patch size'
        )
    backbone = resformer_settings(cfg, option)
    own = dict(backbone.get('patch_embed') or dict(type='FlexiblePatchEmbed'))
    for name, _ in sizes:
        own.pop(name, None)
    backbone['patch_embed'] = {**own, **given}


def resformer_settings(cfg: Config, needed_by: str) -> dict:
    """Return the settings of the backbone of a config's model, if it is a ResFormer.

    Args:
        cfg: the config.
        needed_by: what needs it, for the message.

    Raises:
        ValueError: it is another one.
    """
    settings = cfg.model
    while 'type' in settings.get('module', {}):  # test-time augmentation
        settings = settings['module']
    backbone = settings.get('backbone') or {}
    kind = find_type(type_field(backbone), MODELS, scope_of(cfg))
    base = find_type('resformer_mm.ResFormer', MODELS)  # the core is built on this package
    if not (isinstance(kind, type) and issubclass(kind, base)):
        name = type_name(type_field(backbone)) if backbone else 'missing'
        raise ValueError(f'{needed_by} needs a ResFormer, but model.backbone is {name}')
    return backbone
