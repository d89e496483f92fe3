"""Trainings that are interrupted and continued: exact states, whole checkpoints, preemption, restarts."""

from .checkpoint_hook import ExactCheckpointHook
from .exact_resume import ExactResumeHook, MakeUpValidationHook
from .finding import check_resumable, checkpoint_folder, find_resumable, keep_total_batch, read_whole
from .preemption import EXIT_CODE, PreemptionHook
from .regrouping import RegroupHook
from .restarting import agree_on_start
from .whole_files import save_whole_files

__all__ = [
    'EXIT_CODE',
    'ExactCheckpointHook',
    'ExactResumeHook',
    'MakeUpValidationHook',
    'PreemptionHook',
    'RegroupHook',
    'agree_on_start',
    'check_resumable',
    'checkpoint_folder',
    'find_resumable',
    'keep_total_batch',
    'read_whole',
    'save_whole_files',
]
