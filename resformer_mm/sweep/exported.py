"""Metrics, operations and time of exported files at a resolution."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import torch
from mmengine.device import get_device

from resformer_mm.config.inference_dtype import FIELD
from resformer_mm.deployment.evaluation import ExportedModel
from resformer_mm.deployment.runtimes import load_file
from resformer_mm.deployment.selection import evaluable

from .measure import ModelUnderTest
from .record import SweepError


class ExportedUnderTest(ModelUnderTest):
    """An exported file, with the data loaders and the metrics of the config it was exported from.

    The file runs on the CPU with as many threads as PyTorch uses. Operations are those of the checkpoint. A
    runtime allocates its memory out of sight, so the peak memory is not measured.

    Args:
        config: config file.
        checkpoint: the checkpoint that was exported.
        exported: the exported file.
        *args: see :class:`ModelUnderTest`.
        runtime: name of the runtime, see :func:`~resformer_mm.deployment.runtimes.load_file`.
        **kwargs: see :class:`ModelUnderTest`.

    Raises:
        ExportError: the file cannot be run, or is of another model or checkpoint.
        ImportError: the runtime is missing.
        SweepError: the device is not the CPU, or mixed precision is on.
    """

    measures_memory = False

    def __init__(
        self,
        config: str,
        checkpoint: str,
        exported: str,
        *args: Any,
        runtime: str | None = None,
        **kwargs: Any,
    ) -> None:
        if get_device() != 'cpu':
            raise SweepError(
                f'--exported: files run on the CPU, and cannot be compared with a model on {get_device()!r}: '
                'hide the GPU with the environment variable CUDA_VISIBLE_DEVICES= (empty)'
            )
        super().__init__(config, checkpoint, *args, **kwargs)
        if self.dtype != 'float32':
            raise SweepError(
                f'{FIELD}={self.dtype!r} (--dtype, --amp) does not apply to --exported: a file has the '
                'precision it was written in'
            )
        self.file = load_file(exported, runtime, torch.get_num_threads())
        self.runner.model = self.tested = ExportedModel(evaluable(self.model), self.file)
        content = hashlib.sha256(Path(exported).read_bytes()).hexdigest()
        self.fingerprint = hashlib.sha256(
            f'{self.fingerprint} {content} {self.file.runtime}'.encode()
        ).hexdigest()
