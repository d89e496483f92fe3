"""A ResFormer as the backbone of every kind of model in the config zoos of the OpenMMLab libraries.

    python benchmarks/swap_matrix.py --out benchmarks/results/swap_matrix.csv

One config per combination of model, neck and heads: a training step (loss and gradients) and a prediction on
random data, each config in its own process. The CSV has the lines that changed; ``swap_edits`` has the rules.
Rows of other configs and stacks that the CSV already has are kept. If a model fails, EXPLAINED has the
reason, or the config of the zoo is run with its own backbone; if that works, the exit code is 1.
"""

from __future__ import annotations

import argparse
import importlib
import multiprocessing
import re
import resource
import sys
import time
import traceback
import warnings
from collections.abc import Collection, Iterator
from fnmatch import fnmatch
from importlib import metadata
from pathlib import Path
from typing import Any

import torch
from mmengine.config import ConfigDict
from mmengine.logging import MessageHub, MMLogger
from mmengine.model import revert_sync_batchnorm
from mmengine.registry import MODELS, init_default_scope
from swap_data import batch, image_size, omni_images, preprocessor_of
from swap_edits import Output, backbone_place, probe, swap
from swap_results import EXCLUDED, FAILED, OK, ZOO_FAILS, explain, finished, merge, outcome
from swap_zoo import LIBRARIES, Kind, detector, drop_downloads, kinds, zoo

from resformer_mm.files import write_csv
from resformer_mm.libraries import import_library
from resformer_mm.progress import track

BOXES = ('max_per_img', 'nms_post', 'max_num')
MEMORY = 10 * 2**30  # bytes of a process


def run(
    kind: Kind, outputs: list[Output] | None, swapped: bool = True
) -> tuple[dict[str, str], list[Output] | None]:
    """Swap and run a kind of model in this process.

    Args:
        kind: the kind; its settings are changed.
        outputs: those of the old backbone, if they are known.
        swapped: whether to swap the backbone, or to run the config of the zoo.

    Returns:
        The columns that tell what happened, and the outputs of the old backbone.
    """
    torch.manual_seed(0)
    init_default_scope(kind.library)
    for progress in ('iter', 'epoch'):  # as a runner does; some heads warm up
        MessageHub.get_current_instance().update_info(progress, 0)
    cfg = kind.settings
    row = dict(loss='', prediction='', backbone='', changed_lines='', note='')
    try:
        if swapped:
            outputs = outputs or probe(cfg, kind.library)
            row['backbone'], lines = swap(cfg, kind.library, outputs)
            row['changed_lines'] = '; '.join(lines)
        model = _build(kind, outputs)
    except Exception as error:
        return {**row, 'loss': FAILED, 'prediction': FAILED, 'note': _message(error)}, outputs
    notes = []
    for name, step in (('loss', _train), ('prediction', _predict)):
        try:
            note = step(model, kind)
            row[name] = OK
        except Exception as error:
            row[name], note = FAILED, _message(error)
        if note and note not in notes:
            notes.append(note)
    return {**row, 'note': '; '.join(notes)}, outputs


def _build(kind: Kind, outputs: list[Output]) -> torch.nn.Module:
    settings = kind.settings.model
    preprocessor = preprocessor_of(kind.settings)
    if preprocessor:
        settings.data_preprocessor = ConfigDict(preprocessor)
        # The zoo's training sizes are too large for a quick run, which has no random sizes either.
        if kind.library == 'mmseg':
            settings.data_preprocessor.size = image_size(kind.settings)
        elif kind.library == 'mmdet':
            settings.data_preprocessor.pop('batch_augments', None)
            if 'EmbeddingRPNHead' not in kind.head:  # its proposals are a number of the head
                for field in ('train_cfg', 'test_cfg'):
                    _reduce(detector(settings).get(field) or {})
    for part in (settings, detector(settings)):
        for field in ('pretrained', 'init_cfg', 'teacher_ckpt'):
            if part.get(field) is not None:
                part[field] = None
    if str(settings.get('teacher_config')).startswith('configs/'):  # relative to a clone of the library
        folder = zoo(kind.library)
        assert folder is not None
        settings.teacher_config = str(folder / settings.teacher_config.removeprefix('configs/'))
    drop_downloads(settings)
    model = revert_sync_batchnorm(MODELS.build(settings))
    model.init_weights()  # some modules allocate weights and leave their values to it
    return model


def _train(model: torch.nn.Module, kind: Kind) -> str:
    """Compute the loss and its gradients; return which weights of the backbone get none."""
    model.train()
    data: Any = batch(kind.library, kind.settings)
    if kind.model == 'RecognizerOmni':
        data = [data, omni_images()]
    data = model.data_preprocessor(data, True)
    losses = model._run_forward(data, 'loss')
    loss, _ = model.parse_losses(losses)
    if not torch.isfinite(loss):
        raise FloatingPointError(f'the loss is {loss.item()}')
    loss.backward()
    inner = getattr(model, 'detector', model)
    holder, _ = backbone_place(detector(kind.settings.model))
    backbone = inner.image_encoder[0] if isinstance(holder, list) else inner.backbone
    idle = [
        name for name, weight in backbone.named_parameters() if weight.requires_grad and weight.grad is None
    ]
    return f'no gradient: {", ".join(idle)}' if idle else ''


def _predict(model: torch.nn.Module, kind: Kind) -> str:
    """Predict; return a note where a model only has features."""
    model.eval()
    data = batch(kind.library, kind.settings)
    with torch.no_grad():
        if 'prototype' in kind.settings.model:
            model.prototype_vecs, model.prototype_inited = _prototypes(model, kind), True
        if kind.library == 'mmpretrain' and isinstance(data['inputs'], list):
            images = model.data_preprocessor(data, False)['inputs'][0]
            model(images, mode='tensor')
            return 'pretraining has no prediction: the features were computed'
        if kind.library == 'mmaction' and kind.model == 'FastRCNN':  # it tests one clip at a time
            data = {name: values[:1] for name, values in data.items()}
        result = model.val_step(data)
    if len(result) != len(data['data_samples']):
        raise RuntimeError(f'{len(result)} predictions for {len(data["data_samples"])} samples')
    return ''


def _prototypes(model: torch.nn.Module, kind: Kind) -> torch.Tensor:
    """Return random features of a gallery, one per class, with which a retriever compares an image."""
    return torch.randn(kind.settings.model.head.num_classes, model.image_encoder[0].embed_dims)


def _message(error: Exception) -> str:
    place = traceback.extract_tb(error.__traceback__)[-1]
    # Without the folders of this machine.
    text = re.sub(r'(?<![\w.])(/[\w.+-]+)+/', '', ' '.join(str(error).split()))[:160]
    return f'{type(error).__name__}: {text} ({Path(place.filename).name}:{place.lineno})'


def _work(kind: Kind, outputs: list[Output] | None, swapped: bool, pipe: Any) -> None:
    resource.setrlimit(resource.RLIMIT_DATA, (MEMORY, MEMORY))
    warnings.simplefilter('ignore')
    pipe.send(run(kind, outputs, swapped))


def run_apart(
    kind: Kind, seconds: float, known: dict[str, list[Output]], swapped: bool = True
) -> dict[str, str]:
    """Run a kind in a copy of this process, which may crash or be stopped after a time.

    Args:
        kind: the kind.
        seconds: time limit.
        known: outputs of old backbones, which may grow.
        swapped: whether to swap the backbone, or to run the config of the zoo.
    """
    shape = _shape(kind)
    context = multiprocessing.get_context('fork')
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_work, args=(kind, known.get(shape), swapped, sender))
    process.start()
    sender.close()
    try:
        if receiver.poll(seconds):
            row, outputs = receiver.recv()
            if outputs:
                known[shape] = outputs
            return row
        note = f'stopped after {seconds:.0f} seconds'
    except EOFError:
        process.join()
        note = f'the process ended with exit code {process.exitcode}'
    finally:
        process.kill()
        process.join()
    return dict(loss=FAILED, prediction=FAILED, backbone='', changed_lines='', note=note)


def _shape(kind: Kind) -> str:
    """Return what the outputs of the old backbone of a kind depend on."""
    holder, key = backbone_place(detector(kind.settings.model))
    irrelevant = ('norm_cfg', 'norm_eval', 'frozen_stages', 'init_cfg', 'pretrained', 'dcn', 'stage_with_dcn')
    settings = {name: value for name, value in holder[key].items() if name not in irrelevant}
    return f'{kind.library} {settings}'


def stack() -> str:
    """Return which OpenMMLab is installed."""
    try:
        metadata.version('onedl-mmengine')
    except metadata.PackageNotFoundError:
        return 'openmmlab'
    return 'onedl'


def _compare(kind: Kind, row: dict[str, str], seconds: float) -> str:
    """Return the note of a failure, after a run of the zoo's own config, which may fail as well."""
    own = run_apart(kind, seconds, {}, swapped=False)
    same = all(own[step] == FAILED for step in ('loss', 'prediction') if row[step] == FAILED)
    slow = own['note'].startswith('stopped')  # a time limit explains nothing
    return f'{ZOO_FAILS}: {own["note"]}' if same and not slow else row['note']


def _reduce(settings: Any) -> None:
    """Lower the number of boxes that a detector samples and keeps, in place: each costs time alone."""
    for key, value in settings.items() if isinstance(settings, dict) else enumerate(settings):
        if isinstance(value, (dict, list)):
            _reduce(value)
        elif (key in BOXES or (key == 'num' and 'pos_fraction' in settings)) and isinstance(value, int):
            settings[key] = min(value, 64)


def measure(
    library: str, pattern: str, kind_pattern: str, seconds: float, done: Collection[str]
) -> Iterator[dict[str, str]]:
    """Yield the rows of a library, printing each; configs that are done are left out."""
    import_library(library, 'the matrix')
    version = importlib.import_module(library).__version__
    importlib.import_module(f'{library}.models')
    found, unreadable = kinds(library, pattern)
    for problem in unreadable:
        print(f'cannot be read: {library} {problem}', flush=True)
    known: dict[str, list[Output]] = {}
    for kind in track(found, library):
        if kind.config in done or not fnmatch(kind.config, kind_pattern):
            continue
        start = time.perf_counter()
        row = dict(
            stack=stack(),
            torch=torch.__version__.split('+')[0],
            library=library,
            version=version,
            config=kind.config,
            configs=str(kind.configs),
            model=kind.model,
            neck=kind.neck,
            head=kind.head,
        )
        if kind.excluded:
            nothing = dict(backbone='', changed_lines='', note=kind.excluded)
            row.update(loss=EXCLUDED, prediction=EXCLUDED, **nothing)
        else:
            row.update(run_apart(kind, seconds, known))
            if FAILED in (row['loss'], row['prediction']):
                row['note'] = explain(row) or _compare(kind, row, seconds)
        took = time.perf_counter() - start
        print(f'{row["loss"]:8} {row["prediction"]:8} {took:5.1f} s  {library} {kind.config}', flush=True)
        if row['note']:
            print(f'         {row["note"]}', flush=True)
        yield row


def main() -> int:
    """Run the matrix, write the CSV and print a summary."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument('--library', nargs='+', choices=LIBRARIES, default=LIBRARIES)
    parser.add_argument('--config', default='*', help="pattern of config paths in the zoo, e.g. 'detr/*'")
    parser.add_argument('--kind', default='*', help='pattern of the configs that stand for their kind')
    parser.add_argument('--seconds', type=float, default=300, help='time limit of a config')
    parser.add_argument('--resume', action='store_true', help='leave out rows of --out that did not fail')
    parser.add_argument('--out', type=Path, help='CSV file')
    args = parser.parse_args()
    torch.set_num_threads(1)  # a forked process hangs in the thread pool of its parent
    MMLogger.get_current_instance().setLevel('ERROR')
    warnings.simplefilter('ignore')
    rows = []
    for library in args.library:
        if zoo(library) is None:
            print(f'{library}: not installed, or without its configs (.mim/configs): left out')
            continue
        done = finished(args.out, stack(), library) if args.resume else []
        for row in measure(library, args.config, args.kind, args.seconds, done):
            rows.append(row)
            if args.out:
                write_csv(args.out, merge(args.out, [row]))
    if not rows and not args.resume:
        parser.error('no config was found')
    counts: dict[tuple[str, str], int] = {}
    for row in rows:
        counts[row['library'], outcome(row)] = counts.get((row['library'], outcome(row)), 0) + 1
    for (library, name), number in sorted(counts.items()):
        print(f'{library}: {name}: {number}')
    return int(any(name == 'failed' for _, name in counts))


if __name__ == '__main__':
    sys.exit(main())
