"""What the command-line tools call."""

from .launch import build_runner
from .run_config import make_test_config, make_train_config

__all__ = ['build_runner', 'make_test_config', 'make_train_config']
