"""Segmentors as modules to export."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from mmseg.models import EncoderDecoder
from mmseg.models.segmentors import DepthEstimator
from mmseg.structures import SegDataSample
from torch import Tensor, nn

from resformer_mm.config.resolutions import test_dataset
from resformer_mm.deployment.model import DeployableModel, ExportError, Normalization, check_shapes
from resformer_mm.deployment.pooling import ExportableAdaptivePooling
from resformer_mm.libraries import scope_of

from .mask_values import label_map, mask_values, reduces_zero_label

OUTPUTS = ('labels', 'scores')


class DeployableSegmentor(DeployableModel):
    """An encoder-decoder of mmseg to export, with auxiliary heads left out.

    ``forward`` maps images ``(B, 3, H, W)``, RGB, 0 to 255, to one output of the same height and width.
    Images are padded as the data preprocessor does in evaluation, and the padding is cut off.

    Args:
        model: model from :func:`resformer_mm.apis.load_model`.
        output: 'labels', the class of every pixel ``(B, H, W)``, uint8 for up to 256 classes, else int32; or
            'scores' ``(B, K, H, W)``, the logits, which evaluation resizes to the size of the image before it
            takes the largest, or for a head with one output before the sigmoid and the threshold.

    Raises:
        ExportError: see :class:`DeployableModel`; or the output is unknown, or evaluation predicts depth,
            predicts from windows of the image, or pads to a fixed size.
    """

    task = 'segmentation'
    options = ('output',)
    evaluation: Mapping[str, object] = {'output': 'scores'}

    def __init__(self, model: nn.Module, output: str = 'labels') -> None:
        if output not in OUTPUTS:
            raise ExportError(f'output={output!r} is unknown: choose from {", ".join(OUTPUTS)}')
        super().__init__(model)
        self.output = output

    @classmethod
    def check(cls, model: Any) -> None:
        """Check that this class can export a model."""
        name = type(model).__name__
        if not isinstance(model, EncoderDecoder) or isinstance(model, DepthEstimator):
            raise ExportError(
                f'{name} is not exported: only encoder-decoders of mmseg that predict classes are. Predict '
                'with tools/demo.py or resformer_mm.make_inferencer'
            )
        if (mode := model.test_cfg.get('mode', 'whole')) != 'whole':
            raise ExportError(
                f'model.test_cfg.mode={mode!r} predicts from windows of the image, but an exported file '
                'predicts whole images: add --cfg-options model.test_cfg.mode=whole, and measure with '
                'tools/test.py how the result changes'
            )
        padding = getattr(model.data_preprocessor, 'test_cfg', None) or {}
        if padding.get('size') is not None:
            raise ExportError(
                f'model.data_preprocessor.test_cfg.size={tuple(padding["size"])} pads every image to this '
                'size, which an exported file for all sizes does not do: use size_divisor, or set test_cfg '
                'to None'
            )

    @classmethod
    def make_normalization(cls, model: Any) -> Normalization:
        """Return the normalisation of a model, whose padding is part of ``forward``."""
        return Normalization.of(model, pads=True)

    @property
    def is_binary(self) -> bool:
        """Whether the head has one output, with a threshold."""
        return self.model.out_channels == 1

    def forward(self, image: Tensor) -> Tensor:
        """Return the labels or scores of a batch of images."""
        height, width = image.shape[-2:]
        inputs = self._pad(self.normalization(image))
        size = (inputs.shape[-2], inputs.shape[-1])
        with ExportableAdaptivePooling(), self.precision():
            logits = self.model.encode_decode(inputs, [dict(img_shape=size, pad_shape=size)])
        scores = (logits if self.dtype == 'float32' else logits.float())[..., :height, :width]
        if self.output == 'scores':
            return scores
        if self.is_binary:
            return (scores[:, 0].sigmoid() > self.model.decode_head.threshold).to(torch.uint8)
        return scores.argmax(dim=1).to(torch.uint8 if scores.shape[1] <= 256 else torch.int32)

    def _pad(self, inputs: Tensor) -> Tensor:
        preprocessor = self.model.data_preprocessor
        divisor = (getattr(preprocessor, 'test_cfg', None) or {}).get('size_divisor') or 1
        if divisor == 1:
            return inputs
        height, width = inputs.shape[-2:]
        bottom = (height + divisor - 1) // divisor * divisor - height
        right = (width + divisor - 1) // divisor * divisor - width
        return F.pad(inputs, (0, right, 0, bottom), value=preprocessor.pad_val)

    @torch.no_grad()
    def predict_as_trained(self, image: Tensor) -> tuple[Tensor, ...]:
        """Return the scores ``(B, K, H, W)``, for labels after the labels ``(B, H, W)``.

        Those of a head with one output are its sigmoid.

        Args:
            image: uint8 batch ``(B, C, H, W)``, RGB; a float batch for a model without normalisation.
        """
        size = (image.shape[-2], image.shape[-1])
        samples = [SegDataSample(metainfo=dict(ori_shape=size, img_shape=size)) for _ in image]
        data = {'inputs': list(self.normalization.as_loaded(image)), 'data_samples': samples}
        samples = self.model.test_step(data)
        scores = torch.stack([sample.seg_logits.data for sample in samples])
        if self.output == 'scores':
            return (scores,)
        return torch.stack([sample.pred_sem_seg.data[0] for sample in samples]).long(), scores

    def require_predictions(self) -> None:
        """Check that :meth:`to_predictions` can be called."""
        if self.is_binary:
            raise ExportError(
                f'files exported from {type(self.model).__name__} with one output per pixel can be neither '
                'quantised nor evaluated: their scores are after the sigmoid'
            )

    def to_predictions(self, outputs: Sequence[Tensor], data_samples: Sequence[Any]) -> list[Any]:
        """Return the samples with the label maps of evaluation, at the size of the original images."""
        return self.model.postprocess_result(outputs[0], list(data_samples))

    def difference(
        self, outputs: Sequence[Tensor], expected: Tensor | Sequence[Tensor]
    ) -> tuple[float, float]:
        """Compare the output of a file with that of evaluation.

        A label may differ where the scores of both classes are closer than the tolerance: the difference of
        two label maps is the largest margin, in scores of evaluation, by which evaluation prefers its own
        label to that of the file. With a threshold, it is the distance from the threshold, and scores are
        compared after the sigmoid.
        """
        if self.output == 'scores':
            return super().difference([x.sigmoid() for x in outputs] if self.is_binary else outputs, expected)
        labels, scores = (x.cpu() for x in expected)
        check_shapes(outputs, [labels])
        found = outputs[0].long()
        magnitude = scores.abs().max().item()
        if found.min() < 0 or found.max() >= self.model.num_classes:
            return float('inf'), magnitude
        if self.is_binary:
            distance = (scores[:, 0] - self.model.decode_head.threshold).abs()
            margin = torch.where(found == labels, distance * 0, distance)
        else:
            own, other = (scores.gather(1, index[:, None]) for index in (labels, found))
            margin = own - other
        return margin.max().item(), magnitude

    def output_names(self, number: int) -> list[str]:
        """Return 'labels' or 'scores'."""
        return [self.output]

    def describe_outputs(self) -> list[str]:
        """Return what the output is, for the metadata."""
        if self.output == 'labels':
            return ['integer (batch, height, width), index of the class of every pixel']
        if self.is_binary:
            threshold = self.model.decode_head.threshold
            return [f'float32 (batch, 1, height, width); where the sigmoid exceeds {threshold} is class 1']
        return ['float32 (batch, classes, height, width), before the softmax']

    def metadata(self) -> dict[str, str]:
        """Return the metadata of the file, also ``palette`` and ``mask_values``.

        They are the colour of each class, and its pixel value in the masks of the data set. A head with one
        output also has its ``threshold``.
        """
        entries, meta = super().metadata(), self.class_meta()
        if self.is_binary:
            entries['threshold'] = str(self.model.decode_head.threshold)
        number = self.model.num_classes
        if len(meta.get('classes') or []) != number:
            entries.pop('classes', None)
            return entries
        if len(meta.get('palette') or []) == number:
            entries['palette'] = json.dumps([list(map(int, colour)) for colour in meta['palette']])
        values = self._mask_values(meta)
        entries['mask_values'] = json.dumps(values)
        return entries

    def _mask_values(self, meta: dict) -> list[int]:
        dataset, scope = test_dataset(self.model.cfg), scope_of(self.model.cfg)
        chosen = meta['label_map'] if 'label_map' in meta else label_map(dataset, scope, meta['classes'])
        reduces = meta.get('reduce_zero_label')
        reduces = reduces_zero_label(dataset, scope) if reduces is None else reduces
        return mask_values(len(meta['classes']), chosen, reduces).tolist()
