"""Whether the weights that a training starts from can be read, and fit the model."""

from __future__ import annotations

from collections.abc import Iterator

from mmengine.registry import WEIGHT_INITIALIZERS

from resformer_mm.checkpoints import CheckpointError, read_weights
from resformer_mm.checkpoints.initialisation import PretrainedResFormer, is_of_whole_file
from resformer_mm.checkpoints.loading import starting_weights
from resformer_mm.config_types import find_type, type_field
from resformer_mm.datasets.checks.report import Finding
from resformer_mm.models import ResFormer

from .subject import Subject

NO_START = 'weights to start from'


def check_start(subject: Subject) -> Iterator[Finding]:
    """Read `load_from` and the checkpoint of the backbone, and compare them with the model.

    URLs are left to the run, which downloads them.
    """
    field, path = 'load_from', None if subject.cfg.get('resume') else subject.cfg.get('load_from')
    model_settings = getattr(subject.model, 'init_cfg', None)
    if not path and isinstance(model_settings, dict) and is_of_whole_file(model_settings):
        field, path = 'model.init_cfg.checkpoint', model_settings['checkpoint']
    if path and '://' not in str(path):
        try:
            starting_weights(subject.model, read_weights(path))
        except CheckpointError as error:
            yield Finding(field, NO_START, str(error))
    backbone = getattr(subject.model, 'backbone', None)
    settings = getattr(backbone, 'init_cfg', None)
    if not isinstance(backbone, ResFormer) or not isinstance(settings, dict):
        return
    is_own = find_type(type_field(settings), WEIGHT_INITIALIZERS) is PretrainedResFormer
    if is_own and '://' not in str(settings.get('checkpoint')):
        try:
            WEIGHT_INITIALIZERS.build(settings).load_into(backbone)
        except CheckpointError as error:
            yield Finding('model.backbone.init_cfg.checkpoint', NO_START, str(error))
