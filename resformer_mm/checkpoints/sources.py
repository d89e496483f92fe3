"""What a user names as weights: a path, a model of the zoo, a repository of the hub, or a URL."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import urlparse

import yaml
from torch.hub import get_dir

from . import hub
from .folders import folder_fault, weights_of_folder
from .reading import CheckpointError

# Also in a clone, where it consists of links.
_INDEX = Path(__file__).parents[1] / '.mim' / 'model-index.yml'


def locate(source: str | Path) -> str | Path:
    """Return the file, or the URL, of weights.

    Only ``hf-hub:owner/name`` is fetched here. A name of the model zoo never is: its file is taken from the
    cache of PyTorch, or its URL is told.

    Raises:
        CheckpointError: there is no such file, or no model of this name; or its weights must be fetched.
        ImportError: ``hf-hub:`` needs huggingface_hub.
    """
    text = str(source)
    if text.startswith(hub.PREFIX):
        return hub.fetch(text)
    if '://' in text:
        return text
    path = Path(source).expanduser()
    if path.is_dir():
        file = weights_of_folder(path)
        if file is None:
            raise CheckpointError(f'{path} {folder_fault(path)}')
        return file
    if path.exists() or isinstance(source, Path):
        return path  # reading tells what is wrong with it
    return _of_zoo(text)


def zoo_weights(index: Path = _INDEX) -> dict[str, str | None]:
    """Return the URL of the weights of each model of the zoo by name; None where none are published."""
    root = index.parent
    # The index has those with published or measured results.
    configs = [path.stem for path in root.glob('configs/*/**/*.py') if '_base_' not in path.parts]
    files = yaml.safe_load(index.read_text(encoding='utf-8'))['Import']
    models = [
        model
        for file in files
        for model in yaml.safe_load((root / file).read_text(encoding='utf-8'))['Models']
    ]
    return {**dict.fromkeys(configs), **{model['Name']: model.get('Weights') for model in models}}


def _of_zoo(name: str) -> Path:
    """Return the file of a model of the zoo in the cache of PyTorch."""
    urls = zoo_weights(_INDEX)
    if name in urls:
        url = urls[name]
        if url is None:
            raise CheckpointError(
                f'{name} is a config of the model zoo for which no weights are published: train it, or give '
                'the file of a checkpoint'
            )
        file = Path(get_dir(), 'checkpoints', Path(urlparse(url).path).name)
        if not file.is_file():
            raise CheckpointError(
                f'the weights of {name} are at {url}, and names are never downloaded: give this URL instead'
            )
        return file
    if len(Path(name).parts) == 2 and not Path(name).suffix:
        raise CheckpointError(
            f"{name} does not exist: give a path, or 'hf-hub:{name}' if it is a repository of the Hugging "
            'Face hub'
        )
    if len(Path(name).parts) > 1 or Path(name).suffix in ('.pth', '.pt', '.bin', '.ckpt', '.safetensors'):
        raise CheckpointError(f'{name} does not exist: give the path of a checkpoint file')
    known = ', '.join(sorted(known for known in urls if 'mini' not in known))
    raise CheckpointError(f'{name} is neither a file nor a model of the zoo. The models are: {known}')
