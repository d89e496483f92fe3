"""Outputs in the form that heads of the libraries expect beside the plain one."""

from __future__ import annotations

import pytest
import torch

from resformer_mm.models import FrameResFormer, ResFormer, VideoResFormer

ARCH = dict(embed_dims=24, num_layers=3, num_heads=2, feedforward_channels=48)


def build(kind: type[ResFormer] = ResFormer, **kwargs) -> ResFormer:
    torch.manual_seed(0)
    return kind(ARCH, patch_size=8, **kwargs).eval()


def test_maps_with_the_class_token_are_the_raw_tokens() -> None:
    image = torch.randn(2, 3, 24, 40)
    settings = dict(out_indices=(0, 2))
    raw = build(**settings, out_type='raw')(image)
    pairs = build(**settings, out_type='featmap', output_cls_token=True)(image)
    for tokens, (featmap, cls_token) in zip(raw, pairs, strict=True):
        assert featmap.shape == (2, 24, 3, 5)
        torch.testing.assert_close(torch.cat((cls_token[:, None], featmap.flatten(2).mT), 1), tokens)


def test_maps_with_the_class_token_in_a_padded_batch() -> None:
    model = build(out_type='featmap', output_cls_token=True)
    image = torch.randn(2, 3, 24, 40)
    ((_, alone),) = model(image[1:, :, :16, :32])
    ((featmap, cls_token),) = model(image, sizes=[(24, 40), (16, 32)])
    torch.testing.assert_close(cls_token[1:], alone)
    assert not featmap[1, :, 2:].any() and not featmap[1, :, :, 4:].any()


def test_clips_with_the_class_token() -> None:
    clip = torch.randn(2, 3, 2, 16, 24)
    tokens = build(VideoResFormer, out_type='raw')(clip)
    # A tuple of one pair, as MViTHead of mmaction takes it.
    ((featmap, cls_token),) = build(VideoResFormer, out_type='featmap', output_cls_token=True)(clip)
    torch.testing.assert_close(torch.cat((cls_token[:, None], featmap.flatten(2).mT), 1), tokens)


@pytest.mark.parametrize(
    'conflict', [dict(), dict(out_type='raw'), dict(out_type='featmap', with_cls_token=False)]
)
def test_class_token_beside_something_else_than_a_map(conflict: dict) -> None:
    with pytest.raises(ValueError, match="output_cls_token=True needs out_type='featmap'"):
        build(output_cls_token=True, **conflict)


def test_frames_have_one_output_or_a_tuple() -> None:
    frames = torch.randn(2, 3, 24, 40)
    for indices in (-1, (0, 2)):
        expected = build(out_indices=indices, out_type='featmap')(frames)
        outputs = build(FrameResFormer, out_indices=indices, out_type='featmap')(frames)
        outputs = outputs if isinstance(outputs, tuple) else (outputs,)
        assert len(outputs) == len(expected)
        for output, other in zip(outputs, expected):
            assert torch.equal(output, other)
    single = build(FrameResFormer, out_type='featmap')(frames)
    assert isinstance(single, torch.Tensor) and single.shape == (2, 24, 3, 5)
