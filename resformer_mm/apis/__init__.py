"""From configs and checkpoints to runners, models and predictions."""

from .launch import build_runner
from .models import check_whole, enter_scope, load_model, load_whole, read_config
from .run_config import make_test_config, make_train_config

__all__ = [
    'build_runner',
    'check_whole',
    'enter_scope',
    'load_model',
    'load_whole',
    'make_test_config',
    'make_train_config',
    'read_config',
]
