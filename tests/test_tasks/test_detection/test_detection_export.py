"""Exported detectors: the objects of mmdet at sizes of all kinds; what is refused; the client."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from detection_models import MASK_RCNN, read, shrink
from exported_files import run_client
from mmdet.models import BaseDetector
from mmdet.models.roi_heads.mask_heads.fcn_mask_head import _do_paste_mask
from mmdet.structures import DetDataSample
from pictures import picture
from PIL import Image
from pycocotools import mask as coco_mask
from runs import run_tool, succeed
from small_models import detector, save_checkpoint
from torch import Tensor, nn

from resformer_mm.apis import load_model, make_inferencer
from resformer_mm.deployment import ExportError, OnnxFormat, deployable, export, formats

exports = pytest.mark.skipif(
    torch.__version__ < formats.ONNX_VERSION, reason=f'ONNX files need PyTorch {formats.ONNX_VERSION}'
)
pytestmark = exports
CLASSES = ('cat', 'dog', 'owl')
STEM = 'resformer-small_mr-224-160-128'
SIZES = [
    (83, 113),
    (16, 16),
    (16, 112),
    (96, 16),
    (64, 64),
    (200, 100),
    (75, 171),
    (33, 47),
    (128, 96),
    (17, 130),
    (141, 35),
]


def distinct(model: nn.Module) -> nn.Module:
    """Set weights with which objects have different scores, in all classes."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if 'head' in name and parameter.ndim > 1:
                # Small changes of boxes: large ones enlarge the rounding errors of proposals a million times.
                factor = 0.4 if 'reg.' in name else 1.4
                parameter.normal_(std=factor * parameter[0].numel() ** -0.5, generator=generator)
    return model.eval()


def make(name: str, change=lambda cfg: None) -> nn.Module:
    """Return a tiny detector of a config with distinct objects."""
    cfg = shrink(read(name))
    if 'rcnn' in cfg.model.test_cfg:
        cfg.model.test_cfg.rpn.update(nms_pre=60, max_per_img=40)
        cfg.model.test_cfg.rcnn.update(max_per_img=15)
    else:
        cfg.model.test_cfg.update(nms_pre=80, max_per_img=30)
    change(cfg)
    torch.manual_seed(0)
    return distinct(load_model(cfg, device='cpu'))


def with_fpn(cfg) -> None:
    """A Faster R-CNN of mmdet, which pads images to multiples of 32."""
    cfg.model.type = 'mmdet.FasterRCNN'
    cfg.model.neck = dict(type='mmdet.FPN', in_channels=[24, 24], out_channels=16, num_outs=5)
    cfg.model.backbone.out_indices = (0, 1)
    strides = [16, 16, 32, 64, 128]
    cfg.model.rpn_head.anchor_generator.strides = strides
    cfg.model.roi_head.bbox_roi_extractor.featmap_strides = strides[:4]
    cfg.model.data_preprocessor.pad_size_divisor = 32
    for part in ('mask_roi_extractor', 'mask_head'):
        cfg.model.roi_head[part] = None


def agnostic(cfg) -> None:
    """Boxes and masks for all classes alike, suppression across classes, a background of regions."""
    cfg.model.rpn_head.loss_cls.use_sigmoid = False
    cfg.model.roi_head.bbox_head.reg_class_agnostic = True
    cfg.model.roi_head.mask_head.class_agnostic = True
    cfg.model.test_cfg.rcnn.nms.class_agnostic = True


def with_two_levels(cfg) -> None:
    """Fewer levels and layers, which are all alike to the exporter."""
    strides, model = [16, 32], cfg.model
    model.neck.update(scale_factors=[1, 0.5], num_outs=2)
    if 'rpn_head' in model:
        model.rpn_head.anchor_generator.strides = strides
        model.rpn_head.num_convs = 1
        for part in ('bbox', 'mask'):
            model.roi_head[f'{part}_roi_extractor'].featmap_strides = strides
        model.roi_head.mask_head.num_convs = 1
    else:
        model.bbox_head.stacked_convs = 1
        if 'anchor_generator' in model.bbox_head:
            model.bbox_head.anchor_generator.strides = strides
        else:
            model.bbox_head.update(strides=strides, regress_ranges=[(-1, 64), (64, 1e8)])


def atss(cfg) -> None:
    one_anchor(cfg, 'ATSSHead')
    cfg.model.bbox_head.loss_centerness = dict(type='CrossEntropyLoss', use_sigmoid=True)
    cfg.model.data_preprocessor.pad_size_divisor = 16


def one_anchor(cfg, head: str) -> None:
    """Set a head with an anchor per position, and group norms."""
    cfg.model.bbox_head.update(type=head, norm_cfg=dict(type='GN', num_groups=4))
    cfg.model.bbox_head.anchor_generator.update(octave_base_scale=8, scales_per_octave=1, ratios=[1.0])


RETINANET = f'{STEM}_retinanet_8xb2-36e_coco.py'
FCOS = f'{STEM}_fcos_8xb2-36e_coco.py'
CASCADE = f'{STEM}_cascade-mask-rcnn_8xb2-36e_coco.py'
KINDS = {
    'RetinaNet': lambda: make(RETINANET),
    'FCOS': lambda: make(FCOS),
    'ATSS': lambda: make(RETINANET, atss),
    'Faster R-CNN with FPN': lambda: make(MASK_RCNN, with_fpn),
    'Mask R-CNN': lambda: make(MASK_RCNN),
    'Mask R-CNN, class-agnostic': lambda: make(MASK_RCNN, agnostic),
    'Cascade Mask R-CNN': lambda: make(CASCADE),
}


def random_image(height: int, width: int) -> Tensor:
    generator = torch.Generator().manual_seed(height * 1000 + width)
    return torch.randint(256, (1, 3, height, width), generator=generator, dtype=torch.uint8)


def objects_of_mmdet(model: nn.Module, image: Tensor):
    """What mmdet finds in an RGB image."""
    size = tuple(image.shape[2:])
    sample = DetDataSample(metainfo=dict(img_shape=size, ori_shape=size, scale_factor=(1.0, 1.0)))
    with torch.no_grad():
        (found,) = model.test_step({'inputs': [image[0].flip(0)], 'data_samples': [sample]})
    return found.pred_instances


def pasted(cells: Tensor, boxes: Tensor, size: tuple[int, int]) -> Tensor:
    """Masks of the image, as mmdet pastes them."""
    masks, _ = _do_paste_mask(cells[:, None], boxes, *size, skip_empty=False)
    return masks >= 0.5


def assert_objects_equal(outputs: list[Tensor], model: nn.Module, image: Tensor, atol: float) -> int:
    """Compare outputs with mmdet's objects, in this order, and return their number."""
    found, size = objects_of_mmdet(model, image), tuple(image.shape[2:])
    boxes, scores, labels = outputs[:3]
    assert len(boxes) == len(found) and labels.tolist() == found.labels.tolist()
    torch.testing.assert_close(boxes, found.bboxes, rtol=0, atol=atol * max(size))
    torch.testing.assert_close(scores, found.scores, rtol=0, atol=atol)
    if model.with_mask and len(boxes):
        masks = pasted(outputs[3], boxes, size)
        assert (masks != found.masks).float().mean() <= 1e-3
    return len(boxes)


@pytest.mark.parametrize('kind', KINDS)
def test_the_graph_in_pytorch_is_mmdets_prediction(kind: str) -> None:
    model = KINDS[kind]()
    module, numbers, labels = deployable(model), [], set()
    assert module.task == 'detection' and module.in_channels == 3
    for height, width in SIZES[:4]:
        image = random_image(height, width)
        with torch.no_grad():
            outputs = list(module(image.float()))
        assert len(outputs) == (4 if model.with_mask else 3)
        numbers.append(assert_objects_equal(outputs, model, image, 1e-5))
        labels |= set(outputs[2].tolist())
    assert max(numbers) > 5 and (len(labels) > 1 or 'agnostic' in kind)


@pytest.mark.slow
@pytest.mark.parametrize('name', [RETINANET, FCOS, CASCADE])
def test_files_find_what_mmdet_finds_at_every_size(name: str, tmp_path: Path) -> None:
    import onnx

    model, path = make(name, with_two_levels), tmp_path / 'model.onnx'
    module = deployable(model)
    differences = export(module, path, OnnxFormat(), [(48, 80), (80, 48)], tolerance=1e-3)
    assert [item.batch for item in differences] == [1, 1] and all(item.magnitude > 1 for item in differences)
    file = onnx.load(path)
    onnx.checker.check_model(file)
    names = ['boxes', 'scores', 'labels', 'masks'][: 4 if model.with_mask else 3]
    assert [output.name for output in file.graph.output] == names
    assert [(item.domain, item.version) for item in file.opset_import] == [('', 20)]
    about = {entry.key: entry.value for entry in file.metadata_props}
    assert about['task'] == 'detection' and 'float32 (1, 3, height, width)' in about['input']
    assert len(json.loads(about['outputs'])) == len(names) and ('mask_threshold' in about) is model.with_mask
    run, numbers = OnnxFormat().load(path), []
    for height, width in SIZES:
        image = random_image(height, width)
        numbers.append(assert_objects_equal(run(image.float()), model, image, 1e-4))
    assert max(numbers) > 5


# --------------------------------------------------------------------------------- comparing, and refusing


class InPyTorch:
    """A format whose file is empty and runs in PyTorch, with a change to its outputs."""

    suffix = '.onnx'

    def __init__(self, module: nn.Module, change=lambda outputs: outputs) -> None:
        self.module, self.change = module, change

    def write(self, model: nn.Module, path: Path) -> None:
        path.write_text('')

    def load(self, path: Path):
        def run(image: Tensor) -> list[Tensor]:
            with torch.no_grad():
                return self.change([x.clone() for x in self.module(image)])

        return run


def shift(position: int, by: float):
    def change(outputs: list[Tensor]) -> list[Tensor]:
        outputs[position][-1] += by
        return outputs

    return change


@pytest.fixture(scope='module')
def masks() -> nn.Module:
    return deployable(KINDS['Mask R-CNN']())


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        (shift(0, 1.0), 'differs from PyTorch by up to 1.*e-02'),  # a pixel of 80
        (shift(1, 1e-2), 'differs from PyTorch by up to 1.0e-02'),
        (shift(3, 1e-2), 'differs from PyTorch by up to 1.0e-02'),
        (shift(1, float('nan')), 'differs from PyTorch by up to nan'),
        (shift(2, 1), 'the labels of the objects differ'),
        (lambda outputs: [x[1:] for x in outputs], r'the file gives \[\(14, 4\).*PyTorch \[\(15, 4\)'),
        (lambda outputs: outputs[:3], r'the file gives .*, PyTorch .*28, 28'),
        (lambda outputs: [x[:0] for x in outputs], r'the file gives \[\(0, 4\)'),
    ],
    ids=['box', 'score', 'mask', 'nan', 'label', 'number', 'no masks', 'nothing'],
)
def test_differences_are_found(masks: nn.Module, change, message: str, tmp_path: Path) -> None:
    with pytest.raises(ExportError, match=message):
        export(masks, tmp_path / 'model.onnx', InPyTorch(masks, change), [(48, 80)])
    assert not list(tmp_path.iterdir())


def test_objects_are_compared_in_any_order(masks: nn.Module, tmp_path: Path) -> None:
    file_format = InPyTorch(masks, lambda outputs: [x.flip(0) for x in outputs])
    (item,) = export(masks, tmp_path / 'model.onnx', file_format, [(48, 80)])
    assert item.value < 1e-4 and item.magnitude == pytest.approx(80)


def test_images_without_objects_compare_nothing(tmp_path: Path) -> None:
    model = KINDS['Mask R-CNN']()
    model.roi_head.test_cfg.score_thr = 1.0
    module = deployable(model)
    with pytest.raises(ExportError, match='empty or zero at all sizes, so nothing was compared'):
        export(module, tmp_path / 'model.onnx', InPyTorch(module), [(48, 80)])
    assert not list(tmp_path.iterdir())


def set_test_cfg(**settings):
    return lambda cfg: cfg.model.test_cfg.update(settings)


def gfl(cfg) -> None:
    one_anchor(cfg, 'GFLHead')
    cfg.model.bbox_head.reg_max = 4
    cfg.model.bbox_head.loss_cls = dict(type='QualityFocalLoss', use_sigmoid=True)


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        (set_test_cfg(nms=dict(type='soft_nms', iou_threshold=0.5)), r'test_cfg.nms must be dict\(type='),
        (set_test_cfg(nms=dict(type='nms', iou_threshold=0.5, score_threshold=0.1)), 'has score_threshold'),
        (set_test_cfg(nms_pre=-1), 'test_cfg.nms_pre must be the number of boxes per level'),
        (set_test_cfg(max_per_img=-1), 'test_cfg.max_per_img must be the number of boxes'),
        (
            gfl,
            'bbox_head=GFLHead predicts in its own way: supported are single-stage detectors',
        ),
    ],
    ids=['soft NMS', 'score threshold of NMS', 'nms_pre', 'max_per_img', 'GFL'],
)
def test_what_predicts_otherwise_is_refused(change, message: str) -> None:
    cfg = shrink(read(RETINANET))
    change(cfg)
    model = load_model(cfg, device='cpu')
    with pytest.raises(ExportError, match=f'RetinaNet cannot be exported: .*{message}'):
        deployable(model)


def test_padding_that_changes_the_objects_is_refused() -> None:
    def padded_atss(cfg) -> None:
        atss(cfg)
        cfg.model.data_preprocessor.pad_size_divisor = 32

    def padded_fpn(cfg) -> None:
        with_fpn(cfg)
        cfg.model.type = 'resformer_mm.MaskRCNN'

    for name, change in ((RETINANET, padded_atss), (MASK_RCNN, padded_fpn)):
        with pytest.raises(ExportError, match='pad_size_divisor=32 .* set it to the patch size, 16'):
            deployable(make(name, change))


def test_other_detectors_are_refused() -> None:
    class Other(type(KINDS['RetinaNet']())):
        def predict(self, *args, **kwargs):
            return []

    model = KINDS['RetinaNet']()
    model.__class__ = Other
    with pytest.raises(ExportError, match='Other cannot be exported: Other has its own predict'):
        deployable(model)

    from resformer_mm.tasks.detection.deployment import DeployableDetector

    class Transformer(BaseDetector):
        loss = predict = _forward = extract_feat = None

    with pytest.raises(ExportError, match='Transformer predicts in its own way: supported are single-stage'):
        DeployableDetector.check(Transformer())
    cfg = shrink(read(MASK_RCNN))
    cfg.model.roi_head.type = 'PISARoIHead'
    with pytest.raises(ExportError, match='roi_head=PISARoIHead predicts in its own way'):
        deployable(load_model(cfg, device='cpu'))


def test_detectors_are_written_as_onnx_alone(masks: nn.Module, tmp_path: Path) -> None:
    with pytest.raises(ExportError, match='MaskRCNN has operators that PyTorch alone does not know'):
        formats.ProgramFormat().write(masks, tmp_path / 'model.pt2')


# ------------------------------------------------------------------------------------- command line, client


@pytest.fixture(scope='module')
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a config, a checkpoint, the ONNX file that the tool made of them, and a picture."""
    folder = tmp_path_factory.mktemp('exported')
    cfg = detector()
    cfg.model.data_preprocessor.pad_size_divisor = 32
    cfg.dump(folder / 'small.py')
    save_checkpoint(cfg, folder / 'small.pth', std=None, classes=CLASSES)
    words = ['small.py', 'small.pth', '--verify-sizes', '48x80', '80']
    made = succeed(run_tool('deployment/export_onnx.py', *words, data=folder, cwd=folder))
    assert 'written: small.onnx' in made.stdout and made.stdout.count('\n     1 ') == 2
    Image.fromarray(picture()[..., ::-1]).save(folder / 'photo.png')
    return folder


@pytest.mark.slow
def test_the_client_finds_what_the_inferencer_finds(exported: Path) -> None:
    files = [exported / name for name in ('small.onnx', 'photo.png', 'found.png')]
    lines = succeed(run_client('onnx_detection.py', *files, '--score-thr', 0.1)).stdout.splitlines()
    inferencer = make_inferencer(str(exported / 'small.py'), exported / 'small.pth', 'cpu')
    (expected,) = inferencer(exported / 'photo.png', score_thr=0.1)['predictions']
    found = [line.split() for line in lines]
    assert len(found) > 1 and [words[5] for words in found] == expected['classes']
    scores, boxes = [float(words[0]) for words in found], [list(map(float, words[1:5])) for words in found]
    np.testing.assert_allclose(scores, expected['scores'], atol=0.01)
    np.testing.assert_allclose(boxes, expected['bboxes'], atol=1.0)
    before, after = (np.asarray(Image.open(exported / name)) for name in ('photo.png', 'found.png'))
    masks = [coco_mask.decode(code).astype(bool) for code in expected['masks']]
    covered = np.any(masks, axis=0)
    assert before.shape == after.shape and covered.any()
    changed = (before != after).any(-1)
    assert changed[covered].mean() > 0.98


@pytest.mark.slow
def test_the_client_refuses_other_files(exported: Path) -> None:
    import onnx

    file = onnx.load(exported / 'small.onnx')
    for entry in file.metadata_props:
        if entry.key == 'task':
            entry.value = 'classification'
    onnx.save(file, exported / 'other.onnx')
    result = run_client('onnx_detection.py', exported / 'other.onnx', exported / 'photo.png', 'none.png')
    assert result.returncode == 2 and 'other.onnx is not an exported detector' in result.stderr


@pytest.mark.slow
def test_mistakes_on_the_command_line(exported: Path) -> None:
    files = ['small.py', 'small.pth']
    result = run_tool('deployment/export_program.py', *files, data=exported, cwd=exported)
    assert result.returncode == 2 and 'MaskRCNN is not exported as .pt2' in result.stderr
    words = ['--cfg-options', 'model.test_cfg.rpn.nms_pre=-1']
    result = run_tool('deployment/export_onnx.py', *files, *words, data=exported, cwd=exported)
    assert result.returncode == 2 and 'test_cfg.rpn.nms_pre must be the number' in result.stderr
    assert not (exported / 'small.pt2').exists()
