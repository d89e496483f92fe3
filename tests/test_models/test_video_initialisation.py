"""A backbone for clips from checkpoints of images, of published models and of clips, and the way back."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from resformer_mm.checkpoints import CheckpointError, load_pretrained
from resformer_mm.models import ResFormer, VideoResFormer

ARCH = dict(embed_dims=16, num_layers=2, num_heads=2, feedforward_channels=24)
OFFICIAL = dict(embed_dims=48, num_layers=2, num_heads=3, feedforward_channels=192)


def randomised(model: nn.Module) -> nn.Module:
    torch.manual_seed(0)
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.3)
    return model.eval()


def save(path: Path, state: dict[str, Tensor], key: str = 'state_dict') -> Path:
    torch.save({key: state}, path)
    return path


def prefixed(model: nn.Module) -> dict[str, Tensor]:
    return {f'backbone.{name}': value for name, value in model.state_dict().items()}


def video(arch: dict = ARCH, patch_size: int = 8, **kwargs) -> VideoResFormer:
    torch.manual_seed(1)
    return VideoResFormer(arch, patch_size=patch_size, **kwargs).eval()


def assert_a_repeated_frame_is_its_image(
    model: VideoResFormer, image_model: ResFormer, size=(37, 48)
) -> None:
    frame = torch.randn(2, 3, 1, *size, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        expected = image_model.eval()(frame[:, :, 0])[0]
        actual = model(frame.expand(-1, -1, 8, -1, -1))
    torch.testing.assert_close(actual, expected, rtol=0, atol=5e-6)


@pytest.mark.parametrize('wrap', [prefixed, nn.Module.state_dict], ids=['classifier', 'backbone'])
def test_from_an_image_classifier(tmp_path: Path, wrap) -> None:
    image_model = randomised(ResFormer(ARCH, patch_size=8))
    state = wrap(image_model)
    if wrap is prefixed:
        state |= {'head.fc.weight': torch.ones(10, 16), 'head.fc.bias': torch.ones(10)}
    path = save(tmp_path / 'classifier.pth', state)
    model = video(init_cfg=dict(type='resformer_mm.PretrainedResFormer', checkpoint=str(path)))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    model.init_weights()
    assert_a_repeated_frame_is_its_image(model, image_model)
    for name, value in model.state_dict().items():
        if 'temporal_' in name:
            assert torch.equal(value, before[name]), name
        else:
            assert torch.equal(value, image_model.state_dict()[name]), name
    report = load_pretrained(video(), path)
    assert report.missing and set(report.missing) == {
        f'backbone.{name}' for name in before if 'temporal_' in name
    }
    assert set(report.reasons[name] for name in report.missing) == {
        'starts from its own initialisation, images have no time'
    }
    assert len(report.matched) == len(image_model.state_dict())


def test_from_a_published_checkpoint(tmp_path: Path, official_state: dict[str, Tensor]) -> None:
    path = save(tmp_path / 'published.pth', official_state, 'model')
    image_model, model = ResFormer(OFFICIAL), video(OFFICIAL, 16)
    load_pretrained(image_model, path)
    assert load_pretrained(model, path).layout == 'resformer'
    assert_a_repeated_frame_is_its_image(model, image_model)


@pytest.mark.parametrize('learned', [True, False], ids=['learned table', 'GPE'])
def test_from_a_deit_checkpoint(tmp_path: Path, official_state: dict[str, Tensor], learned: bool) -> None:
    state = {name: v for name, v in official_state.items() if 'pos_embed' not in name and 'get_v' not in name}
    state['pos_embed'] = torch.randn(1, 1 + 9, 48)
    path = save(tmp_path / 'deit.pth', state, 'model')
    position = dict()
    if learned:
        position = dict(
            global_position=dict(type='LearnedPositionEmbedding', grid_size=3), local_position=None
        )
    image_model, model = ResFormer(OFFICIAL, **position), video(OFFICIAL, 16, **position)
    load_pretrained(image_model, path)
    report = load_pretrained(model, path)
    assert report.layout == 'timm' and not report.unexplained_missing
    if not learned:  # both keep the initialisation of their own
        image_model.global_position.load_state_dict(model.global_position.state_dict())
        assert report.reasons['pos_embed'].startswith('dropped')
    assert_a_repeated_frame_is_its_image(model, image_model, (48, 48))


def test_from_a_recognizer_with_another_number_of_frames(tmp_path: Path) -> None:
    donor = randomised(video(num_frames=4))
    state = prefixed(donor) | {
        'cls_head.fc_cls.weight': torch.ones(3, 16),
        'cls_head.fc_cls.bias': torch.ones(3),
    }
    path = save(tmp_path / 'recognizer.pth', state)
    model = video(num_frames=8)
    report = load_pretrained(model, path)
    assert not report.missing
    assert (
        report.reasons['cls_head.fc_cls.bias'] == 'left out, it belongs to the head or neck of another model'
    )
    torch.testing.assert_close(model.temporal_position.table, donor.temporal_position(8))


def test_back_to_images(tmp_path: Path) -> None:
    donor = randomised(video())
    path = save(tmp_path / 'recognizer.pth', prefixed(donor))
    image_model = ResFormer(ARCH, patch_size=8)
    report = load_pretrained(image_model, path)
    assert {report.reasons[name] for name in report.unexpected} == {'left out, images have no time'}
    for name, value in image_model.state_dict().items():
        assert torch.equal(value, donor.state_dict()[name]), name


def test_space_only_has_nothing_of_time(tmp_path: Path) -> None:
    path = save(tmp_path / 'recognizer.pth', prefixed(randomised(video())))
    with pytest.raises(CheckpointError, match='no place for .*temporal'):
        load_pretrained(video(attention_type='space_only'), path)


def test_a_damaged_checkpoint_of_clips_is_refused(tmp_path: Path) -> None:
    state = prefixed(video())
    state.pop('backbone.blocks.1.temporal_fc.weight')
    with pytest.raises(CheckpointError, match=r'lacks backbone\.blocks\.1\.temporal_fc\.weight'):
        load_pretrained(video(), save(tmp_path / 'damaged.pth', state))
    state = prefixed(video())
    state['backbone.temporal_position.table'] = torch.zeros(1, 8, 12)
    with pytest.raises(CheckpointError, match=r'temporal_position.table has shape \(1, 8, 12\)'):
        load_pretrained(video(), save(tmp_path / 'narrow.pth', state))
