"""Extraction of features: every image is decoded once, and seen once at every resolution."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from resformer_mm.analysis.attention_maps import BlockPass, run_to_block
from resformer_mm.analysis.patch_colours import PatchMap
from resformer_mm.config.resolutions import check_resolutions
from resformer_mm.inference.views import ImageViews
from resformer_mm.progress import track

from .backbone import FrozenBackbone
from .data import LabelledImages
from .storage import CLASS_TOKEN, PATCH_MEAN, Features


def extract(
    model: FrozenBackbone,
    images: LabelledImages,
    resolutions: Sequence[int],
    block: int = -1,
    batch_size: int = 64,
    num_workers: int = 0,
    show_progress: bool = False,
) -> Features:
    """Return the features of images: the class token, if there is one, and the mean of the patches.

    Those of the last block are normalised by the final norm, if the backbone has one.

    Args:
        model: the backbone.
        images: the images.
        resolutions: resolutions in pixels.
        block: block whose output is taken, counted from 0; negative ones from the last.
        batch_size: images of a forward pass.
        num_workers: processes that read images.
        show_progress: whether to show a progress bar on the standard error.

    Raises:
        InputError: an image cannot be read.
        ValueError: a resolution is below one patch or not a positive integer, there is no such block, or
            features are not numbers.
    """
    resolutions = check_resolutions(resolutions, 'resolutions', descending=False)
    kinds = [CLASS_TOKEN, PATCH_MEAN] if model.backbone.with_cls_token else [PATCH_MEAN]
    keys = [(side, kind) for side in resolutions for kind in kinds]
    parts: dict[tuple[int, str], list[np.ndarray]] = {key: [] for key in keys}
    loader = DataLoader(
        ImageViews(images.paths, model.transforms, resolutions),
        batch_size,
        num_workers=num_workers,
        collate_fn=list,
    )
    for samples in track(loader, 'Features, batches', shown=show_progress):
        for side, inputs in zip(resolutions, zip(*samples)):
            for kind, features in _forward(model, inputs, block).items():
                parts[side, kind].append(features)
    values = {key: np.concatenate(arrays) for key, arrays in parts.items()}
    if broken := [f'{kind} at {side}' for side, kind in keys if not np.isfinite(values[side, kind]).all()]:
        raise ValueError(f'features are not numbers (NaN or infinite): {", ".join(broken)}')
    index = block % (model.backbone.out_indices[-1] + 1)
    settings = dict(
        model=model.name,
        weights_sha256=model.sha256,
        block=index,
        final_norm=index == model.backbone.num_layers - 1 and model.backbone.norm is not None,
        mean=model.mean,
        std=model.std,
        to_rgb=model.to_rgb,
        dtype=model.dtype,
        pipeline=[str(dict(step)) for step in model.transforms],
    )
    return Features(
        list(images.paths), np.array(images.labels), list(images.splits), images.classes, values, settings
    )


@torch.no_grad()
def patch_map(model: FrozenBackbone, path: str, resolution: int, block: int = -1) -> PatchMap:
    """Return the features of the patches of an image, as the pipeline crops it; see :func:`extract`.

    Raises:
        InputError: the image cannot be read.
        ValueError: there is no such block, or the resolution is below one patch.
    """
    [image] = ImageViews([path], model.transforms, [resolution])[0]
    passed = _run(model, image[None], block)
    [tokens] = model.backbone.patch_tokens(passed.features)
    # Pipelines of all libraries load BGR.
    picture = image.flip(0).permute(1, 2, 0).to(torch.uint8).numpy()
    features = passed.by_patch(tokens).float().cpu().numpy()
    return PatchMap(picture, features, model.backbone.patch_embed.size_for(*image.shape[1:]))


@torch.no_grad()
def _forward(model: FrozenBackbone, inputs: Sequence[Tensor], block: int) -> dict[str, np.ndarray]:
    """Return the features of a batch by their kind, ``(B, C)``; images of several sizes go one by one."""
    same = len({tuple(image.shape) for image in inputs}) == 1
    found: dict[str, list[Tensor]] = {}
    for batch in [inputs] if same else [[image] for image in inputs]:
        tokens = _run(model, torch.stack(list(batch)), block).features
        if model.backbone.with_cls_token:
            found.setdefault(CLASS_TOKEN, []).append(tokens[:, 0])
        found.setdefault(PATCH_MEAN, []).append(model.backbone.patch_tokens(tokens).mean(dim=1))
    return {kind: torch.cat(values).float().cpu().numpy() for kind, values in found.items()}


def _run(model: FrozenBackbone, images: Tensor, block: int) -> BlockPass:
    with model.precision():
        return run_to_block(model.backbone, model.normalise(images), block)
