"""What a classifier does at several image sizes: causes of losses, calibration, attention and features."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from resformer_mm.checkpoints.models import load_model
from resformer_mm.config.resolutions import check_resolutions, test_dataset, trained_resolutions
from resformer_mm.libraries import TASKS, task_of
from resformer_mm.models import ResFormer, VideoResFormer
from resformer_mm.progress import track

from .attention_entropy import attention_entropies
from .calibration import measure_calibration
from .feature_similarity import FeatureSimilarity, features_of_blocks
from .size_causes import CHAIN, KERNELS, ChainOfInputs, loss_by_cause

PARTS = ('causes', 'calibration', 'attention', 'features')
Row = dict[str, Any]


@dataclass(frozen=True)
class Scope:
    """What is measured, and on how many images.

    Attributes:
        resolutions: test resolutions in pixels.
        reference: resolution to which the others are compared; None for the largest that the model was
            trained on, as the variable ``resolutions`` of its config names it.
        parts: some of :data:`PARTS`.
        max_images: largest number of images, evenly spread over the test set; None for all.
        attention_images: largest number of images of 'attention' and 'features', from those.
        batch_size: images of a forward pass.
        num_workers: processes that read images.
    """

    resolutions: Sequence[int]
    reference: int | None = None
    parts: Collection[str] = PARTS
    max_images: int | None = None
    attention_images: int = 64
    batch_size: int = 64
    num_workers: int = 0


@dataclass
class Diagnosis:
    """Rows of the tables of one model; parts that were not measured have none.

    Attributes:
        name: name of the model.
        reference: resolution to which the others are compared.
        trained_on: resolutions of the training, as far as the config names them.
        rows: part -> rows.
    """

    name: str
    reference: int
    trained_on: Sequence[int]
    rows: dict[str, list[Row]] = field(default_factory=dict)


class Subject:
    """A classifier with the images of its test set.

    Args:
        config: config file.
        checkpoint: checkpoint file.
        cfg_options: overrides of the config.

    Attributes:
        model: the model, in evaluation mode.
        backbone: its backbone.

    Raises:
        FileNotFoundError: the config does not exist.
        CheckpointError: the checkpoint cannot be read, or does not fit.
        ValueError: it is not an image classifier with a ResFormer, or the test set has no image files with
            one class each.
    """

    def __init__(self, config: str | Path, checkpoint: str | Path, cfg_options: dict | None = None) -> None:
        from resformer_mm.datasets.image_labels import image_labels  # needs mmcv

        model: Any = load_model(config, checkpoint, cfg_options=cfg_options)
        backbone: Any = getattr(model, 'backbone', None)
        is_known = isinstance(backbone, ResFormer) and not isinstance(backbone, VideoResFormer)
        if task_of(model.cfg) is not TASKS['classification'] or not is_known:
            raise ValueError(
                f'{config}: a diagnosis needs an image classifier with a ResFormer, but model is '
                f'{type(model).__name__} and model.backbone {type(backbone).__name__}'
            )
        self.model, self.backbone = model, backbone
        data = test_dataset(model.cfg)
        self.transforms = data['pipeline']
        found = image_labels(data, 'test_dataloader', 'diagnoses')
        self.paths, self.labels = np.array(found.paths), torch.tensor(found.labels)
        self.trained_on = trained_resolutions(model.cfg)

    @property
    def device(self) -> torch.device:
        """Device of the weights."""
        return self.backbone.patch_embed.proj.weight.device

    def normalise(self, images: Tensor) -> Tensor:
        """Return the input of the model for images as loaded, ``(B, C, h, w)``."""
        return self.model.data_preprocessor(dict(inputs=images))['inputs']

    def predict(self, inputs: Tensor) -> Tensor:
        """Return the logits ``(B, classes)``, float32, of normalised images."""
        return self.model(inputs, mode='tensor').float().cpu()

    def reference(self, chosen: int | None) -> int:
        """Return the resolution to compare with.

        Raises:
            ValueError: none is chosen, and the config does not name those of the training.
        """
        if chosen is not None:
            return check_resolutions([chosen], '--reference')[0]
        if not self.trained_on:
            raise ValueError(
                'the config has no variable `resolutions` with those of the training: give --reference'
            )
        return max(self.trained_on)

    def select(self, max_images: int | None) -> np.ndarray:
        """Return indices of at most so many images, evenly spread."""
        total = len(self.paths)
        number = total if max_images is None else min(max_images, total)
        return np.linspace(0, total - 1, number).round().astype(int)

    def batches(
        self, indices: np.ndarray, resolutions: Sequence[int], scope: Scope, what: str
    ) -> Iterator[dict[int, Tensor]]:
        """Yield resolution -> images as loaded ``(B, C, h, w)``.

        Raises:
            InputError: an image cannot be read.
            ValueError: the pipeline makes images of different shapes.
        """
        from resformer_mm.inference.views import ImageViews  # needs mmcv

        views = ImageViews(self.paths[indices].tolist(), self.transforms, resolutions)
        loader = DataLoader(views, scope.batch_size, num_workers=scope.num_workers, collate_fn=list)
        for samples in track(loader, what):
            columns = dict(zip(resolutions, zip(*samples)))
            if any(len({image.shape for image in column}) > 1 for column in columns.values()):
                raise ValueError(
                    'the test pipeline makes images of different shapes: let it end with a crop, e.g. '
                    'dict(type="resformer_mm.ResizeCenterCrop", resolution=224)'
                )
            yield {side: torch.stack(column).to(self.device) for side, column in columns.items()}


def diagnose(name: str, subject: Subject, scope: Scope) -> Diagnosis:
    """Return the measurements of a model.

    Args:
        name: name of the model in the tables.
        subject: the model and its images.
        scope: what is measured.

    Raises:
        InputError: an image cannot be read.
        ValueError: a resolution is not a positive integer or below one patch, a part is unknown, or the
            model does not allow one.
    """
    resolutions = check_resolutions(scope.resolutions, '--resolutions', descending=False)
    if unknown := set(scope.parts) - set(PARTS):
        raise ValueError(f'--parts: {", ".join(sorted(unknown))} is not one of {", ".join(PARTS)}')
    found = Diagnosis(name, subject.reference(scope.reference), subject.trained_on)
    both = sorted({*resolutions, found.reference})
    if {'causes', 'calibration'} & set(scope.parts):
        _measure_predictions(found, subject, scope, both)
    if {'attention', 'features'} & set(scope.parts):
        _measure_inside(found, subject, scope, both)
    return found


def _measure_predictions(found: Diagnosis, subject: Subject, scope: Scope, resolutions: list[int]) -> None:
    """Add the rows of causes and calibration."""
    indices = subject.select(scope.max_images)
    labels = subject.labels[torch.from_numpy(indices)]
    chain = None
    if 'causes' in scope.parts:
        chain = ChainOfInputs(subject.backbone, subject.normalise, subject.predict)
    logits: dict[tuple[int, str], list[Tensor]] = {}
    with torch.no_grad():
        for images in subject.batches(indices, resolutions, scope, f'{found.name}: predictions, batches'):
            for side, batch in images.items():
                if chain is None or side == found.reference:
                    parts = {'itself': subject.predict(subject.normalise(batch))}
                else:
                    pair = sorted((side, found.reference))
                    parts = chain.logits(*(images[one] for one in pair))
                    parts['itself'] = parts[CHAIN[0] if side == pair[0] else CHAIN[-1]]
                for state, values in parts.items():
                    logits.setdefault((side, state), []).append(values)
    joined = {key: torch.cat(values) for key, values in logits.items()}
    if 'calibration' in scope.parts:
        found.rows['calibration'] = [
            _calibration_row(found, side, joined[side, 'itself'], labels) for side in resolutions
        ]
    if chain is not None:
        right = {key: values.argmax(1) == labels for key, values in joined.items()}
        found.rows['causes'] = [
            _cause_row(found, side, {state: flags for (one, state), flags in right.items() if one == side})
            for side in resolutions
            if side != found.reference
        ]


def _calibration_row(found: Diagnosis, side: int, logits: Tensor, labels: Tensor) -> Row:
    measured = measure_calibration(logits, labels)
    return dict(
        model=found.name,
        resolution=side,
        images=len(labels),
        accuracy=100 * measured.accuracy,
        confidence=100 * measured.confidence,
        ece=100 * measured.ece,
        nll=measured.nll,
        temperature=measured.temperature,
        scaled_ece=100 * measured.scaled_ece,
    )


def _cause_row(found: Diagnosis, side: int, right: dict[str, Tensor]) -> Row:
    """Return the losses by cause, in points, and the accuracies of the inputs in %."""
    falls_to_small = side < found.reference
    losses = loss_by_cause(right, falls_to_small)
    accuracy = {state: 100 * float(flags.double().mean()) for state, flags in right.items()}
    row: Row = dict(model=found.name, resolution=side, reference=found.reference, images=len(right[CHAIN[0]]))
    ends = (CHAIN[-1], CHAIN[0]) if falls_to_small else (CHAIN[0], CHAIN[-1])
    row['loss'] = accuracy[ends[0]] - accuracy[ends[1]]
    for cause, (points, error) in losses.items():
        name = cause.replace(' ', '_')
        row[name], row[f'{name}_error'] = points, error
    row.update({f'accuracy_{state}': accuracy[state] for state in CHAIN})
    row[f'accuracy_{KERNELS}'] = accuracy.get(KERNELS, '')
    return row


def _measure_inside(found: Diagnosis, subject: Subject, scope: Scope, resolutions: list[int]) -> None:
    """Add the rows of attention and features."""
    chosen = subject.select(scope.max_images)
    chosen = chosen[np.linspace(0, len(chosen) - 1, min(scope.attention_images, len(chosen))).astype(int)]
    entropies: dict[tuple[int, int, int, str], list[Tensor]] = {}
    similarities = {side: FeatureSimilarity(subject.backbone) for side in resolutions}
    for images in subject.batches(chosen, resolutions, scope, f'{found.name}: attention, batches'):
        inputs = {side: subject.normalise(batch) for side, batch in images.items()}
        if 'attention' in scope.parts:
            for side, batch in inputs.items():
                for part in batch.split(8):  # the weights of all tokens take memory
                    for head in attention_entropies(subject.backbone, part):
                        key = (side, head.block, head.head, head.query)
                        entropies.setdefault(key, []).append(head.entropy)
        if 'features' in scope.parts:
            reference = features_of_blocks(subject.backbone, inputs[found.reference])
            for side, batch in inputs.items():
                similarities[side].update(features_of_blocks(subject.backbone, batch), reference)
    if 'attention' in scope.parts:
        found.rows['attention'] = [
            dict(
                model=found.name,
                resolution=side,
                images=len(chosen),
                block=block,
                head=head,
                query=query,
                entropy=float(torch.cat(values).mean()),
            )
            for (side, block, head, query), values in entropies.items()
        ]
    if 'features' in scope.parts:
        found.rows['features'] = [
            dict(
                model=found.name,
                resolution=side,
                reference=found.reference,
                images=len(chosen),
                block=one.block,
                part=one.part,
                cosine=one.cosine,
                other_images=one.other_images,
                cka=one.cka,
            )
            for side, similarity in similarities.items()
            for one in similarity.results()
        ]
