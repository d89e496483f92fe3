"""The processes of a run: how they are launched, whether they are alive, and how they end."""

from .launching import any_restarted, exit_status, is_restarted, launch_name
from .lost import LostProcessError, run_main
from .watch import start_watch, stop_watch

__all__ = [
    'LostProcessError',
    'any_restarted',
    'exit_status',
    'is_restarted',
    'launch_name',
    'run_main',
    'start_watch',
    'stop_watch',
]
