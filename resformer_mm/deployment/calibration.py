"""Images for the calibration of integer files, at several resolutions."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from mmengine.config import Config
from mmengine.runner import Runner
from torch import Tensor
from torch.utils.data import DataLoader

from resformer_mm.config.files import enter_scope
from resformer_mm.config.resolutions import check_resolutions, test_dataset
from resformer_mm.datasets.batches import stack_equal
from resformer_mm.datasets.checks.configured import innermost_configs
from resformer_mm.engine.resolution_loaders import loaders_at_resolutions

from .model import DeployableModel

# Split -> the data loaders of a config that have it, in the order of preference.
SPLITS = {'train': ('train_dataloader',), 'val': ('val_dataloader', 'test_dataloader')}


@dataclass(frozen=True)
class CalibrationImages:
    """Images of a data set at several resolutions, as inputs of an exported file.

    Attributes:
        model: the model, which knows the input of its files.
        loaders: resolution -> data loader, with the evaluation pipeline at that resolution.
        indices: the images that are used, by their index in the data set.
        split: 'train' or 'val'.
    """

    model: DeployableModel
    loaders: dict[int, DataLoader]
    indices: tuple[int, ...]
    split: str

    @classmethod
    def of_config(
        cls,
        cfg: Config,
        model: DeployableModel,
        resolutions: Sequence[int] | None = None,
        number: int = 128,
        split: str = 'train',
    ) -> CalibrationImages:
        """Return images of a config, spread evenly over the data set, in the evaluation pipeline.

        Args:
            cfg: the config.
            model: the model of the config.
            resolutions: in pixels; by default those of the config's ``test_cfg``.
            number: number of images; all if the data set has fewer.
            split: 'train' or 'val'.

        Raises:
            ValueError: the config has no such data, no resolutions, or a pipeline without sizes, or the data
                set is empty.
        """
        name = cfg.filename or 'the config'
        if resolutions is None:
            resolutions = (cfg.get('test_cfg') or {}).get('resolutions')
            if resolutions is None:
                raise ValueError(f'--resolutions is needed: {name} has no `test_cfg.resolutions`')
        resolutions = sorted(check_resolutions(resolutions, '--resolutions', descending=False))
        field = next((loader for loader in SPLITS[split] if cfg.get(loader)), None)
        if field is None:
            other = next(entry for entry in SPLITS if entry != split)
            raise ValueError(
                f'{name} has no {" and no ".join(SPLITS[split])} to calibrate with: set it, or use --split '
                f'{other}'
            )
        enter_scope(cfg)
        settings = [dict(copy.deepcopy(entry)) for entry in innermost_configs(cfg[field]['dataset'])]
        if split == 'train':
            pipeline = test_dataset(cfg)['pipeline']
            settings = [{**entry, 'pipeline': copy.deepcopy(pipeline)} for entry in settings]
        dataset: Any = (
            settings[0] if len(settings) == 1 else dict(type='mmengine.ConcatDataset', datasets=settings)
        )
        loader = dict(
            dataset=dataset,
            batch_size=1,
            num_workers=0,
            sampler=dict(type='mmengine.DefaultSampler', shuffle=False),
            collate_fn=dict(type='pseudo_collate'),
        )
        loaders = loaders_at_resolutions(loader, resolutions, Runner.build_dataloader)
        size = len(loaders[resolutions[0]].dataset)  # type: ignore[arg-type]
        if not size:
            raise ValueError(f'{name}: {field}.dataset is empty, so there is nothing to calibrate with')
        chosen = np.linspace(0, size - 1, min(number, size)).round().astype(int)
        return cls(model, loaders, tuple(chosen.tolist()), split)

    def __len__(self) -> int:
        """Return the number of inputs: images times resolutions."""
        return len(self.indices) * len(self.loaders)

    def at(self, resolution: int) -> Iterator[Tensor]:
        """Yield the images at a resolution, each as a float32 batch of one."""
        loader = self.loaders[resolution]
        for index in self.indices:
            batch = loader.collate_fn([loader.dataset[index]])
            yield self.model.to_input(stack_equal(batch['inputs'], 'resformer_mm.ResizeCenterCrop'))

    def __iter__(self) -> Iterator[Tensor]:
        """Yield all inputs, one resolution after the other."""
        for resolution in self.loaders:
            yield from self.at(resolution)
