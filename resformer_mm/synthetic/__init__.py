"""Generator of synthetic data sets: textured objects, reproducible from a seed."""

from .clips import FRAME_RATE, MOTIONS, clip_scenes, encode_clip, motion_path, write_clips
from .detection import (
    DETECTION_CATEGORIES,
    DETECTION_SPLITS,
    DetectionScene,
    detection_annotations,
    detection_scene,
    write_detection,
)
from .image_folder import SPLITS, classification_scene, write_image_folder
from .render import render_image, render_masks, shares_in_sight
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
from .segmentation import (
    SEGMENTATION_CLASSES,
    SEGMENTATION_SPLITS,
    render_labels,
    segmentation_scene,
    write_segmentation,
)
from .writing import GENERATOR_VERSION, FolderConflictError

__all__ = [
    'CLASSES',
    'CLUTTER',
    'DETECTION_CATEGORIES',
    'DETECTION_SPLITS',
    'FRAME_RATE',
    'GENERATOR_VERSION',
    'MOTIONS',
    'SEGMENTATION_CLASSES',
    'SEGMENTATION_SPLITS',
    'SIZE_RANGE',
    'SPLITS',
    'Background',
    'DetectionScene',
    'FolderConflictError',
    'Instance',
    'Lighting',
    'Scene',
    'Texture',
    'classification_scene',
    'clip_scenes',
    'detection_annotations',
    'detection_scene',
    'encode_clip',
    'motion_path',
    'render_image',
    'render_labels',
    'render_masks',
    'sample_clutter',
    'sample_object',
    'sample_scene',
    'segmentation_scene',
    'shares_in_sight',
    'write_clips',
    'write_detection',
    'write_image_folder',
    'write_segmentation',
]
