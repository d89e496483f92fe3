"""Images of experiments: class folders that the user names, or data that the project generates."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
GENERATOR = ROOT / 'tools' / 'dataset_converters' / 'make_embedded_data.py'
IMAGE_ENDINGS = ('.jpg', '.jpeg', '.png')


class DataError(Exception):
    """The images of an experiment are missing; the message names the option."""


@dataclass(frozen=True)
class ImageData:
    """Where the images of an experiment are.

    Attributes:
        test_images: number of images of the test.
        train_variables: environment variables of a training.
        test_variables: environment variables of a test.
        test_options: fields of the config that differ in a test, as ``FIELD=VALUE``.
    """

    test_images: int
    train_variables: Mapping[str, str]
    test_variables: Mapping[str, str]
    test_options: Sequence[str] = ()


@dataclass(frozen=True)
class ClassFolders:
    """Images in folders of their classes, which the user names.

    Attributes:
        variable: environment variable of the configs that names the folder of the training images.
    """

    variable: str = 'MINI_DATA_ROOT'

    def find(self, train: Path | None, test: Path | None) -> ImageData:
        """Return where the images are.

        Args:
            train: folder with ``train/CLASS`` and ``val/CLASS``.
            test: folder with ``CLASS``, the test images.

        Raises:
            DataError: a folder is not given or does not exist.
        """
        variables = {self.variable: str(_folder(train, '--train-data').absolute())}
        test = _folder(test, '--test-data').absolute()
        images = sum(file.suffix.lower() in IMAGE_ENDINGS for file in test.glob('*/*'))
        dataset = 'test_dataloader.dataset'
        return ImageData(
            images, variables, variables, (f'{dataset}.data_root={test}', f'{dataset}.data_prefix=')
        )


def _folder(path: Path | None, option: str) -> Path:
    if path is None:
        raise DataError(f'{option} is missing')
    if not path.is_dir():
        raise DataError(f'{option} {path} is not a folder')
    return path


@dataclass(frozen=True)
class GeneratedData:
    """Data of ``make_embedded_data.py``, which is written where it is missing.

    Attributes:
        task: task of the data.
        variable: environment variable of the configs that names the folder of the data.
        train: default folder of the training data, relative to the project, as its config has it.
        test: default folder of the test data, whose validation images are the test.
        test_options: options of the tool for the test data, besides the number of validation images.
        test_images: number of validation images of the test data.
    """

    task: str
    variable: str
    train: str
    test: str
    test_options: Mapping[str, int] = field(default_factory=dict)
    test_images: int = 100

    def find(self, train: Path | None, test: Path | None) -> ImageData:
        """Return where the data is, after writing what is missing.

        Args:
            train: folder of the training data; None for the default.
            test: folder of the test data; None for the default.

        Raises:
            DataError: the tool refused to write a folder, for example because of other files in it.
        """
        train = (train or ROOT / self.train).absolute()
        test = (test or ROOT / self.test).absolute()
        self._write(train, '--train-data', {})
        self._write(test, '--test-data', {**self.test_options, 'num-train': 1, 'num-val': self.test_images})
        return ImageData(self.test_images, {self.variable: str(train)}, {self.variable: str(test)})

    def _write(self, folder: Path, option: str, numbers: Mapping[str, int]) -> None:
        words = [sys.executable, str(GENERATOR), str(folder), '--task', self.task]
        words += [word for name, number in numbers.items() for word in (f'--{name}', str(number))]
        if subprocess.run(words).returncode:
            raise DataError(f'{option} {folder}: the data could not be written, see above')


@dataclass(frozen=True)
class AnnotatedFolder:
    """Images with boxes, in a folder that ``convert_annotations.py --to coco`` has written.

    Attributes:
        variable: environment variable of the configs that names the folder.
        split: split of the test, as the configs have it.
    """

    variable: str
    split: str = 'test'

    def find(self, train: Path | None, test: Path | None) -> ImageData:
        """Return where the images are.

        Args:
            train: the folder.
            test: another folder for the test; None for the same one.

        Raises:
            DataError: a folder is not given, does not exist, or has no annotations of the split.
        """
        train = _folder(train, '--train-data').absolute()
        test = train if test is None else _folder(test, '--test-data').absolute()
        file = test / 'annotations' / f'instances_{self.split}.json'
        if not file.is_file():
            raise DataError(
                f'there is no {file}: tools/dataset_converters/convert_annotations.py SOURCE FOLDER '
                '--to coco writes it from a folder with such a split'
            )
        images = len(json.loads(file.read_text(encoding='utf-8'))['images'])
        return ImageData(images, {self.variable: str(train)}, {self.variable: str(test)})
