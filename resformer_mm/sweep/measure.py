"""Metrics, operations, memory and time of a model at a resolution."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from mmengine.device import get_device
from mmengine.hooks import Hook

from resformer_mm.analysis.complexity import count_complexity
from resformer_mm.analysis.memory import peak_memory
from resformer_mm.apis import build_test_runner, enter_scope, make_test_config
from resformer_mm.apis.testing import build_test_loop
from resformer_mm.cascade import OutcomeMetric, Outcomes
from resformer_mm.compat.synchronizing import synchronize
from resformer_mm.config.inference_dtype import read_inference_dtype
from resformer_mm.fingerprint import evaluation_settings, fingerprint
from resformer_mm.models.layers import fix_patches
from resformer_mm.tracking import drop_trackers

from .record import SweepError

# A visit times calls for this long, but at least 3 and at most 30 of them, after the warm-up.
VISIT_SECONDS = 0.3
CALLS = (3, 30)
WARM_UP = 2


class _AfterBatch(Hook):
    """Hook that calls a function after every evaluated batch, for the progress bar."""

    def __init__(self, callback: Callable[[], None]) -> None:
        self.callback = callback

    def after_test_iter(self, *args, **kwargs) -> None:
        self.callback()


class Evaluated(NamedTuple):
    """An evaluation at a resolution.

    Attributes:
        resolution: in pixels.
        metrics: name -> value.
        outcomes: confidence and correctness of every prediction, ``(samples,)`` each; None if the predictions
            have no class scores.
    """

    resolution: int
    metrics: dict[str, float]
    outcomes: tuple[np.ndarray, np.ndarray] | None


class ModelUnderTest:
    """A model of any task, with the data loaders of its config at several resolutions.

    Args:
        config: config file.
        checkpoint: checkpoint file.
        resolutions: test resolutions in pixels.
        work_dir: folder of MMEngine's log.
        dtype: type in which the model predicts; None is that of the config.
        batch_size: number of samples of a timed call.
        num_batches: number of batches over which times and operations are averaged, spread evenly over the
            test set.
        cfg_options: overrides of the config.
        resolutions_per_pass: number of resolutions evaluated in one pass over the data; by default all.
        split: 'test' or 'val', whose data loader and evaluator of the config are used.
        confidence: name of the confidence in the outcomes, see :class:`~resformer_mm.cascade.CascadeRule`.
        after_batch: called after every evaluated batch.
        patches: ``patch_size`` or ``tokens`` and its value, see
            :func:`~resformer_mm.config.patches.set_patches`; by default those of the config.

    Attributes:
        dtype: type in which the model predicts.
        measures_memory: whether the peak memory can be measured.

    Raises:
        FileNotFoundError: the config or the checkpoint does not exist.
        CheckpointError: the checkpoint cannot be read, or does not fit the model.
        ValueError: the config has no data to evaluate on, or a pipeline without sizes.
    """

    measures_memory = True

    def __init__(
        self,
        config: str,
        checkpoint: str,
        resolutions: Sequence[int],
        work_dir: Path,
        dtype: str | None = None,
        batch_size: int = 1,
        num_batches: int = 8,
        cfg_options: dict | None = None,
        resolutions_per_pass: int | None = None,
        split: str = 'test',
        confidence: str = 'max_probability',
        after_batch: Callable[[], None] = lambda: None,
        patches: Mapping[str, Any] | None = None,
    ) -> None:
        self.cfg = make_test_config(
            config,
            checkpoint,
            work_dir=work_dir,
            cfg_options=cfg_options,
            dtype=dtype,
            resolutions=resolutions,
            resolutions_per_pass=resolutions_per_pass,
            **(patches or {}),
        )
        if split == 'val':
            if self.cfg.get('val_dataloader') is None or self.cfg.get('val_evaluator') is None:
                raise ValueError(f'{config} has no `val_dataloader` and `val_evaluator`: set both')
            self.cfg.test_dataloader = self.cfg.val_dataloader
            self.cfg.test_evaluator = self.cfg.val_evaluator
        drop_trackers(self.cfg)  # the results of the whole are what is tracked
        settings = evaluation_settings(self.cfg)
        self.cfg.log_level = 'WARNING'
        self.cfg.experiment_name = f'sweep-{work_dir.name}-{fingerprint(settings + str(checkpoint), {})[:8]}'
        self.runner = build_test_runner(self.cfg)
        self.dtype = read_inference_dtype(self.runner.cfg)
        self.loop = build_test_loop(self.runner)
        self.runner.register_hook(_AfterBatch(after_batch), priority='VERY_LOW')
        self.loop.evaluator.metrics.append(OutcomeMetric(confidence))
        self.runner.call_hook('before_run')
        self.runner.load_or_resume()
        self.fingerprint = fingerprint(settings, self.runner.model.state_dict())
        self.model = self.tested = self.runner.model.eval()
        if patches and 'patch_size' in patches:
            fix_patches(self.model)  # as in an exported file
        self.batch_size, self.num_batches = batch_size, num_batches
        self._batches: tuple[int, list] | None = None

    @property
    def num_samples(self) -> int:
        """Number of samples of the test set."""
        return len(next(iter(self.loop.loaders.values())).dataset)

    @property
    def num_parameters(self) -> int:
        """Number of parameters."""
        return sum(parameter.numel() for parameter in self.model.parameters())

    def num_evaluated_batches(self, resolution: int) -> int:
        """Return the number of batches of an evaluation at a resolution."""
        return len(self.loop.loaders[resolution])

    def evaluate(self, resolutions: Sequence[int]) -> Iterator[Evaluated]:
        """Yield the metrics of the config's evaluator at every resolution."""
        enter_scope(self.cfg)
        for event in ('before_test', 'before_test_epoch'):
            self.runner.call_hook(event)
        self.model.eval()
        for resolution, metrics in self.loop.evaluate_at(resolutions):
            self.runner.call_hook('after_test_epoch', metrics=metrics)
            own = [one for one in self.loop.evaluator.metrics if isinstance(one, OutcomeMetric)]
            numbers = {name: float(value) for name, value in metrics.items() if np.ndim(value) == 0}
            yield Evaluated(resolution, numbers, own[-1].outcomes)
        self.runner.call_hook('after_test')

    def count_flops(self, resolution: int) -> float:
        """Return the multiply-adds per sample, averaged over the sampled batches."""
        counts = []
        with torch.no_grad():
            for batch in self._sampled(resolution):
                data = self.model.data_preprocessor(batch, training=False)
                counted = count_complexity(self.model, data['inputs'], data.get('data_samples'))
                counts.append(counted.flops / self.batch_size)
                if _same_size(self._sampled(resolution)):
                    break  # every batch costs the same
        return float(np.mean(counts))

    def count_tokens(self, resolution: int) -> float:
        """Return the patch tokens of an image or frame, the mean over the sampled batches."""
        embedding = self.model.backbone.patch_embed
        counts = []
        for batch in self._sampled(resolution):
            inputs = self.model.data_preprocessor(batch, training=False)['inputs']
            height, width = inputs.shape[-2:]
            size = embedding.size_for(height, width)
            counts.append(-(-height // size) * -(-width // size))
        return float(np.mean(counts))

    def peak_memory(self, resolution: int) -> int:
        """Return the peak memory of a prediction in bytes, the maximum over the sampled batches."""
        batches = self._sampled(resolution)
        return max(
            peak_memory(partial(self._predict, batch), get_device())
            for batch in (batches[:1] if _same_size(batches) else batches)
        )

    def time_calls(self, resolution: int) -> list[float]:
        """Return the seconds per sample of consecutive calls: normalisation, forward pass, post-processing.

        The time for reading and resizing images is not included.
        """
        batches = self._sampled(resolution)
        enter_scope(self.cfg)
        for index in range(WARM_UP):
            self._predict(batches[index % len(batches)])
        calls: list[float] = []
        start = time.perf_counter()
        while len(calls) < CALLS[0] or (
            len(calls) < CALLS[1] and time.perf_counter() - start < VISIT_SECONDS
        ):
            batch = batches[len(calls) % len(batches)]
            synchronize(get_device())
            began = time.perf_counter()
            self._predict(batch)
            synchronize(get_device())
            calls.append((time.perf_counter() - began) / self.batch_size)
        return calls

    def outcomes(self, resolutions: Sequence[int], cost: str) -> Outcomes:
        """Evaluate; return confidence and correctness of every prediction, and the cost of one sample.

        Args:
            resolutions: in pixels, low to high.
            cost: 'gflops', or 'latency_ms', the median of the calls.

        Raises:
            SweepError: the predictions have no class scores or labels.
        """
        found = [evaluated.outcomes for evaluated in self.evaluate(resolutions)]
        if None in found:
            raise SweepError(
                'a cascade cannot be fitted: the predictions have no class scores, or the samples no labels'
            )
        confidence, correct = zip(*found)
        costs = [
            self.count_flops(resolution) / 1e9
            if cost == 'gflops'
            else 1e3 * float(np.median(self.time_calls(resolution)))
            for resolution in resolutions
        ]
        return Outcomes(tuple(resolutions), np.stack(confidence), np.stack(correct), np.array(costs))

    @torch.no_grad()
    def _predict(self, batch: dict) -> None:
        self.tested.test_step(batch)

    def _sampled(self, resolution: int) -> list[dict]:
        """Return batches of the test set at a resolution; the last result is cached."""
        if self._batches is None or self._batches[0] != resolution:
            loader = self.loop.loaders[resolution]
            number = min(self.num_batches * self.batch_size, len(loader.dataset))
            number = max(1, number // self.batch_size) * self.batch_size
            indices = np.linspace(0, len(loader.dataset) - 1, number).round().astype(int).tolist()
            samples = [loader.dataset[index] for index in indices]
            size = self.batch_size
            batches = [loader.collate_fn(samples[i : i + size]) for i in range(0, number, size)]
            self._batches = (resolution, batches)
        return self._batches[1]


def _same_size(batches: list[dict]) -> bool:
    shapes = {
        tuple(tuple(value.shape) for value in (inputs if isinstance(inputs, (list, tuple)) else [inputs]))
        for inputs in (batch['inputs'] for batch in batches)
    }
    return len(shapes) == 1
