"""The objects in an image, by a detector that export_onnx.py wrote, without PyTorch.

    python examples/onnx_detection.py model.onnx photo.jpg found.png

It needs numpy, onnxruntime and Pillow. The image is resized as in evaluation. Each printed row has the score,
the corners x1, y1, x2, y2 of the box in pixels of the image, and the class. Boxes and masks are drawn.
"""

import argparse
import json

import numpy as np
import onnxruntime
from onnx_images import as_array, open_image, prepare
from PIL import Image, ImageDraw

COLOURS = ('#e6194b', '#3cb44b', '#4363d8', '#f58231', '#911eb4', '#008080', '#9a6324', '#808000')


def main():
    """Print the objects, and draw them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument('model', help='ONNX file of a detector')
    parser.add_argument('image', help='image file')
    parser.add_argument('out', help='image file to write')
    parser.add_argument('--score-thr', type=float, default=0.3, help='minimum score of an object (0.3)')
    args = parser.parse_args()

    session = onnxruntime.InferenceSession(args.model, providers=['CPUExecutionProvider'])
    metadata = session.get_modelmeta().custom_metadata_map
    if metadata.get('task') != 'detection':
        parser.error(f'{args.model} is not an exported detector')
    image = open_image(args.image)
    (resized,) = prepare(image, metadata)
    boxes, scores, labels, *masks = session.run(None, {'image': as_array([resized])})
    boxes = boxes * np.tile(np.divide(image.size, resized.size), 2)  # in pixels of the file
    names = json.loads(metadata.get('classes', 'null')) or [
        str(index) for index in range(labels.max(initial=0) + 1)
    ]
    picture = image.copy()
    drawing = ImageDraw.Draw(picture)
    for index in np.flatnonzero(scores >= args.score_thr)[::-1]:  # the best on top
        colour = COLOURS[labels[index] % len(COLOURS)]
        if masks:
            inside = paste(masks[0][index], boxes[index], image.size) >= float(metadata['mask_threshold'])
            picture.paste(colour, mask=Image.fromarray(inside.astype(np.uint8) * 128))
        drawing.rectangle(boxes[index].tolist(), outline=colour)
        drawing.text(
            boxes[index, :2].tolist(), names[labels[index]], 'white', stroke_width=1, stroke_fill='black'
        )
    picture.save(args.out)
    for score, box, label in zip(scores, boxes, labels):
        if score >= args.score_thr:
            print(f'{score:.4f}  {" ".join(f"{side:.1f}" for side in box)}  {names[label]}')


def paste(mask, box, size):
    """Return the probabilities of a mask in the pixels of an image, 0 outside its box."""
    steps = [cells / max(end - start, 1e-6) for cells, start, end in zip(mask.shape[::-1], box[:2], box[2:])]
    matrix = (steps[0], 0, -steps[0] * box[0], 0, steps[1], -steps[1] * box[1])
    kinds = Image.Transform.AFFINE, Image.Resampling.BILINEAR
    return np.asarray(Image.fromarray(mask).transform(size, kinds[0], matrix, kinds[1]))


if __name__ == '__main__':
    main()
