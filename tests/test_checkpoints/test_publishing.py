"""Published checkpoints: what is in the file, its name, and what is refused."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.logging import MessageHub

from resformer_mm.apis import load_model
from resformer_mm.checkpoints import CheckpointError
from resformer_mm.checkpoints.publishing import publish_checkpoint

CONFIG = Config(
    dict(
        default_scope='mmpretrain',
        model=dict(
            type='ImageClassifier',
            backbone=dict(
                type='resformer_mm.ResFormer',
                arch=dict(embed_dims=32, num_layers=1, num_heads=2, feedforward_channels=32),
            ),
            head=dict(type='LinearClsHead', num_classes=2, in_channels=32),
        ),
    )
)


@pytest.fixture
def training() -> dict:
    """What a run of MMEngine saves, with log histories, optimizer and paths."""
    model = load_model(CONFIG, device='cpu')
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter)
    optimizer = torch.optim.AdamW(model.parameters())
    model(torch.ones(1, 3, 32, 32)).sum().backward()
    optimizer.step()
    hub = MessageHub('publishing')
    hub.update_scalar('train/loss', np.float64(1.5))
    return {
        'meta': {
            'epoch': 3,
            'iter': 40,
            'cfg': "data_root = '/home/somebody/secret'",
            'seed': 7,
            'time': '20260101_000000',
            'experiment_name': 'run',
            'mmengine_version': '0.10',
            'dataset_meta': {'classes': ('cat', 'dog'), 'weights': np.ones(2)},
        },
        'state_dict': model.state_dict(),
        'message_hub': hub.state_dict(),
        'optimizer': optimizer.state_dict(),
        'ema_state_dict': {'steps': torch.tensor(5), 'module.w': torch.ones(2)},
    }


def save(content: object, path: Path) -> Path:
    torch.save(content, path)
    return path


def test_published_file_holds_weights_and_classes_alone(training, tmp_path):
    source = save(training, tmp_path / 'epoch_3.pth')
    publication = publish_checkpoint(source, tmp_path / 'made' / 'small.pth')
    path = publication.path
    assert path.parent == tmp_path / 'made' and list(path.parent.iterdir()) == [path]
    assert path.name == f'small-{hashlib.sha256(path.read_bytes()).hexdigest()[:8]}.pth'
    assert path.stat().st_size < 0.6 * source.stat().st_size
    content = torch.load(path, weights_only=True)
    assert list(content) == ['meta', 'state_dict']
    assert content['meta'] == {
        'epoch': 3,
        'iter': 40,
        'experiment_name': 'run',
        'mmengine_version': '0.10',
        'dataset_meta': {'classes': ('cat', 'dog')},
    }
    assert content['state_dict'].keys() == training['state_dict'].keys()
    for name, value in training['state_dict'].items():
        assert torch.equal(content['state_dict'][name], value), name
    assert b'secret' in source.read_bytes() and b'secret' not in path.read_bytes()
    text = str(publication)
    for name in ('message_hub', 'optimizer', 'ema_state_dict', 'meta.cfg', 'meta.seed', 'meta.time'):
        assert f'dropped {name}: ' in text
    assert 'dropped meta.dataset_meta.weights: holds more than' in text
    assert f'written: {path}' in text


def test_published_file_predicts_what_the_training_did(training, tmp_path):
    source = save(training, tmp_path / 'epoch_3.pth')
    publication = publish_checkpoint(source, tmp_path / 'small')
    image = torch.rand(1, 3, 48, 32)
    outputs = [load_model(CONFIG, path, 'cpu')(image) for path in (source, publication.path)]
    assert torch.equal(*outputs)
    assert load_model(CONFIG, publication.path, 'cpu').dataset_meta == {'classes': ('cat', 'dog')}


def test_same_checkpoint_same_file(training, tmp_path):
    source = save(training, tmp_path / 'epoch_3.pth')
    first = publish_checkpoint(source, tmp_path / 'a' / 'model.pth').path
    copy = tmp_path / 'renamed.pth'
    copy.write_bytes(source.read_bytes())
    again = publish_checkpoint(copy, tmp_path / 'b' / 'model.pth').path
    assert first.name == again.name and first.read_bytes() == again.read_bytes()
    training['state_dict']['head.fc.bias'] += 1e-6
    other = publish_checkpoint(save(training, source), tmp_path / 'a' / 'model.pth').path
    assert other.name != first.name
    # An interrupted or damaged file of the same name is made good.
    other.write_bytes(b'half')
    assert publish_checkpoint(source, tmp_path / 'a' / 'model.pth').path == other
    assert torch.load(other, weights_only=True)
    assert len(list(other.parent.iterdir())) == 2


def test_chosen_entries(training, tmp_path):
    source = save(training, tmp_path / 'epoch_3.pth')
    publication = publish_checkpoint(
        source, tmp_path / 'out.pth', ['state_dict', 'ema_state_dict', 'optimizer']
    )
    content = torch.load(publication.path, weights_only=True)
    assert list(content) == ['state_dict', 'optimizer', 'ema_state_dict']
    assert list(content['ema_state_dict']) == ['steps', 'module.w']
    with pytest.raises(CheckpointError, match="'message_hub' cannot be published"):
        publish_checkpoint(source, tmp_path / 'out.pth', ['state_dict', 'message_hub'])
    with pytest.raises(
        CheckpointError, match="has no entry 'ema', it has: meta, state_dict, message_hub, opt"
    ):
        publish_checkpoint(source, tmp_path / 'out.pth', ['ema'])


def test_weights_alone_without_prefix_and_without_the_rest_of_their_storage(tmp_path):
    large = torch.arange(1_000_000.0)
    source = save({'state_dict': {'module.a': large[:10], 'module.b': large[5:7]}}, tmp_path / 'in.pth')
    publication = publish_checkpoint(source, tmp_path / 'out.pth')
    state = torch.load(publication.path, weights_only=True)['state_dict']
    assert {name: value.tolist() for name, value in state.items()} == {
        'a': list(range(10)),
        'b': [5.0, 6.0],
    }
    assert publication.path.stat().st_size < 10_000 < source.stat().st_size


class Evil:
    def __reduce__(self):
        return (print, ('code was run',))


def test_what_cannot_be_published(training, tmp_path, capsys):
    evil = save({'state_dict': {'w': torch.ones(1)}, 'meta': {'note': Evil()}}, tmp_path / 'evil.pth')
    with pytest.raises(CheckpointError, match='evil.pth is refused'):
        publish_checkpoint(evil, tmp_path / 'out.pth')
    assert 'code was run' not in capsys.readouterr().out
    (tmp_path / 'half.pth').write_bytes(evil.read_bytes()[:200])
    with pytest.raises(CheckpointError, match='half.pth is corrupt'):
        publish_checkpoint(tmp_path / 'half.pth', tmp_path / 'out.pth')
    with pytest.raises(CheckpointError, match='none.pth does not exist'):
        publish_checkpoint(tmp_path / 'none.pth', tmp_path / 'out.pth')
    with pytest.raises(CheckpointError, match='holds a list, not a dict'):
        publish_checkpoint(save([1], tmp_path / 'list.pth'), tmp_path / 'out.pth')
    bare = save(training['state_dict'], tmp_path / 'bare.pth')
    with pytest.raises(CheckpointError, match="no entry 'state_dict', it has: backbone.* more"):
        publish_checkpoint(bare, tmp_path / 'out.pth')
    with pytest.raises(CheckpointError, match='is a folder: name the file'):
        publish_checkpoint(bare, tmp_path)
    assert not list(tmp_path.glob('out*'))
