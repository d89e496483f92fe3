"""Export of detectors and instance segmentors."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from mmdet.models.data_preprocessors import DetDataPreprocessor
from mmdet.models.dense_heads.base_dense_head import BaseDenseHead
from mmdet.models.detectors import BaseDetector
from mmdet.models.roi_heads.mask_heads import FCNMaskHead
from mmdet.structures import DetDataSample
from scipy.optimize import linear_sum_assignment
from torch import Tensor, nn

from resformer_mm.config.inference_dtype import InferenceDtype
from resformer_mm.deployment.model import DeployableModel, ExportError, Normalization, check_shapes

from .exportable_heads import class_masks, dense_detections, region_detections, region_masks, stages
from .exportable_models import problem_of
from .onnx_operators import onnx_translations
from .padding_aware import PaddingAware


class DeployableDetector(DeployableModel):
    """A detector of mmdet with a ResFormer, with its normalisation and non-maximum suppression.

    ``forward`` maps one image ``(1, 3, H, W)`` of RGB pixels, 0 to 255, to boxes ``(N, 4)``, corners
    (x1, y1, x2, y2) in its pixels, scores ``(N,)`` and labels ``(N,)``, best first, and with a mask head
    probabilities in the cells of each box, ``(N, h, w)``. ``test_cfg`` of the model says how many and which.

    Raises:
        ExportError: a part of the model predicts in another way than the exported graph.
    """

    task = 'detection'
    axes: Mapping[int, str] = {2: 'height', 3: 'width'}
    formats: Sequence[str] = ('.onnx',)
    model: BaseDetector

    def __init__(self, model: BaseDetector) -> None:
        super().__init__(model)
        self.divisor = self._padding()

    @classmethod
    def check(cls, model: BaseDetector) -> None:
        """Check that the exported graph is the prediction of the model.

        Raises:
            ExportError: it is not; the message names the part.
        """
        if problem := problem_of(model):
            raise ExportError(f'{type(model).__name__} cannot be exported: {problem}')
        preprocessor = model.data_preprocessor
        if not isinstance(preprocessor, DetDataPreprocessor):
            raise ExportError(
                f'data_preprocessor={type(preprocessor).__name__} does not prepare images for detectors: use '
                'DetDataPreprocessor'
            )

    @classmethod
    def make_normalization(cls, model: BaseDetector) -> Normalization:
        """Return the normalisation of a model; the padding is part of :meth:`forward`."""
        return Normalization.of(model, pads=True)

    def _padding(self) -> int:
        """Return the number of which the padded sides of an image are multiples."""
        divisor = self.model.data_preprocessor.pad_size_divisor
        if self.patch_size % divisor == 0:
            return 1  # the backbone pads with zeros, too
        if not isinstance(self.model, PaddingAware):
            return divisor
        norms = (nn.GroupNorm, nn.InstanceNorm2d)  # over the whole map
        if self.model.masks_padding and not any(isinstance(x, norms) for x in self._dense_head.modules()):
            return 1  # the result does not depend on the padding
        raise ExportError(
            f'data_preprocessor.pad_size_divisor={divisor} changes the maps or norms of this detector, which '
            f'an exported file does not reproduce: set it to the patch size, {self.patch_size}'
        )

    @property
    def has_masks(self) -> bool:
        """Whether the model predicts masks."""
        return bool(self.model.with_mask)

    @property
    def smallest(self) -> Mapping[int, int]:
        """The least size of each free axis of the input."""
        return {2: self.patch_size, 3: self.patch_size}

    def example(self) -> Tensor:
        """Return an image for tracing that has several positions per side in every level."""
        stride = max(self._dense_head.prior_generator.strides[-1])
        sides = 2 * stride + self.patch_size + 3, 3 * stride + self.patch_size + 1
        return 255 * torch.rand(1, self.in_channels, *sides, device=self.device)

    def random_input(self, batch: int, height: int, width: int, generator: torch.Generator) -> Tensor:
        """Return an image of rectangles in random colours, in which more is found than in random pixels."""
        cells = (self.in_channels, height // 24 + 2, width // 24 + 2)
        colours = self.random_pixels((1, *cells), generator)
        return F.interpolate(colours.float(), (height, width)).to(colours.dtype)

    def translations(self) -> Mapping[Callable, Callable]:
        """Return the operators of this package in the graph, and how they are written in ONNX."""
        return onnx_translations()

    def compute_in(self, dtype: InferenceDtype) -> None:
        """Refuse 16 bits, in which objects with nearly equal scores would not be those of PyTorch.

        Raises:
            ExportError: the type is not 'float32'.
        """
        if dtype != 'float32':
            raise ExportError(
                f'files of detectors compute in float32, not in {dtype}, in which they could not be compared '
                'with PyTorch: boxes with nearly equal scores change places. Give --dtype float32'
            )

    @property
    def _dense_head(self) -> BaseDenseHead:
        return self.model.rpn_head if hasattr(self.model, 'rpn_head') else self.model.bbox_head

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        """Return boxes, scores, labels, and masks if there are any."""
        size = (image.shape[2], image.shape[3])
        inputs = self.normalization(image)
        if self.divisor > 1:
            sides = [(side + self.divisor - 1) // self.divisor * self.divisor for side in size]
            inputs = F.pad(inputs, (0, sides[1] - size[1], 0, sides[0] - size[0]))
        maps = self.model.extract_feat(inputs)
        if not hasattr(self.model, 'roi_head'):
            return tuple(dense_detections(self.model.bbox_head, maps, size))
        regions = dense_detections(self.model.rpn_head, maps, size, by_level=True).boxes
        found = region_detections(self.model.roi_head, maps, regions, size)
        return (*found, region_masks(self.model.roi_head, maps, found)) if self.has_masks else tuple(found)

    @torch.no_grad()
    def predict_as_trained(self, image: Tensor) -> tuple[Tensor, ...]:
        """Return the same outputs as in a test of the model.

        Args:
            image: uint8 ``(1, C, H, W)``, RGB.
        """
        size = tuple(image.shape[2:])
        sample = DetDataSample(metainfo=dict(img_shape=size, ori_shape=size, scale_factor=(1.0, 1.0)))
        data = {'inputs': list(self.normalization.as_loaded(image)), 'data_samples': [sample]}
        if not self.has_masks:
            (sample,) = self.model.test_step(data)
            found = sample.pred_instances
            return found.bboxes, found.scores, found.labels
        with _recorded_masks(stages(self.model.roi_head.mask_head)[-1]) as masks:
            (sample,) = self.model.test_step(data)
        found = sample.pred_instances
        cells = torch.cat(masks) if masks else found.scores.new_zeros(0, 1, 1)
        return found.bboxes, found.scores, found.labels, cells

    def difference(
        self, outputs: Sequence[Tensor], expected: Tensor | Sequence[Tensor]
    ) -> tuple[float, float]:
        """Compare the objects that a file finds with those of evaluation, in any order.

        Args:
            outputs: outputs of the file, on the CPU.
            expected: what :meth:`predict_as_trained` returned for the same image.

        Returns:
            The largest absolute difference of scores, mask probabilities and coordinates of boxes, the latter
            as a fraction of the largest coordinate, and the largest coordinate; 0 and 0 if there are no
            objects.

        Raises:
            ExportError: the objects differ in number or labels.
        """
        wanted = [x.cpu() for x in expected]
        if len(outputs) != len(wanted) or len(wanted[0]) or len(outputs[0]):
            check_shapes(outputs, wanted)
        if not len(wanted[0]):
            return 0.0, 0.0
        if not all(x.isfinite().all() for x in outputs):
            return float('nan'), wanted[0].abs().max().item()
        magnitude = wanted[0].abs().max().clamp(min=1)
        places = _matches(outputs, wanted, magnitude)
        outputs = [x[places] for x in outputs]
        if not torch.equal(outputs[2], wanted[2]):
            raise ExportError('the labels of the objects differ from those of PyTorch')
        parts = [(outputs[0] - wanted[0]) / magnitude, *(a - b for a, b in zip(outputs[1:], wanted[1:]))]
        return max(part.abs().max().item() for part in parts), magnitude.item()

    def output_names(self, number: int) -> list[str]:
        """Return names of the outputs."""
        return ['boxes', 'scores', 'labels', 'masks'][:number]

    def describe_input(self) -> str:
        """Return the type, shape and values of the input, for the metadata."""
        return super().describe_input().replace('(batch, ', '(1, ')

    def describe_outputs(self) -> list[str]:
        """Return what each output is, for the metadata."""
        outputs = [
            'float32 (objects, 4), corners x1, y1, x2, y2 in pixels of the input',
            'float32 (objects), in descending order',
            'int64 (objects), indices of classes',
        ]
        if self.has_masks:
            outputs.append('float32 (objects, rows, columns), probabilities in equal cells of each box')
        return outputs

    def metadata(self) -> dict[str, str]:
        """Return the metadata of the file, also the threshold of the masks."""
        entries = super().metadata()
        if self.has_masks:
            entries['mask_threshold'] = json.dumps(self.model.roi_head.test_cfg.mask_thr_binary)
        return entries


def _matches(outputs: Sequence[Tensor], expected: Sequence[Tensor], magnitude: Tensor) -> Tensor:
    """Return which of the objects of a file is each of the expected ones, such that they differ least."""
    distance = torch.cdist(outputs[0] / magnitude, expected[0] / magnitude, p=torch.inf)
    distance = distance + (outputs[1][:, None] - expected[1]).abs()
    distance[outputs[2][:, None] != expected[2]] = 1e6
    rows, columns = linear_sum_assignment(distance.double().numpy())
    places = torch.empty(len(rows), dtype=torch.long)
    places[torch.from_numpy(columns)] = torch.from_numpy(rows)
    return places


@contextmanager
def _recorded_masks(head: FCNMaskHead) -> Iterator[list[Tensor]]:
    """Record the mask probabilities that mmdet pastes into images of zeros and ones."""
    found: list[Tensor] = []
    predict = head.predict_by_feat

    def record(mask_preds: Sequence[Tensor], results_list: Sequence, **kwargs: object) -> object:
        (masks,), (results,) = mask_preds, results_list
        found.append(class_masks(masks if kwargs.get('activate_map') else masks.sigmoid(), results.labels))
        return predict(mask_preds=mask_preds, results_list=results_list, **kwargs)

    head.predict_by_feat = record
    try:
        yield found
    finally:
        del head.predict_by_feat
