"""Parity with the authors' code, also through the converter."""

from __future__ import annotations

import contextlib
import runpy
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from resformer_mm.checkpoints import load_pretrained
from resformer_mm.checkpoints.conversion import to_project_name
from resformer_mm.models import CosineConsistency, L2Consistency, ResFormer, SmoothL1Consistency

TOOL = Path(__file__).parents[2] / 'tools' / 'model_converters' / 'resformer_official.py'
RESOLUTIONS = (96, 128, 160, 224)
TRAIN_RESOLUTIONS = (224, 160, 128)
STEPS = {
    'cls-smooth-l1': ('cls', SmoothL1Consistency()),
    'cls-l2': ('cls', L2Consistency()),
    'cls-cosine': ('cls', CosineConsistency()),
    'gap-smooth-l1': ('gap', SmoothL1Consistency()),
}


class Classifier(nn.Module):
    """The reference model: a backbone and a linear head."""

    def __init__(self) -> None:
        super().__init__()
        arch = dict(embed_dims=48, num_layers=2, num_heads=3, feedforward_channels=192)
        self.backbone = ResFormer(arch, patch_size=16, out_type='raw')
        self.head = nn.Module()
        self.head.fc = nn.Linear(48, 10)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Return the tokens after the final norm, and the logits."""
        (tokens,) = self.backbone(image)
        return tokens, self.head.fc(tokens[:, 0])


def noise(seed: int, *shape: int) -> Tensor:
    draw = np.random.RandomState(seed).standard_normal(shape)
    return torch.from_numpy(draw.astype(np.float32))


def run_tool(*args: object) -> None:
    """Run the converter in this process, which saves the start of another."""
    with pytest.MonkeyPatch.context() as patch, contextlib.suppress(SystemExit):
        patch.setattr(sys, 'argv', [str(TOOL), *map(str, args)])
        runpy.run_path(str(TOOL), run_name='__main__')


@pytest.fixture(scope='module')
def files(golden: dict[str, Tensor], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The reference weights as a published checkpoint, converted, and converted back."""
    folder = tmp_path_factory.mktemp('golden')
    files = {name: folder / f'{name}.pth' for name in ('published', 'converted', 'reversed')}
    state = {key[6:]: value for key, value in golden.items() if key.startswith('state/')}
    torch.save({'model': state}, files['published'])
    run_tool(files['published'], files['converted'])
    run_tool(files['converted'], files['reversed'], '--reverse')
    return files


@pytest.fixture(params=['names', 'published', 'converted', 'reversed'])
def model(
    request: pytest.FixtureRequest, official_state: dict[str, Tensor], files: dict[str, Path]
) -> Classifier:
    """The reference model, loaded by hand or through the converter."""
    model = Classifier()
    if request.param == 'names':
        model.load_state_dict({to_project_name(name): v for name, v in official_state.items()})
    else:
        report = load_pretrained(model, files[request.param])
        assert len(report.matched) == len(official_state)
        assert not report.missing and not report.unexpected
    return model


@pytest.mark.parametrize('resolution', RESOLUTIONS)
def test_outputs_are_the_reference_numbers(
    model: Classifier, golden: dict[str, Tensor], resolution: int
) -> None:
    model.eval()
    with torch.no_grad():
        tokens, logits = model(noise(1000 + resolution, 2, 3, resolution, resolution))
        gpe = model.backbone.global_position((resolution // 16, resolution // 16))
    for name, value in (('gpe', gpe[0]), ('tokens', tokens), ('logits', logits)):
        torch.testing.assert_close(value, golden[f'{name}/{resolution}'], rtol=0, atol=1e-5)


def training_step(model: Classifier, soft_labels: Tensor, step: str) -> dict[str, Tensor]:
    """Return the losses of one multi-resolution step, resolution by resolution, and their total."""
    target, consistency = STEPS[step]
    teacher, losses = None, dict(ce=[], consistency=[])
    for resolution in TRAIN_RESOLUTIONS:
        tokens, logits = model(noise(2000 + resolution, 4, 3, resolution, resolution))
        losses['ce'].append(F.cross_entropy(logits, soft_labels))
        student = tokens[:, 0] if target == 'cls' else tokens[:, 1:].mean(dim=1)
        term = logits.new_zeros(()) if teacher is None else consistency(student, teacher)
        losses['consistency'].append(term)
        teacher = student
    losses = {name: torch.stack(values) for name, values in losses.items()}
    losses['total'] = (losses['ce'] + losses['consistency']).sum() / len(TRAIN_RESOLUTIONS)
    return losses


@pytest.mark.parametrize('step', STEPS)
def test_a_training_step_gives_the_reference_losses_and_gradients(
    files: dict[str, Path], golden: dict[str, Tensor], step: str
) -> None:
    model = Classifier().train()
    load_pretrained(model, files['converted'])
    losses = training_step(model, golden['train/soft_labels'], step)
    for name, value in losses.items():
        expected = golden[f'train/{step}/{name}']
        torch.testing.assert_close(value.detach(), expected, rtol=1e-5, atol=1e-6)

    if step != 'cls-smooth-l1':  # the one whose gradients are stored
        return
    losses['total'].backward()
    gradients = {name: parameter.grad for name, parameter in model.named_parameters()}
    stored = [key for key in golden if key.startswith('train/grad/')]
    assert len(stored) == len(gradients)
    for key in stored:
        expected = golden[key]
        actual = gradients[to_project_name(key.removeprefix('train/grad/'))]
        error = (actual - expected).abs().max()
        assert error <= 1e-4 * expected.abs().max() + 1e-9, f'{key}: off by {error}'


def test_round_trip_is_bit_for_bit(files: dict[str, Path]) -> None:
    first, last = (torch.load(files[name])['model'] for name in ('published', 'reversed'))
    assert list(first) == list(last)
    for name, value in first.items():
        assert value.dtype == last[name].dtype and torch.equal(value, last[name]), name
