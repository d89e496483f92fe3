"""The plain training loop computes what the framework computes, and learns."""

from __future__ import annotations

import importlib.util
import re
import sys
from pathlib import Path

import pytest
import torch
from runs import ROOT, run, write_data

from resformer_mm.models import ResFormer, SmoothL1Consistency

pytest.importorskip('torchvision')
SCRIPT = ROOT / 'examples' / 'plain_training.py'
ARCH = dict(embed_dims=16, num_layers=2, num_heads=2, feedforward_channels=32)


@pytest.fixture(scope='module')
def example():
    spec = importlib.util.spec_from_file_location('plain_training', SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def batch() -> tuple[list[torch.Tensor], torch.Tensor]:
    generator = torch.Generator().manual_seed(3)
    copies = [torch.randn(4, 3, size, size, generator=generator) for size in (32, 24, 16)]
    return copies, torch.randint(5, (4,), generator=generator)


def test_the_loss_and_its_gradients_are_those_of_the_framework(example) -> None:
    pytest.importorskip('mmpretrain')
    from mmpretrain.structures import DataSample

    from resformer_mm.tasks.classification.model import MultiResolutionClassifier

    copies, labels = batch()
    framework = MultiResolutionClassifier(
        backbone=dict(type='resformer_mm.ResFormer', arch=ARCH, patch_size=8),
        head=dict(
            type='LinearClsHead',
            num_classes=5,
            in_channels=16,
            loss=dict(type='LabelSmoothLoss', label_smooth_val=0.1, mode='original'),
        ),
        consistency=dict(type='resformer_mm.SmoothL1Consistency'),
    )
    plain = example.Classifier(ResFormer(ARCH, patch_size=8), 5)
    for parameter in framework.parameters():  # wide enough for every term to count
        torch.nn.init.normal_(parameter, std=0.2)
    plain.load_state_dict(
        {name.replace('head.fc.', 'head.'): value for name, value in framework.state_dict().items()}
    )
    loss = example.multi_resolution_loss(plain, copies, labels, SmoothL1Consistency())
    terms = framework.loss(copies, [DataSample().set_gt_label(int(label)) for label in labels])
    expected = sum(value for name, value in terms.items() if 'loss' in name)
    torch.testing.assert_close(loss, expected)

    loss.backward()
    expected.backward()
    gradients = {name.replace('head.fc.', 'head.'): p.grad for name, p in framework.named_parameters()}
    for name, parameter in plain.named_parameters():
        torch.testing.assert_close(parameter.grad, gradients[name], msg=name)


def test_no_gradient_reaches_a_teacher(example) -> None:
    copies, labels = batch()
    model = example.Classifier(ResFormer(ARCH, patch_size=8), 5)
    copies[0].requires_grad_()
    example.multi_resolution_loss(model, copies, labels, SmoothL1Consistency(loss_weight=100.0)).backward()
    with_consistency = copies[0].grad.clone()
    copies[0].grad = None
    example.multi_resolution_loss(model, copies, labels, SmoothL1Consistency(loss_weight=0.0)).backward()
    torch.testing.assert_close(with_consistency, copies[0].grad)


def test_weight_decay_spares_positions_norms_and_biases(example) -> None:
    model = example.Classifier(ResFormer(ARCH, patch_size=8), 5)
    optimizer, scheduler = example.make_optimizer(model, steps=100)
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    decayed = {names[id(parameter)] for parameter in optimizer.param_groups[0]['params']}
    assert 'backbone.patch_embed.proj.weight' in decayed and 'backbone.blocks.0.attn.qkv.weight' in decayed
    assert not [
        name for name in decayed if 'position' in name or 'cls_token' in name or name.endswith('bias')
    ]
    assert len(decayed) + len(optimizer.param_groups[1]['params']) == len(names)
    rates = []
    for _ in range(100):
        rates.append(optimizer.param_groups[0]['lr'])
        optimizer.step()
        scheduler.step()
    assert max(rates) == 1e-3 and rates[0] < 2e-4 and rates[-1] < 1e-5


@pytest.mark.slow
def test_it_learns_from_a_folder_of_images(tmp_path: Path) -> None:
    data = write_data(tmp_path / 'data', num_train=160, num_val=40)
    options = ['--resolutions', 32, 24, '--epochs', 4, '--batch-size', 16]
    result = run([sys.executable, SCRIPT, '--data', data, *options], data, tmp_path)
    assert result.returncode == 0, result.stderr
    losses = [float(value) for value in re.findall(r'loss (\S+)', result.stdout)]
    assert len(losses) == 4 and losses[-1] < losses[0] - 0.2
    accuracies = {
        int(size): float(top1) for size, top1 in re.findall(r'top-1 at (\d+): (\S+) %', result.stdout)
    }
    assert list(accuracies) == [64, 32, 24, 12]
    assert min(accuracies[32], accuracies[24]) > 60  # chance: 10


def test_too_few_images_are_an_error(example, tmp_path: Path) -> None:
    write_data(tmp_path / 'data', num_train=10, num_val=10)
    with pytest.raises(SystemExit, match='has 10 images, less than one batch of 64'):
        example.train(tmp_path / 'data', [16], epochs=1, batch_size=64, device='cpu')
