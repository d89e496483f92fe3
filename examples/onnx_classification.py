"""The classes of an image, by a classifier that export_onnx.py wrote, without PyTorch.

    python examples/onnx_classification.py model.onnx photo.jpg

It needs numpy, onnxruntime and Pillow. The image is resized as in evaluation, as the file says.
"""

import argparse
import json

import numpy as np
import onnxruntime
from onnx_images import as_array, open_image, prepare


def main():
    """Print the most probable classes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument('model', help='ONNX file of a classifier')
    parser.add_argument('image', help='image file')
    parser.add_argument('--topk', type=int, default=5, help='number of classes (5)')
    args = parser.parse_args()

    session = onnxruntime.InferenceSession(args.model, providers=['CPUExecutionProvider'])
    metadata = session.get_modelmeta().custom_metadata_map
    if metadata.get('task') != 'classification':
        parser.error(f'{args.model} is not an exported classifier')
    images = as_array(prepare(open_image(args.image), metadata))
    (logits,) = session.run(None, {'image': images})
    scores = np.exp(logits[0] - logits[0].max())
    scores /= scores.sum()
    classes = json.loads(metadata.get('classes', 'null')) or [str(index) for index in range(len(scores))]
    for index in np.argsort(-scores, kind='stable')[: args.topk]:
        print(f'{scores[index]:.4f}  {classes[index]}')


if __name__ == '__main__':
    main()
