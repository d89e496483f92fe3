"""What is chosen for a fine-tuning."""

from __future__ import annotations

import pytest
from mmengine.config import Config
from runs import CONFIG
from small_models import save_checkpoint

from resformer_mm.finetuning import FinetuningData, make_plan
from resformer_mm.finetuning.plan import choose_architecture


def data(task='classification', size=(300, 400), number=500, fewest=50) -> FinetuningData:
    return FinetuningData(task, '', ('a', 'b'), {}, {}, number, 100, [size] * 3, fewest)


@pytest.mark.parametrize(
    ('size', 'arch', 'resolutions'),
    [
        ((300, 400), 'small', (224, 160, 128)),  # the paper's
        ((100, 90), 'small', (80, 64, 48)),
        ((300, 400), 'mini', (112, 80, 64)),
        ((10, 400), 'small', (32, 16)),
    ],
)
def test_resolutions_follow_the_images(size, arch, resolutions):
    plan = make_plan(data(size=size), arch)
    assert plan.resolutions == resolutions
    assert all(value % plan.arch.patch == 0 for value in plan.test_resolutions)
    assert set(resolutions) < set(plan.test_resolutions)
    assert min(plan.test_resolutions) <= min(resolutions) and max(plan.test_resolutions) > max(resolutions)


def test_fewer_images_are_seen_more_often():
    epochs = [make_plan(data(number=number), 'mini').max_epochs for number in (100, 1000, 10000)]
    assert epochs == sorted(epochs, reverse=True) and epochs[0] > epochs[1] > epochs[2]
    assert make_plan(data(number=10), 'mini').batch_size == 10


@pytest.fixture(scope='module')
def weights(tmp_path_factory):
    return str(save_checkpoint(Config.fromfile(CONFIG), tmp_path_factory.mktemp('weights') / 'w.pth'))


def test_weights_decide_the_architecture(weights):
    plan = make_plan(data(), weights=weights)
    assert plan.arch.name == 'mini' and plan.weights == weights and plan.layer_decay is not None
    assert plan.frozen_stages == -1
    assert make_plan(data(fewest=4), weights=weights).frozen_stages == 3
    with pytest.raises(ValueError, match='--arch small is another model than'):
        choose_architecture('small', weights, has_gpu=False)


def test_frozen_blocks_and_adapters(weights):
    assert make_plan(data(fewest=4), weights=weights, frozen_stages=1).frozen_stages == 1
    plan = make_plan(data('video'), weights=weights, lora_rank=4)
    assert plan.lora == dict(r=4, alpha=8, modules_to_save=['position', 'temporal_'])
    for options, message in (
        (dict(frozen_stages=2), 'without --weights'),
        (dict(lora_rank=2), 'without --weights'),
        (dict(lora_rank=0, weights=weights), 'at least 1'),
        (dict(frozen_stages=7, weights=weights), 'mini has 6 blocks'),
    ):
        with pytest.raises(ValueError, match=message):
            make_plan(data(), **options)


def test_given_values_are_kept():
    plan = make_plan(data(), 'tiny', resolutions=[96, 160], epochs=3, batch_size=7)
    assert (plan.arch.name, plan.resolutions, plan.max_epochs, plan.batch_size) == ('tiny', (160, 96), 3, 7)
    with pytest.raises(ValueError, match='--resolutions 8: a patch has 16 pixels'):
        make_plan(data(), 'tiny', resolutions=[8])
