"""Errors of pipelines and models name the files."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from mmengine.dataset import BaseDataset
from mmengine.model import BaseModel
from mmengine.runner import Runner
from PIL import Image

from resformer_mm.engine.failures import NameFilesHook, add_names


class Pictures(BaseDataset):
    def load_data_list(self) -> list[dict]:
        return [dict(img_path=f'{number}.png', width=width) for number, width in enumerate((5, 0, 7))]


class Halve:
    def __call__(self, results: dict) -> dict:
        if not results['width']:
            raise KeyError('no width')
        return dict(inputs=torch.zeros(results['width']), data_samples=dict(img_path=results['img_path']))


class Model(BaseModel):
    def forward(self, inputs: list, data_samples: list, mode: str) -> list:
        if any(len(one) == 7 for one in inputs):
            raise ZeroDivisionError('seven')
        torch.stack(inputs)
        return []


class Evaluator:
    metrics = ()

    def process(self, **kwargs) -> None:
        pass

    def evaluate(self, size: int) -> dict:
        return {}


def run(indices: list[int], step: str) -> None:
    dataset = Pictures(pipeline=[Halve()])
    loader = torch.utils.data.DataLoader(
        dataset,
        batch_size=2,
        sampler=indices,
        collate_fn=lambda batch: {k: [b[k] for b in batch] for k in batch[0]},
    )
    model = Model()
    runner = SimpleNamespace(model=model, val_loop=SimpleNamespace(dataloader=loader))
    runner.test_loop = SimpleNamespace(loaders={16: loader})
    hook = NameFilesHook()
    for _ in range(2):  # a second validation wraps nothing again
        getattr(hook, f'before_{step}')(runner)
    for batch in loader:
        getattr(model, f'{step}_step')(batch)


@pytest.mark.parametrize('step', ['val', 'test'])
def test_a_transform_and_a_model_name_the_file(step: str) -> None:
    run([0, 0], step)
    with pytest.raises(KeyError, match=r'no width \(file: 1\.png\)'):
        run([0, 1], step)
    with pytest.raises(ZeroDivisionError, match=r'^seven \(file: 0\.png, 2\.png\)$'):
        run([0, 2], step)


@pytest.mark.parametrize('step', ['val', 'test'])
def test_a_batch_of_several_sizes_names_the_setting(step: str, monkeypatch) -> None:
    monkeypatch.setattr(
        Halve,
        '__call__',
        lambda self, results: dict(
            inputs=torch.zeros(1, 1, len(results['img_path']) + results['sample_idx']),
            data_samples=dict(img_path=results['img_path']),
        ),
    )
    with pytest.raises(
        RuntimeError,
        match=rf'several sizes \(1 x 5, 1 x 6\): set {step}_dataloader\.batch_size=1.*0\.png, 1\.png',
    ):
        run([0, 1], step)


def test_a_batch_in_one_tensor_keeps_its_error() -> None:
    model = SimpleNamespace(val_step=None)

    def val_step(data: dict) -> None:
        raise ZeroDivisionError('of the model')

    model.val_step = val_step
    loop = SimpleNamespace(dataloader=torch.utils.data.DataLoader(Pictures(pipeline=[])))
    NameFilesHook().before_val(SimpleNamespace(model=model, val_loop=loop))
    with pytest.raises(ZeroDivisionError, match=r'^of the model \(file: a\.png\)$'):
        model.val_step(dict(inputs=torch.zeros(2, 3, 4, 4), data_samples=[dict(img_path='a.png')]))


def test_a_message_with_the_file_stays() -> None:
    for text, expected in {'bad a.png': 'bad a.png', 'bad': 'bad (file: a.png)'}.items():
        error = ValueError(text, 3)
        add_names(error, ['a.png', None])
        assert error.args == (expected, 3)
    error = RuntimeError()
    add_names(error, [f'{number}.png' for number in range(6)])
    assert str(error) == ' (file: 0.png, 1.png, 2.png, 3.png and 2 more)'


def test_every_runner_of_the_package_has_the_hook(monkeypatch) -> None:
    from mmengine.config import Config

    from resformer_mm.apis import launch

    made = SimpleNamespace(
        hooks=[], model=None, logger=None, register_hook=lambda hook: made.hooks.append(hook)
    )
    monkeypatch.setattr(Runner, 'from_cfg', lambda cfg: made)
    for name in ('write_earlier_warnings', 'write_metrics_once', 'write_valid_scalars'):
        monkeypatch.setattr(launch, name, lambda runner: None)
    monkeypatch.setattr(Image, 'MAX_IMAGE_PIXELS', 100)
    launch.build_runner(Config(dict(launcher='none', default_scope='mmengine')))
    assert any(isinstance(hook, NameFilesHook) for hook in made.hooks)
    assert Image.MAX_IMAGE_PIXELS is None  # the data is one's own
