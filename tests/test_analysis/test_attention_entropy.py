"""Entropy of the attention against a literal softmax."""

from __future__ import annotations

import math

import pytest
import torch

from resformer_mm.analysis.attention_entropy import attention_entropies, relative_entropy
from resformer_mm.models import ResFormer

ARCH = dict(embed_dims=16, num_layers=2, num_heads=2, feedforward_channels=16)


def model(**kwargs) -> ResFormer:
    torch.manual_seed(0)
    return ResFormer(ARCH, patch_size=4, **kwargs).eval()


def test_entropies_are_those_of_the_softmax() -> None:
    backbone = model(num_registers=1)
    for block in backbone.blocks:
        torch.nn.init.normal_(block.attn.qkv.weight, std=0.5)  # heads that prefer some tokens
    image = torch.randn(2, 3, 12, 8)
    found = {(one.block, one.head, one.query): one.entropy for one in attention_entropies(backbone, image)}
    assert len(found) == 2 * 2 * 2
    caught = {}
    for index, block in enumerate(backbone.blocks):
        block.attn.register_forward_pre_hook(lambda _, args, index=index: caught.update({index: args[0]}))
    with torch.no_grad():
        backbone.forward_tokens(image)
        for index, block in enumerate(backbone.blocks):
            query, key, _ = block.attn.qkv(caught[index]).view(2, -1, 3, 2, 8).unbind(2)
            for head in range(2):
                for sample in range(2):
                    scores = query[sample, :, head] @ key[sample, :, head].t() / math.sqrt(8)
                    values = []
                    for row in scores.softmax(1).tolist():
                        values.append(-sum(p * math.log(p) for p in row) / math.log(len(row)))
                    own = found[index, head, 'class token'][sample].item()
                    assert own == pytest.approx(values[0], abs=1e-5)
                    patches = values[2:]  # after the class token and the register
                    mean = sum(patches) / len(patches)
                    assert len(patches) == 6
                    assert found[index, head, 'patches'][sample].item() == pytest.approx(mean, abs=1e-5)
    assert min(entropy.min() for entropy in found.values()) < 0.9


def test_uniform_attention_has_entropy_one() -> None:
    backbone = model(with_cls_token=False, out_type='avg_featmap')
    for block in backbone.blocks:
        torch.nn.init.zeros_(block.attn.qkv.weight)
    found = list(attention_entropies(backbone, torch.randn(1, 3, 64, 64)))
    assert {one.query for one in found} == {'patches'}
    torch.testing.assert_close(torch.cat([one.entropy for one in found]), torch.ones(4))


def test_one_token_has_no_entropy() -> None:
    assert relative_entropy(torch.eye(3)).tolist() == [0, 0, 0]
    backbone = model(with_cls_token=False, out_type='avg_featmap')
    with pytest.raises(ValueError, match='larger resolution'):
        list(attention_entropies(backbone, torch.randn(1, 3, 4, 4)))
