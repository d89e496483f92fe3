"""Files and classes of the images of a data set, without reading the images."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from mmengine.registry import DATASETS


@dataclass(frozen=True)
class ImageLabels:
    """Image files with one class each.

    Attributes:
        paths: the files.
        labels: number of the class of each.
        classes: names of the classes; empty if the data set has none.
    """

    paths: list[str]
    labels: list[int]
    classes: tuple[str, ...]


def image_labels(settings: Mapping[str, Any], what: str, needed_by: str) -> ImageLabels:
    """Return the files and classes of a data set; the default scope must be that of its config.

    Args:
        settings: settings of the data set.
        what: which data set it is, for messages.
        needed_by: what needs it, for messages.

    Raises:
        ValueError: the data set is empty, or has samples without an image file and one class.
    """
    data = DATASETS.build({**settings, 'pipeline': []})
    found = [data.get_data_info(index) for index in range(len(data))]
    if not found:
        raise ValueError(f'the data set of {what} is empty')
    paths, labels = [], []
    for info in found:
        label = np.asarray(info.get('gt_label', []))
        if 'img_path' not in info or label.size != 1:
            raise ValueError(
                f'{type(data).__name__} of {what}: {needed_by} need files of images with one class each, as '
                'in class folders'
            )
        paths.append(str(info['img_path']))
        labels.append(int(label.reshape(())))
    return ImageLabels(paths, labels, tuple(data.metainfo.get('classes') or ()))
