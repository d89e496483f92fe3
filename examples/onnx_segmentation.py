"""The label map of an image, by a segmentor that export_onnx.py wrote, without PyTorch.

    python examples/onnx_segmentation.py model.onnx photo.jpg labels.png

It needs numpy, onnxruntime and Pillow. The image is resized as in evaluation. With a model exported with
`--output scores`, the map is that of evaluation: scores are interpolated to the size of the image. Label maps
are enlarged without interpolation. The PNG has the index of the class of each pixel.
"""

import argparse
import json

import numpy as np
import onnxruntime
from onnx_images import as_array, open_image, prepare
from PIL import Image


def main():
    """Write the label map, and print how much of the image each class covers."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument('model', help='ONNX file of a segmentor')
    parser.add_argument('image', help='image file')
    parser.add_argument('out', help='PNG file to write')
    args = parser.parse_args()

    session = onnxruntime.InferenceSession(args.model, providers=['CPUExecutionProvider'])
    metadata = session.get_modelmeta().custom_metadata_map
    if metadata.get('task') != 'segmentation':
        parser.error(f'{args.model} is not an exported segmentor')
    image = open_image(args.image)
    (output,) = session.run(None, {'image': as_array(prepare(image, metadata))})
    if output.ndim == 3:  # labels
        small = Image.fromarray(output[0].astype(np.uint8 if output.dtype == np.uint8 else np.uint16))
        labels = np.asarray(small.resize(image.size, Image.Resampling.NEAREST))
    else:
        corners, linear = (0, 0, output.shape[3], output.shape[2]), Image.Resampling.BILINEAR
        maps = [
            np.asarray(Image.fromarray(scores).transform(image.size, Image.Transform.EXTENT, corners, linear))
            for scores in output[0]
        ]
        if 'threshold' in metadata:  # one score, of class 1
            labels = (1 / (1 + np.exp(-maps[0])) > float(metadata['threshold'])).astype(np.uint8)
        else:
            labels = np.argmax(maps, axis=0).astype(np.uint8 if len(maps) <= 256 else np.uint16)
    picture = Image.fromarray(labels)
    if 'palette' in metadata and labels.dtype == np.uint8:
        picture.putpalette(np.array(json.loads(metadata['palette']), np.uint8).tobytes())
    picture.save(args.out)
    names = json.loads(metadata.get('classes', 'null')) or [str(index) for index in range(labels.max() + 1)]
    for index in np.argsort(-np.bincount(labels.flat), kind='stable'):
        if share := (labels == index).mean():
            print(f'{share:.4f}  {names[index]}')


if __name__ == '__main__':
    main()
