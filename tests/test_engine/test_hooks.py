"""Runs that are broken stop, and sound ones go on, whatever the library."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from mmengine.config import Config
from mmengine.dataset import BaseDataset, ConcatDataset, RepeatDataset
from torch import nn

from resformer_mm.apis import enter_scope, load_model, read_config
from resformer_mm.engine import CheckNumClassesHook

CONFIGS = Path(__file__).parents[2] / 'configs'
# One of each model, with the heads whose number of classes counts.
MODELS = {
    'classification/resformer-small_mr-224-160-128_8xb128-300e_in1k.py': ['head'],
    'classification/resformer-mini_semi-10-labels_mr-64-48-32_1xb64-30e_mini.py': ['head'],
    'segmentation/resformer-mini_upernet_1xb8-900_mini.py': ['decode_head', 'auxiliary_head'],
    'detection/resformer-mini_mr-64-48-32_faster-rcnn_1xb8-12e_bccd.py': ['roi_head.bbox_head'],
    'detection/resformer-mini_64_mask-rcnn_1xb8-8e_mini.py': ['roi_head.bbox_head', 'roi_head.mask_head'],
    'detection/resformer-small_mr-224-160-128_cascade-mask-rcnn_8xb2-36e_coco.py': [
        *(f'roi_head.bbox_head.{stage}' for stage in range(3)),
        'roi_head.mask_head.2',
    ],
    'detection/resformer-small_mr-224-160-128_retinanet_8xb2-36e_coco.py': ['bbox_head'],
    'detection/resformer-small_mr-224-160-128_fcos_8xb2-36e_coco.py': ['bbox_head'],
    'video/resformer-mini_40_divST_1xb16-4x6x1-13e_mini.py': ['cls_head'],
}


class Data(BaseDataset):
    """A data set that knows its classes and nothing else."""

    def __init__(self, number: int) -> None:
        super().__init__(metainfo=dict(classes=[f'class {index}' for index in range(number)]))

    def load_data_list(self) -> list[dict]:
        return [{}, {}]


def runner(model: nn.Module, dataset: object) -> SimpleNamespace:
    loader = SimpleNamespace(dataset=dataset)
    return SimpleNamespace(
        model=model, train_dataloader=loader, val_dataloader=loader, test_dataloader=loader
    )


def head(number: int, **attributes) -> nn.Module:
    module = nn.Module()
    for name, value in dict(num_classes=number, **attributes).items():
        setattr(module, name, value)
    return module


def check(model: nn.Module, dataset: object, **arguments) -> None:
    hook = CheckNumClassesHook(**arguments)
    for moment in (hook.before_train, hook.before_val_epoch, hook.before_test_epoch):
        moment(runner(model, dataset))


@pytest.mark.parametrize(
    'name',
    [
        pytest.param(name, marks=pytest.mark.operators(library) if library else ())
        for name in MODELS
        for library in [{'detection': 'mmdet', 'segmentation': 'mmseg'}.get(name.partition('/')[0])]
    ],
)
def test_every_model_of_the_configs_goes_with_its_classes_and_no_others(name: str) -> None:
    cfg = read_config(CONFIGS / name)
    enter_scope(cfg)
    with torch.device('meta'):
        model = load_model(cfg, device='meta')
    modules = dict(model.named_modules())
    (number,) = {modules[head].num_classes for head in MODELS[name]}
    check(model, Data(number))
    for one in MODELS[name]:
        modules[one].num_classes = number + 1
        with pytest.raises(
            ValueError, match=rf'model\.{one}\.num_classes is {number + 1}, but .* has {number} '
        ):
            check(model, Data(number))
        modules[one].num_classes = number


def test_the_models_are_those_of_all_configs() -> None:
    """Another kind of model wants a row in the table above."""
    kinds = {Config.fromfile(CONFIGS / name).model.type.rpartition('.')[2] for name in MODELS}
    for path in CONFIGS.rglob('*.py'):
        if '_base_' not in path.parts:
            kind = Config.fromfile(path).model.type.rpartition('.')[2]
            others = {'MultiResolutionSegmentor', 'Recognizer3D', 'BYOL', 'MultiResolutionMAE'}
            assert kind in kinds | others, path


def test_heads_that_do_not_predict_the_classes() -> None:
    model = nn.ModuleDict(
        dict(
            rpn_head=head(1),
            roi_head=nn.ModuleDict(dict(mask_head=head(80, class_agnostic=True), semantic_head=head(183))),
            neck=head(7),
        )
    )
    check(model, Data(5))
    with pytest.raises(ValueError, match=r'model\.rpn_head\.num_classes is 1'):
        check(model, Data(5), ignore=['semantic_head'])
    check(nn.ModuleDict(dict(auxiliary_head=nn.ModuleList([head(2)]))), Data(5), ignore=['auxiliary_head'])


def test_a_head_whose_class_fixes_the_number_predicts_something_else() -> None:
    class DepthHead(nn.Module):
        num_classes = 1

    check(nn.ModuleDict({'decode_head': DepthHead()}), Data(27))
    with pytest.raises(ValueError, match='decode_head.num_classes is 1'):
        check(nn.ModuleDict({'decode_head': head(1)}), Data(27))


def test_models_in_wrappers() -> None:
    """As testing with augmentation and several processes have them."""
    wrapped = nn.ModuleDict(dict(module=nn.ModuleDict(dict(head=head(4)))))
    check(wrapped, Data(4))
    with pytest.raises(ValueError, match=r'model\.module\.head\.num_classes is 4, but .* 5 classes'):
        check(wrapped, Data(5))


@pytest.mark.parametrize(
    'wrap',
    [
        lambda data: RepeatDataset(data, 2),
        lambda data: ConcatDataset([data, data]),
        lambda data: torch.utils.data.ConcatDataset([RepeatDataset(data, 2), data]),
    ],
    ids=['repeat', 'concat', 'both'],
)
def test_data_sets_in_wrappers(wrap) -> None:
    model = nn.ModuleDict(dict(decode_head=head(4)))
    check(model, wrap(Data(4)))
    with pytest.raises(ValueError, match='decode_head.num_classes is 4, but the data set of .* has 5'):
        check(model, wrap(Data(5)))


def test_data_sets_that_do_not_know_their_classes() -> None:
    check(nn.ModuleDict(dict(head=head(4))), BaseDataset(lazy_init=True))
    with pytest.raises(ValueError, match='has 3 classes'):
        check(nn.ModuleDict(dict(head=head(4))), SimpleNamespace(num_classes=3))
