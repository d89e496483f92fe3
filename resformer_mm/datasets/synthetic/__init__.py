"""The embedded data: a synthetic world of textured objects, deterministic from a seed."""

from .image_folder import (
    GENERATOR_VERSION,
    SPLITS,
    FolderConflictError,
    classification_scene,
    write_image_folder,
)
from .render import render_image, render_masks
from .scene import (
    CLASSES,
    CLUTTER,
    SIZE_RANGE,
    Background,
    Instance,
    Lighting,
    Scene,
    Texture,
    sample_clutter,
    sample_object,
    sample_scene,
)

__all__ = [
    'CLASSES',
    'CLUTTER',
    'GENERATOR_VERSION',
    'SIZE_RANGE',
    'SPLITS',
    'Background',
    'FolderConflictError',
    'Instance',
    'Lighting',
    'Scene',
    'Texture',
    'classification_scene',
    'render_image',
    'render_masks',
    'sample_clutter',
    'sample_object',
    'sample_scene',
    'write_image_folder',
]
