"""The classes of a video, by a recognizer that export_onnx.py wrote, without PyTorch.

    python examples/onnx_video.py model.onnx frames/
    python examples/onnx_video.py model.onnx clip.gif

It needs numpy, onnxruntime and Pillow. The input is a folder of frames, in the order of their names, or a
GIF. Frames are sampled, resized and cropped as in evaluation, as the file says.
"""

import argparse
import json
from pathlib import Path

import numpy as np
import onnxruntime
from onnx_images import as_array, open_image, prepare
from PIL import Image, ImageSequence


def main():
    """Print the most probable classes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument('model', help='ONNX file of a recognizer')
    parser.add_argument('video', type=Path, help='folder of frames, or GIF')
    parser.add_argument('--topk', type=int, default=5, help='number of classes (5)')
    args = parser.parse_args()

    session = onnxruntime.InferenceSession(args.model, providers=['CPUExecutionProvider'])
    metadata = session.get_modelmeta().custom_metadata_map
    if metadata.get('task') != 'video':
        parser.error(f'{args.model} is not an exported recognizer')
    if args.video.is_dir():
        video = [open_image(path) for path in sorted(args.video.iterdir())]
    else:
        video = [frame.convert('RGB') for frame in ImageSequence.Iterator(Image.open(args.video))]
    if 'sampling' not in metadata:
        parser.error(f'{args.model} does not say how evaluation samples frames: sample them yourself')
    sampled = [video[index] for index in sample(len(video), **json.loads(metadata['sampling']))]
    parts = [prepare(frame, metadata) for frame in sampled]  # crops of every frame
    frames = np.stack([as_array(crop) for crop in zip(*parts)])  # (crops, clips * frames, 3, height, width)
    length = json.loads(metadata['sampling'])['frames']
    clips = frames.reshape(-1, length, *frames.shape[2:]).swapaxes(1, 2)
    (scores,) = session.run(None, {'clips': clips[None]})
    classes = json.loads(metadata.get('classes', 'null')) or [str(index) for index in range(len(scores[0]))]
    for index in np.argsort(-scores[0], kind='stable')[: args.topk]:
        print(f'{scores[0, index]:.4f}  {classes[index]}')


def sample(total, clips, frames, interval):
    """Return the indices of the frames of all clips of a video; a short video starts again."""
    rest = max(total - (frames - 1) * interval - 1, 0)
    if frames == 1:
        starts = (np.arange(clips) + 0.5) * total / clips
    else:
        starts = np.round(np.linspace(0, rest, clips)) if clips > 1 else np.array([rest // 2])
    return ((starts[:, None] + np.arange(frames) * interval) % total).astype(int).ravel()


if __name__ == '__main__':
    main()
