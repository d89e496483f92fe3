"""The config of a fine-tuning, as text."""

from __future__ import annotations

import textwrap
from pathlib import Path
from typing import Any

from resformer_mm.files import write_atomically

from .data import FinetuningData
from .plan import Architecture, Plan
from .templates import TEMPLATES
from .templates.detection import MASK_HEAD, NO_MASK_HEAD

HEADER = '''\
"""{title}

    python tools/train.py {path}

Written by tools/finetune.py, which chose what follows. It is an ordinary config: change what you like.

{notes}
"""

'''
SETTINGS = """\
resolutions = {resolutions}  # of training, in pixels
test_resolutions = {test_resolutions}
max_epochs = {max_epochs}
val_interval = {val_interval}
batch_size = {batch_size}
num_workers = {num_workers}
learning_rate = {learning_rate}
{weights}"""
# Where the validation is the test, and where there is another split for it.
TEST_LOADERS = (
    'test_dataloader = val_dataloader',
    'test_dataloader = dict(\n'
    '    val_dataloader,\n'
    '    dataset=dict(test_data, _delete_=True, test_mode=True, pipeline=test_pipeline),\n'
    ')',
)
TEST_EVALUATORS = (
    'test_evaluator = val_evaluator',
    'test_evaluator = dict(val_evaluator, ann_file=test_annotations)',
)
SCHEDULE = """\
optim_wrapper = dict(
    _delete_=True,
    type='OptimWrapper',
    optimizer=dict(type='AdamW', lr=learning_rate, weight_decay=0.05),
    clip_grad=dict(max_norm=5.0),
    constructor='resformer_mm.{groups}OptimWrapperConstructor',
    paramwise_cfg=dict(
        {decay}norm_decay_mult=0.0,
        bias_decay_mult=0.0,
        custom_keys=_base_.optim_wrapper.paramwise_cfg.custom_keys,
    ),
)
warmup = {warmup}  # steps
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, by_epoch=False, begin=0, end=warmup),
    dict(
        type='CosineAnnealingLR',
        begin=0,
        end=max_epochs,
        T_max=max_epochs,
        eta_min=learning_rate / 100,
        by_epoch=True,
        convert_to_iter_based=True,
    ),
]
train_cfg = dict(type='{loop}', max_epochs=max_epochs, val_interval=val_interval)
auto_scale_lr = dict(enable=False, base_batch_size=batch_size)
randomness = dict(seed=0)"""


def write_config(path: Path, data: FinetuningData, plan: Plan) -> None:
    """Write the config of a fine-tuning.

    Args:
        path: the file.
        data: the data.
        plan: what was chosen.
    """
    with write_atomically(path) as partial:
        partial.write_text(config_text(path, data, plan), encoding='utf-8')


def config_text(path: Path, data: FinetuningData, plan: Plan) -> str:
    """Return the config of a fine-tuning; see :func:`write_config`."""
    notes = '\n'.join(f'- {line}' for line in (*data.notes, *plan.notes))
    title = f'ResFormer ({plan.arch.name}), {data.task} of {len(data.classes)} classes.'
    header = HEADER.format(title=title, path=path, notes=wrapped(notes))
    return header.replace('\\', '/') + TEMPLATES[data.task].format(
        data=data_text(data),
        settings=_settings_text(plan),
        schedule=_schedule_text(plan, data),
        backbone=_backbone_text(plan, data.task),
        **_fields(data, plan),
    )


def as_code(value: Any) -> str:
    """Return a value as an expression, dicts as calls of ``dict``."""
    if isinstance(value, dict) and all(isinstance(key, str) and key.isidentifier() for key in value):
        return f'dict({", ".join(f"{key}={as_code(item)}" for key, item in value.items())})'
    if isinstance(value, list):
        return f'[{", ".join(map(as_code, value))}]'
    return repr(value)


def data_text(data: FinetuningData) -> str:
    """Return the settings of the data sets, as code."""
    classes = ''.join(f'    {name!r},\n' for name in data.classes)
    lines = [f'data_root = {data.root!r}', f'classes = [\n{classes}]']
    named = [('train_data', data.train), ('val_data', data.val)]
    named += [('test_data', data.test)] if data.test else []
    for name, settings in named:
        inside = ''.join(f'    {key}={as_code(value)},\n' for key, value in settings.items())
        common = '    data_root=data_root,\n    metainfo=dict(classes=classes),\n'
        lines.append(f'{name} = dict(\n{inside}{common})')
    if data.task == 'detection':
        for name, settings in named[1:]:
            path = str(Path(data.root, settings['ann_file']))
            lines.append(f'{name.removesuffix("_data")}_annotations = {path!r}')
    return '\n'.join(lines)


def _settings_text(plan: Plan) -> str:
    return SETTINGS.format(
        resolutions=list(plan.resolutions),
        test_resolutions=list(plan.test_resolutions),
        max_epochs=plan.max_epochs,
        val_interval=max(plan.max_epochs // 10, 1),
        batch_size=plan.batch_size,
        num_workers=plan.num_workers,
        learning_rate=plan.learning_rate,
        weights=f'pretrained = {plan.weights!r}\n' if plan.weights else '',
    )


def _schedule_text(plan: Plan, data: FinetuningData) -> str:
    return SCHEDULE.format(
        groups='MergedGroups' if plan.layer_decay is None else 'LayerDecay',
        decay='' if plan.layer_decay is None else f'layer_decay_rate={plan.layer_decay},\n        ',
        warmup=min(100, max(plan.max_epochs * data.num_train // plan.batch_size // 10, 1)),
        loop='resformer_mm.TurnByTurnEpochLoop' if data.task == 'segmentation' else 'EpochBasedTrainLoop',
    )


def _backbone_text(plan: Plan, task: str) -> str:
    arch = plan.arch
    settings = [f'arch={arch.setting}', f'patch_size={arch.patch}']
    settings.append(f'drop_path_rate={0.05 if arch.name == "mini" else 0.1}')
    if task == 'detection' and arch.name == 'mini':
        settings += ['window_size=8', 'window_block_indices=(0, 1, 3, 4)']
    if plan.frozen_stages >= 0:
        settings.append(f'frozen_stages={plan.frozen_stages}')
    if plan.lora is not None:
        settings.append(f'lora={as_code(plan.lora)}')
    start = "dict(type='resformer_mm.PretrainedResFormer', checkpoint=pretrained)"
    settings.append(f'init_cfg={start if plan.weights else None}')
    return ''.join(f'\n        {setting},' for setting in settings) + '\n    '


def _fields(data: FinetuningData, plan: Plan) -> dict[str, Any]:
    """Return the fields of the template of a task."""
    arch, is_mini = plan.arch, plan.arch.name == 'mini'
    has_test = data.test is not None
    fields: dict[str, Any] = dict(width=arch.embed_dims, patch=arch.patch, test_loader=TEST_LOADERS[has_test])
    if data.task in ('classification', 'video'):
        fields['topk'] = (1, 5) if len(data.classes) > 5 else (1,)
    elif data.task == 'segmentation':
        fields.update(maps=_maps(arch), channels=64 if is_mini else 256, norm='BN' if is_mini else 'SyncBN')
    elif data.task == 'detection':
        fields.update(
            channels=64 if is_mini else 256,
            strides=[8, 16, 32] if is_mini else [4, 8, 16, 32, 64],
            scale_factors=(1, 0.5) if is_mini else (4, 2, 1, 0.5),
            anchor=4 if is_mini else 8,
            fc_channels=256 if is_mini else 1024,
            rpn_samples=64 if is_mini else 256,
            roi_samples=48 if is_mini else 256,
            mask_head=MASK_HEAD if data.has_masks else NO_MASK_HEAD,
            with_mask=data.has_masks,
            metric=['bbox', 'segm'] if data.has_masks else ['bbox'],
            test_evaluator=TEST_EVALUATORS[has_test],
        )
    return fields


def _maps(arch: Architecture) -> tuple[int, ...]:
    """Return the last block of each third of a small backbone, and of each quarter of others."""
    parts = 3 if arch.num_layers <= 6 else 4
    return tuple(arch.num_layers * part // parts - 1 for part in range(1, parts + 1))


def wrapped(text: str, width: int = 110) -> str:
    """Return lines that begin with '- ' broken at a width, for a docstring."""
    return '\n'.join(
        part
        for line in text.splitlines()
        for part in textwrap.wrap(line, width, subsequent_indent='  ') or ['']
    )
