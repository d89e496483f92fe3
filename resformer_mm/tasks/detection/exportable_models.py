"""Which models of mmdet the graph of :mod:`.exportable_heads` is the prediction of."""

from __future__ import annotations

from collections.abc import Mapping

from mmcv.ops import RoIAlign
from mmdet.models.dense_heads import RPNHead
from mmdet.models.dense_heads.base_dense_head import BaseDenseHead
from mmdet.models.detectors import BaseDetector, SingleStageDetector, TwoStageDetector
from mmdet.models.roi_heads import BaseRoIHead, CascadeRoIHead, StandardRoIHead
from mmdet.models.roi_heads.bbox_heads import BBoxHead
from mmdet.models.roi_heads.mask_heads import FCNMaskHead
from mmdet.models.roi_heads.roi_extractors import SingleRoIExtractor
from mmengine.model import BaseModule

from .exportable_heads import stages

SUPPORTED = (
    'supported are single-stage detectors with a dense head that predicts as RetinaNet or FCOS do, and '
    'Faster, Mask and Cascade R-CNN'
)
_NMS_SETTINGS = {'type', 'iou_threshold', 'class_agnostic', 'split_thr'}


def problem_of(model: BaseDetector) -> str | None:
    """Return what in a detector predicts otherwise than the exported graph; None if nothing does."""
    if isinstance(model, TwoStageDetector) and hasattr(model, 'rpn_head') and hasattr(model, 'roi_head'):
        return (
            _problem_of_class(model, TwoStageDetector)
            or _problem_of_dense('rpn_head', model.rpn_head, RPNHead)
            or _problem_of_regions(model.roi_head)
        )
    if isinstance(model, SingleStageDetector):
        return _problem_of_class(model, SingleStageDetector) or _problem_of_dense(
            'bbox_head', model.bbox_head, BaseDenseHead
        )
    return f'{type(model).__name__} predicts in its own way: {SUPPORTED}'


def _problem_of_class(model: BaseDetector, base: type) -> str | None:
    for kind in type(model).__mro__[: type(model).__mro__.index(base)]:
        own = {'predict', 'extract_feat'} & vars(kind).keys()
        if own and not kind.__module__.startswith('resformer_mm.'):
            return f'{kind.__name__} has its own {min(own)}: {SUPPORTED}'
    return None


def _problem_of_dense(name: str, head: BaseModule, base: type) -> str | None:
    predicts = ('predict', 'predict_by_feat', '_predict_by_feat_single', '_bbox_post_process')
    if not _inherits(head, base, *predicts) or not hasattr(head, 'prior_generator'):
        return f'{name}={type(head).__name__} predicts in its own way: {SUPPORTED}'
    cfg, field = head.test_cfg, 'test_cfg.rpn' if base is RPNHead else 'test_cfg'
    if not cfg.get('nms_pre', -1) > 0:
        return f'{field}.nms_pre must be the number of boxes per level before NMS, e.g. 1000'
    return _problem_of_scores(name, head) or _problem_of_nms(field, cfg)


def _problem_of_regions(roi_head: BaseRoIHead) -> str | None:
    kind = type(roi_head)
    if kind not in (StandardRoIHead, CascadeRoIHead) or roi_head.with_shared_head:
        return f'roi_head={kind.__name__} predicts in its own way: {SUPPORTED}'
    for head in stages(roi_head.bbox_head):
        if not _inherits(head, BBoxHead, 'predict_by_feat', '_predict_by_feat_single', 'regress_by_class'):
            return f'bbox_head={type(head).__name__} predicts in its own way: {SUPPORTED}'
        if not (head.with_cls and head.with_reg):
            return f'bbox_head={type(head).__name__} must predict classes and boxes: {SUPPORTED}'
        if problem := _problem_of_scores('bbox_head', head):
            return problem
    extractors = [*stages(roi_head.bbox_roi_extractor)]
    if roi_head.with_mask:
        extractors += stages(roi_head.mask_roi_extractor)
        for head in stages(roi_head.mask_head):
            if not _inherits(head, FCNMaskHead, 'predict_by_feat', '_predict_by_feat_single'):
                return f'mask_head={type(head).__name__} predicts in its own way: {SUPPORTED}'
    for extractor in extractors:
        layers = list(getattr(extractor, 'roi_layers', ()))
        pools = all(type(layer) is RoIAlign and layer.pool_mode == 'avg' for layer in layers)
        if type(extractor) is not SingleRoIExtractor or not pools:
            return f'{type(extractor).__name__} must be a SingleRoIExtractor with RoIAlign of averages'
    return _problem_of_nms('test_cfg.rcnn', roi_head.test_cfg)


def _problem_of_scores(name: str, head: BaseModule) -> str | None:
    if getattr(head.loss_cls, 'custom_cls_channels', False):
        return f'{name}.loss_cls={type(head.loss_cls).__name__} has scores of its own: {SUPPORTED}'
    return None


def _problem_of_nms(field: str, cfg: Mapping) -> str | None:
    nms = cfg.get('nms')
    if not isinstance(nms, Mapping) or nms.get('type') != 'nms' or 'iou_threshold' not in nms:
        return f"{field}.nms must be dict(type='nms', iou_threshold=...), not {nms}"
    if unknown := sorted(set(nms) - _NMS_SETTINGS):
        return f'{field}.nms has {", ".join(unknown)}, which is not exported: leave it out'
    if not cfg.get('max_per_img', -1) > 0:
        return f'{field}.max_per_img must be the number of boxes after NMS, e.g. 100'
    return None


def _inherits(module: BaseModule, base: type, *methods: str) -> bool:
    """Return whether a module has these methods of a base class, not others."""
    return all(getattr(type(module), name, None) is getattr(base, name) for name in methods)
