"""Exported files of models with flexible patches hold the kernel of one size."""

from __future__ import annotations

import pytest
import torch
from mmengine.registry import MODELS
from small_models import classifier
from torch import nn

from resformer_mm.apis import enter_scope
from resformer_mm.deployment import DeployableModel, ExportError, OnnxFormat, ProgramFormat, export, formats
from resformer_mm.models import ResFormer
from resformer_mm.models.layers import PatchEmbed

ARCH = dict(embed_dims=32, num_layers=2, num_heads=2, feedforward_channels=64)
exports = pytest.mark.skipif(
    torch.__version__ < formats.PROGRAM_VERSION,
    reason=f'files for all sizes need PyTorch {formats.PROGRAM_VERSION}',
)


def model(**patch_embed) -> nn.Module:
    cfg = classifier()
    enter_scope(cfg)
    cfg.model.backbone.patch_embed = patch_embed
    torch.manual_seed(0)
    built = MODELS.build(cfg.model).eval()
    built.cfg, built.dataset_meta = cfg, {}
    return built


@pytest.fixture(autouse=True)
def scope():
    """The default scope of before, which `enter_scope` changes."""
    from mmengine.registry import DefaultScope

    with DefaultScope.overwrite_default_scope('mmpretrain'):
        yield


@pytest.mark.parametrize(
    'patch_embed',
    [
        dict(type='FlexiblePatchEmbed', patch_size=8, patch_sizes=[8, 16]),
        dict(type='MultiKernelPatchEmbed', patch_size=6, kernel_sizes=[8]),
    ],
)
def test_a_deployable_model_has_one_patch_size(patch_embed: dict) -> None:
    built = model(**patch_embed)
    deployable = DeployableModel(built)
    assert type(deployable.model.backbone.patch_embed) is PatchEmbed
    assert deployable.patch_size == patch_embed['patch_size']
    assert deployable.metadata()['patch_size'] == str(patch_embed['patch_size'])
    assert type(built.backbone.patch_embed) is not PatchEmbed  # the model itself is unchanged
    image = torch.randint(256, (2, 3, 40, 57), dtype=torch.uint8)
    expected = built(built.data_preprocessor({'inputs': image.flip(1)})['inputs'], mode='tensor')
    torch.testing.assert_close(deployable.predict_as_trained(image), expected)
    torch.testing.assert_close(deployable(image.float()), expected, atol=1e-4, rtol=1e-4)


def test_a_number_of_tokens_is_not_exported() -> None:
    with pytest.raises(ExportError, match=r'tokens=16.*set backbone.patch_embed.patch_size'):
        DeployableModel(model(type='FlexiblePatchEmbed', tokens=16))


@pytest.mark.slow
@exports
@pytest.mark.parametrize('kind', [OnnxFormat, ProgramFormat])
def test_files(kind: type, tmp_path) -> None:
    if kind is OnnxFormat:
        pytest.importorskip('onnxruntime')
    backbone = ResFormer(
        ARCH, patch_size=16, patch_embed=dict(type='FlexiblePatchEmbed', patch_size=8)
    ).eval()
    path = tmp_path / ('model.onnx' if kind is OnnxFormat else 'model.pt2')
    # Compares the file with PyTorch, and writes it only if they agree.
    export(DeployableModel(backbone), path, kind(), sizes=[(8, 8), (40, 57)])
    assert path.is_file()
