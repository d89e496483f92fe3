"""Configs of training and test runs, with the usual options of OpenMMLab tools."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path

from mmengine.config import Config, ConfigDict
from mmengine.device import get_device
from mmengine.optim import AmpOptimWrapper, OptimWrapper
from mmengine.registry import OPTIM_WRAPPERS

from resformer_mm.config.files import read_config
from resformer_mm.config.inference_dtype import FIELD, mixed_precision_dtype, read_inference_dtype
from resformer_mm.config.patches import set_patches
from resformer_mm.config.resolutions import pipeline_at_resolution
from resformer_mm.config_types import find_type, type_field, type_name
from resformer_mm.engine import AutocastOptimWrapper
from resformer_mm.inference.devices import check_display
from resformer_mm.libraries import (
    FOLDER,
    LIBRARIES,
    drawing_type,
    library_of_config,
    prepare_libraries,
    scope_of,
    settle_config,
)
from resformer_mm.repairs import remark, set_strict
from resformer_mm.resuming import (
    check_resumable,
    checkpoint_folder,
    find_resumable,
    keep_total_batch,
    read_whole,
)
from resformer_mm.strategies import leave_out_strategy, settle_strategy
from resformer_mm.tasks.video.substitutes import replace_decord
from resformer_mm.tracking import settle_trackers

from .launchers import check_launcher, let_first_process_speak, place


@dataclass(frozen=True)
class Drawing:
    """Settings for drawing the predictions of a test.

    Attributes:
        show: show each drawing in a window.
        folder: folder that the drawings are written to.
        wait_time: seconds that a window is shown.
        interval: draw every n-th sample.
    """

    show: bool = False
    folder: str | Path | None = None
    wait_time: float = 2
    interval: int = 1


def make_train_config(
    config: str | Path,
    *,
    work_dir: str | Path | None = None,
    cfg_options: dict | None = None,
    launcher: str = 'none',
    strict: bool = False,
    resume: str | Path | None = None,
    require_resume: bool = False,
    validate: bool = True,
    amp: bool = False,
    auto_scale_lr: bool = False,
) -> Config:
    """Return the config of a training run.

    Args:
        config: config file.
        work_dir: folder of logs and checkpoints; by default the work dir of the config, or
            ``work_dirs/CONFIG``.
        cfg_options: overrides of the config.
        launcher: job launcher; 'none' means one process.
        strict: refuse data that would be repaired on reading, as ``strict_data = True`` in the config.
        resume: checkpoint to resume from; 'auto' is the latest one in the work dir, if there is one.
        require_resume: refuse to start anew if there is none.
        validate: whether to evaluate while training.
        amp: train in mixed precision.
        auto_scale_lr: scale the learning rate by the batch size over ``auto_scale_lr.base_batch_size``.

    Raises:
        FileNotFoundError: the config or the checkpoint to resume from does not exist.
        ImportError: a library of the config is missing, or needs operators of mmcv that are missing.
        ValueError: an option does not apply to the config, or training cannot go on from the checkpoint.
    """
    cfg = _load(config, work_dir, cfg_options, launcher, strict)
    if not validate:
        cfg.val_cfg = cfg.val_dataloader = cfg.val_evaluator = None
        hook = cfg.get('default_hooks', {}).get('checkpoint')
        if hook is not None:
            hook.pop('save_best', None)  # without validation there is no metric
    if amp:
        _enable_amp(cfg)
    if resume == 'auto':
        cfg.resume, cfg.load_from = True, None
    elif resume is not None:
        cfg.resume, cfg.load_from = True, _existing(resume, 'checkpoint to resume from')
    settle_strategy(cfg)
    _settle_resume(cfg, require_resume)
    if auto_scale_lr:
        if not cfg.get('auto_scale_lr', {}).get('base_batch_size'):
            raise ValueError(f'--auto-scale-lr: set `auto_scale_lr.base_batch_size` in {config}')
        cfg.auto_scale_lr.enable = True
    _set_loader_defaults(cfg, ('train_dataloader', 'val_dataloader', 'test_dataloader'))
    return cfg


def make_test_config(
    config: str | Path,
    checkpoint: str | Path,
    *,
    work_dir: str | Path | None = None,
    cfg_options: dict | None = None,
    launcher: str = 'none',
    strict: bool = False,
    resolutions: Sequence[int] | None = None,
    resolutions_per_pass: int | None = None,
    window_size: int | None = None,
    amp: bool = False,
    dtype: str | None = None,
    tta: bool = False,
    drawing: Drawing | None = None,
    resume: bool = False,
    patch_size: int | None = None,
    tokens: int | None = None,
) -> Config:
    """Return the config of a test run.

    Args:
        config: config file.
        checkpoint: checkpoint file, or a URL that MMEngine downloads.
        work_dir: folder of the log; by default the work dir of the config, or ``work_dirs/CONFIG``.
        cfg_options: overrides of the config.
        launcher: job launcher; 'none' means one process.
        strict: refuse data that would be repaired on reading, as ``strict_data = True`` in the config.
        resolutions: test resolutions in pixels; None keeps ``test_cfg``.
        resolutions_per_pass: number of resolutions evaluated in one pass over the data; None keeps that of
            ``test_cfg``, or means all.
        window_size: side in tokens of the windows of the backbone; None keeps that of the config.
        amp: test in the usual type of mixed precision: float16 on a GPU, bfloat16 on a CPU.
        dtype: test in this type, ``inference_dtype`` of the config: 'float32', 'bfloat16' or 'float16'.
        tta: use test-time augmentation.
        drawing: settings for drawing the predictions; None draws nothing.
        resume: take over the resolutions that an interrupted test in the same work dir has finished.
        patch_size: side of a patch in pixels; None keeps that of the backbone.
        tokens: number of tokens that the patch size follows from; see
            :class:`~resformer_mm.models.layers.FlexiblePatchEmbed`.

    Raises:
        FileNotFoundError: the config or the checkpoint does not exist.
        ImportError: a library of the config is missing, or needs operators of mmcv that are missing.
        ValueError: an option does not apply to the config.
    """
    cfg = _load(config, work_dir, cfg_options, launcher, strict)
    cfg.load_from = _existing(checkpoint, 'checkpoint')
    cfg.resume = False
    leave_out_strategy(cfg)
    fields = ('test_dataloader', 'test_cfg', 'test_evaluator')
    if missing := [f'`{field}`' for field in fields if cfg.get(field) is None]:
        raise ValueError(
            f'{config} has no {", ".join(missing)}: a test needs `test_dataloader`, `test_cfg` (dict() is '
            'enough) and `test_evaluator` ([] predicts without comparing)'
        )
    if amp or dtype is not None:
        cfg[FIELD] = dtype or mixed_precision_dtype()
    read_inference_dtype(cfg)
    set_patches(cfg, patch_size, tokens)
    if drawing is not None and (drawing.show or drawing.folder):
        _enable_drawing(cfg, drawing)
    if tta:
        _enable_tta(cfg)
        if drawing is not None:
            one_view = dict(type='resformer_mm.DrawOneViewHook')
            cfg.custom_hooks = [*(cfg.get('custom_hooks') or []), one_view]
    if resolutions:
        _check_resolutions(cfg, resolutions, 'tta_pipeline' if tta else 'test_dataloader.dataset.pipeline')
        _set_test_resolutions(cfg, resolutions)
    is_multi_resolution = type_name(type_field(cfg.test_cfg)) == 'MultiResolutionTestLoop'
    if resolutions_per_pass is not None:
        if not is_multi_resolution:
            raise ValueError(f'--resolutions-per-pass: {config} tests at one resolution: add --resolutions')
        cfg.test_cfg.resolutions_per_pass = resolutions_per_pass
    if window_size is not None:
        _set_window_size(cfg, window_size, config)
    if resume and is_multi_resolution:
        cfg.test_cfg.resume = True
    elif resume:
        remark('--resume', f'{config} tests at one resolution, which is tested from the beginning')
    _set_loader_defaults(cfg, ('test_dataloader',))
    return cfg


def _set_test_resolutions(cfg: Config, resolutions: Sequence[int]) -> None:
    kept = ('fp16', 'resolutions_per_pass', 'batch_resolution')
    cfg.test_cfg = dict(
        {field: cfg.test_cfg[field] for field in kept if field in cfg.test_cfg},
        type='resformer_mm.MultiResolutionTestLoop',
        resolutions=list(resolutions),
    )


def _set_window_size(cfg: Config, window_size: int, config: str | Path) -> None:
    backbone = cfg.model.get('backbone') or ConfigDict()
    if not backbone.get('window_block_indices'):
        raise ValueError(
            f'--window-size: the backbone of {config} has no windows: name their blocks, as in '
            '--cfg-options model.backbone.window_block_indices="[0,1]"'
        )
    backbone.window_size = window_size


def _load(
    config: str | Path, work_dir: str | Path | None, cfg_options: dict | None, launcher: str, strict: bool
) -> Config:
    check_launcher(launcher)
    let_first_process_speak(launcher)
    cfg = read_config(config, cfg_options)
    if strict:
        cfg.strict_data = True
    set_strict(bool(cfg.get('strict_data', False)))
    prepare_libraries(cfg)
    settle_config(cfg)
    settle_trackers(cfg)
    replace_decord(cfg._cfg_dict)
    cfg.launcher = launcher
    if work_dir is not None:
        cfg.work_dir = str(work_dir)
    elif cfg.get('work_dir') is None:
        cfg.work_dir = str(Path('work_dirs') / Path(config).stem)
    return cfg


def _existing(path: str | Path, what: str) -> str:
    path = str(path)
    if '://' not in path and not Path(path).is_file():
        if Path(path).is_dir():
            raise FileNotFoundError(
                f'{path} is a folder: give the file of the {what}, such as epoch_10.pth in it'
            )
        raise FileNotFoundError(f'there is no {what} {path}')
    return path


def _settle_resume(cfg: Config, is_required: bool) -> None:
    """Choose and check the checkpoint to resume from."""
    path = cfg.get('load_from') if cfg.get('resume') else None
    if cfg.get('resume') and path is None:
        found = find_resumable(cfg)
        if found is not None:
            path, content = found
    elif path is not None and '://' not in path:
        content = read_whole(Path(path))
    if path is not None and '://' not in str(path):
        check_resumable(path, content)
        keep_total_batch(cfg, content, place(cfg.launcher)[1])
        cfg.load_from = str(path)
        return
    if path is None and is_required:
        raise ValueError(
            f'--require-resume: there is no checkpoint in {checkpoint_folder(cfg)} to resume from'
        )
    if path is None and cfg.get('resume'):
        cfg.resume = False
        remark(
            '--resume',
            f'there is no checkpoint in {checkpoint_folder(cfg)}: THE TRAINING STARTS FROM THE BEGINNING',
        )


def _enable_amp(cfg: Config) -> None:
    wrapper = cfg.optim_wrapper
    kind = find_type(wrapper.get('type', 'OptimWrapper'), OPTIM_WRAPPERS, scope_of(cfg))
    if kind in (AmpOptimWrapper, AutocastOptimWrapper):
        return
    if kind is not OptimWrapper:
        raise ValueError(
            f'--amp cannot replace optim_wrapper.type={type_name(wrapper.type)!r}: leave it out, and set '
            'mixed precision in the config'
        )
    if get_device() == 'cpu':
        wrapper.type = 'resformer_mm.AutocastOptimWrapper'
    else:
        wrapper.type = 'AmpOptimWrapper'
        wrapper.setdefault('loss_scale', 'dynamic')


def _enable_drawing(cfg: Config, drawing: Drawing) -> None:
    hook = cfg.get('default_hooks', {}).get('visualization')
    library = library_of_config(cfg)
    if hook is None or not library.hook:
        raise ValueError(
            f'--show and --show-dir need `default_hooks.visualization` and a model of {list(LIBRARIES)}, '
            f'which {cfg.filename} does not have'
        )
    if drawing.show:
        check_display()
        if drawing.folder and not library.draws_both:
            raise ValueError(
                'mmsegmentation draws to a window or to a folder: give --show or --show-dir, not both'
            )
    # Absolute, because mmdet's hook resolves relative paths against the work dir.
    folder = str(Path(drawing.folder).absolute()) if drawing.folder else None
    hook.update({key: folder if value == FOLDER else value for key, value in library.hook.items()})
    hook.update(show=drawing.show, wait_time=drawing.wait_time, interval=drawing.interval)
    if cfg.get('visualizer') is None:  # that of MMEngine draws no samples
        cfg.visualizer = dict(type=next(iter(library.visualizer_types)))
    if folder is not None and library.visualizer:
        cfg.visualizer.update({key: folder for key in library.visualizer})
    if (kind := drawing_type(cfg.visualizer)) is not None:
        cfg.visualizer.type = kind
    names = ['PictureNamesHook', *(['DrawInEveryProcessHook'] if cfg.launcher != 'none' else [])]
    hooks = [dict(type=f'resformer_mm.{name}') for name in names]
    cfg.custom_hooks = [*(cfg.get('custom_hooks') or []), *hooks]


def _enable_tta(cfg: Config) -> None:
    """Set up test-time augmentation from the config; by default horizontal flips for classification."""
    pipeline = cfg.test_dataloader.dataset.pipeline
    if 'tta_model' not in cfg or 'tta_pipeline' not in cfg:
        library = library_of_config(cfg)
        if library is LIBRARIES['mmaction']:
            raise ValueError(
                '--tta: recognizers of mmaction2 average the views of a clip by themselves: leave out --tta, '
                'and set num_clips of SampleFrames, or add ThreeCrop, in the pipeline of test_dataloader'
            )
        if library is not LIBRARIES['mmpretrain']:
            raise ValueError(f'--tta: {cfg.filename} has no `tta_model` and `tta_pipeline`: set both')
        cfg.tta_model = dict(type='mmpretrain.AverageClsScoreTTA')
        flips = [dict(type='RandomFlip', prob=1.0), dict(type='RandomFlip', prob=0.0)]
        tta = dict(type='TestTimeAug', transforms=[flips, [deepcopy(pipeline[-1])]])
        cfg.tta_pipeline = [*deepcopy(pipeline[:-1]), tta]
    if type_name(type_field(cfg.tta_model)) == 'DetTTAModel' and _has_masks(cfg.model):
        raise ValueError(
            '--tta: mmdetection merges the boxes of several views, but not their masks: leave out --tta, or '
            'test a model without a mask head'
        )
    tta_model = cfg.tta_model.copy()
    tta_model.module = cfg.model
    cfg.model = tta_model
    cfg.test_dataloader.dataset.pipeline = cfg.tta_pipeline
    # The views of an image are a list; only pseudo_collate keeps the images separate.
    cfg.test_dataloader.collate_fn = dict(type='pseudo_collate')


def _has_masks(model: Mapping) -> bool:
    """Whether a detector predicts masks, in its config or inside its heads."""
    inner = [model[name] for name in model if isinstance(model[name], dict)]
    return model.get('mask_head') is not None or any(map(_has_masks, inner))


def _check_resolutions(cfg: Config, resolutions: Sequence[int], field: str) -> None:
    """Check that the test pipeline works at the resolutions, before anything is built."""
    pipeline = cfg.test_dataloader.dataset.get('pipeline')
    for resolution in resolutions if pipeline is not None else ():
        try:
            pipeline_at_resolution(pipeline, resolution)
        except ValueError as error:
            raise ValueError(f'--resolutions {resolution}, {field}: {error}') from error


def _set_loader_defaults(cfg: Config, fields: tuple[str, ...]) -> None:
    """Set the defaults that a library's tools set, so its configs run here as well."""
    defaults = library_of_config(cfg).loader
    for field in fields if defaults else ():
        loader = cfg.get(field)
        if loader is not None:
            for key, value in defaults.items():
                loader.setdefault(key, value)
            loader.setdefault('pin_memory', get_device() != 'cpu')
            loader.setdefault('persistent_workers', loader.get('num_workers', 0) > 0)
