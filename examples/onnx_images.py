"""Images as an exported model takes them, with numpy and Pillow alone; part of the other examples."""

import json

import numpy as np
from PIL import Image, ImageOps


def open_image(path):
    """Return an image file as RGB, turned as its EXIF rotation says."""
    return ImageOps.exif_transpose(Image.open(path)).convert('RGB')


def prepare(image, metadata):
    """Return the parts of an image that the model sees, as in evaluation: one, or three crops for clips."""
    if 'resizing' not in metadata:
        raise SystemExit('the file does not say how evaluation resizes images: resize them yourself')
    for step in json.loads(metadata['resizing']):
        if 'resize' in step:
            image = resize(image, step)
        elif 'crop' in step:
            half = (
                (lambda rest: round(rest / 2)) if step['rounding'] == 'nearest' else (lambda rest: rest // 2)
            )
            height, width = (min(pair) for pair in zip(step['crop'], (image.height, image.width)))
            left, top = half(image.width - width), half(image.height - height)
            image = image.crop((left, top, left + width, top + height))
        else:
            height, width = step['crops']
            right, down = (image.width - width) // 2, (image.height - height) // 2
            corners = [(part * right, part * down) for part in (0, 2, 1)]
            return [image.crop((x, y, x + width, y + height)) for x, y in corners]
    return [image]


def resize(image, step):
    """Return the image after one of the steps that resize."""
    (width, height), target = image.size, step['resize']
    if isinstance(target, list):
        size = (target[1], target[0])
    else:
        limits, part = [(target, 1)], 0.5 if step['rounding'] == 'nearest' else 0
        if isinstance(target, dict):
            short, long = sorted((width, height))
            limits = [(a, b) for a, b in ((target['short'], short), (target['long'], long)) if a]
        limit, side = min(limits, key=lambda pair: pair[0] / pair[1])
        size = (int(width * limit / side + part), int(height * limit / side + part))
    kind = Image.Resampling[step['interpolation'].upper()]
    if step['antialias']:
        return image.resize(size, kind)
    # OpenCV does not average when it shrinks. Pillow's transformation does not, either.
    return image.transform(size, Image.Transform.EXTENT, (0, 0, width, height), kind)


def as_array(images):
    """Return images of one size as float32 ``(number, 3, height, width)``."""
    return np.stack([np.asarray(image, np.float32).transpose(2, 0, 1) for image in images])
