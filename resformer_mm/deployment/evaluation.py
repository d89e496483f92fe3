"""Evaluation of exported files with the data and the metrics of a config."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from resformer_mm.datasets.batches import stack_equal

from .model import DeployableModel, ExportError
from .runtimes import LoadedFile

# Metadata of files whose outputs differ from those of the checkpoint by intent.
QUANTIZATION = 'quantization'
# Largest difference from the checkpoint on random pixels, relative to the largest output.
TOLERANCE = 0.05


class ExportedModel(nn.Module):
    """An exported file in the place of the model that it was exported from, for MMEngine's test loops.

    Args:
        model: the model with the weights of the checkpoint, from
            :func:`~resformer_mm.deployment.selection.evaluable`.
        file: the file in a runtime.

    Raises:
        ExportError: the file is of another model or checkpoint, or cannot be evaluated.
    """

    def __init__(self, model: DeployableModel, file: LoadedFile) -> None:
        super().__init__()
        self.deployable, self.file = model, file
        self._check()

    @torch.no_grad()
    def test_step(self, data: Mapping[str, Any]) -> list[Any]:
        """Return the data samples of a batch, as the data loader gives it, with predictions."""
        inputs = data['inputs']
        loaded = (
            inputs if isinstance(inputs, Tensor) else stack_equal(inputs, 'resformer_mm.ResizeCenterCrop')
        )
        outputs = self.file.run(self.deployable.to_input(loaded))
        return self.deployable.to_predictions(outputs, data['data_samples'])

    def _check(self) -> None:
        model, path = self.deployable, self.file.path
        size = 4 * model.patch_size
        image = model.random_input(1, size, size, torch.Generator().manual_seed(0))
        try:
            outputs = self.file.run(image.float())
        except Exception as error:  # runtimes raise errors of any type
            raise ExportError(f'{path} does not run on the input of the config: {error}') from error
        try:
            value, magnitude = model.difference(outputs, model.predict_as_trained(image))
        except ExportError as error:
            output = ''.join(f' with --{name} {value}' for name, value in model.evaluation.items())
            raise ExportError(
                f'{path} is of another model than the config, or has another output ({error}): export the '
                f'checkpoint{output}'
            ) from error
        if QUANTIZATION not in self.file.metadata and not value <= TOLERANCE * magnitude:
            raise ExportError(
                f'{path} is of another checkpoint: its outputs differ by up to {value:.2g}, while the '
                f'largest is {magnitude:.2g}. Export the checkpoint again'
            )
