"""The depth estimator that is trained on several resolutions of each image at once."""

from __future__ import annotations

import torch.nn.functional as F
from mmengine.registry import MODELS
from mmseg.models import DepthEstimator
from mmseg.structures import SegDataSample
from torch import Tensor

from resformer_mm.engine.objective import MultiResolutionObjective


@MODELS.register_module()
class MultiResolutionDepthEstimator(MultiResolutionObjective, DepthEstimator):
    """:class:`mmseg.models.DepthEstimator` whose resolutions learn to agree on the depth of every pixel."""

    consistency_targets = ('depth',)

    def __init__(self, *args, consistency: dict | None = dict(type='L2Consistency'), **kwargs) -> None:
        super().__init__(*args, **kwargs)
        self.set_consistency(consistency, 'depth')

    def supervise(
        self, inputs: Tensor, data_samples: list[SegDataSample], index: int
    ) -> tuple[dict[str, Tensor], Tensor]:
        """Return the losses of the head, and the predicted depth ``(B, 1, h, w)``."""
        depth = self.decode_head(self.extract_feat(inputs))
        return self.decode_head.loss_by_feat(depth, data_samples), depth

    def comparable(
        self, student: Tensor, teacher: Tensor, data_samples: list[SegDataSample]
    ) -> tuple[Tensor, Tensor]:
        """Return both maps at the size of the teacher's, one row per pixel."""
        student = F.interpolate(student, teacher.shape[-2:], mode='bilinear', align_corners=False)
        return student.reshape(-1, 1), teacher.reshape(-1, 1)
