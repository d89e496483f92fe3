"""Config zoos of the installed libraries: a config per kind of model; kinds without a backbone to swap."""

from __future__ import annotations

import importlib.util
import re
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from mmengine.config import Config, ConfigDict

LIBRARIES = ('mmpretrain', 'mmseg', 'mmdet', 'mmaction')

MASKED = 'masked-image pretraining: its loss calls the backbone with a mask and reconstructs masked patches'
LANGUAGE = 'image and text: the vision part belongs to a pretrained language model'
FEATURES = 'localisation in features that were computed beforehand: no backbone'
TRACKER = 'tracker: it has no loss; its detector is trained by a config of its own'
ELSEWHERE = 'model of another library, whose zoo has a row for it'

# Kinds of models that have no backbone for images or clips to replace: pattern of model.type -> reason.
EXCLUDED: dict[str, dict[str, str]] = {
    'mmpretrain': {
        'BEiT|CAE|EVA|MAE|MFF|MILAN|MaskFeat|MixMIM|SimMIM|SparK|iTPN': MASKED,
        'Blip.*|CLIPZeroShot|ChineseCLIP|Flamingo|Llava|MiniGPT4|OFA|Otter': LANGUAGE,
        'MaskRCNN': ELSEWHERE,
    },
    'mmseg': {
        'MultimodalEncoderDecoder': LANGUAGE,
        'DepthEstimator': 'the head decodes the attention maps of a diffusion model, from a text prompt',
    },
    'mmdet': {
        'GLIP|GroundingDINO': LANGUAGE,
        'ByteTrack|DeepSORT|OCSORT|StrongSORT|SORT': TRACKER,
        'SoftTeacher': 'semi-supervised wrapper of a Faster R-CNN, which has a row',
        'Detectron2Wrapper': 'the model is built by Detectron2 from its own configs',
        'ImageClassifier': ELSEWHERE,
    },
    'mmaction': {
        'BMN|DRN|PEM|TEM|TCANet': FEATURES,
        'CLIPSimilarity|VindLU.*': LANGUAGE,
        'RecognizerAudio': 'audio',
    },
}


@dataclass
class Kind:
    """Models of one type, neck and heads.

    Attributes:
        library: name of the package.
        config: representative, relative to the folder of configs.
        configs: number of configs of this kind.
        settings: the representative.
        excluded: why there is no backbone to swap; empty if there is one.
    """

    library: str
    config: str
    configs: int
    settings: Config
    excluded: str

    @property
    def model(self) -> str:
        return type_name(self.settings.model)

    @property
    def neck(self) -> str:
        return ' + '.join(_types(detector(self.settings.model).get('neck')))

    @property
    def head(self) -> str:
        model = self.settings.model
        heads = _heads(model)
        if 'detector' in model:
            heads += _heads(model.detector)
        return ' + '.join(dict.fromkeys(heads))


def zoo(library: str) -> Path | None:
    """Return the folder of configs in an installed library; None if the library or the folder is missing."""
    spec = importlib.util.find_spec(library)
    if spec is None or spec.origin is None:
        return None
    folder = Path(spec.origin).parent / '.mim' / 'configs'
    return folder if folder.is_dir() else None


def kinds(library: str, pattern: str = '*') -> tuple[list[Kind], list[str]]:
    """Return the kinds of models of a zoo, and what is wrong with configs that cannot be read.

    Args:
        library: name of the package.
        pattern: of config paths relative to the zoo, as in a shell.
    """
    folder = zoo(library)
    assert folder is not None
    groups: dict[tuple[str, ...], list[tuple[str, Config]]] = {}
    unreadable = []
    for path in sorted(folder.rglob('*.py')):
        name = path.relative_to(folder).as_posix()
        if '_base_' in path.parts or not fnmatch(name, pattern):
            continue
        try:
            cfg = Config.fromfile(path, import_custom_modules=False)
        except Exception as error:  # broken in the zoo: a missing base, an undefined name
            unreadable.append(f'{name}: {type(error).__name__}: {" ".join(str(error).split())[:120]}')
            continue
        if 'model' in cfg:
            groups.setdefault(_key(cfg.model), []).append((name, cfg))
    found = []
    for members in groups.values():
        name, cfg = min(members, key=_effort)
        found.append(Kind(library, name, len(members), cfg, _exclusion(library, name, cfg.model)))
    return sorted(found, key=lambda kind: kind.config), unreadable


def type_name(settings: ConfigDict) -> str:
    """Return the type of a module without its scope."""
    kind = settings.get('type')
    return kind.split('.')[-1] if isinstance(kind, str) else getattr(kind, '__name__', '')


def detector(model: ConfigDict) -> ConfigDict:
    """Return the model, or the detector inside a tracker: what has the backbone and the neck."""
    return model.detector if 'backbone' not in model and 'detector' in model else model


def drop_downloads(settings: Any) -> None:
    """Take pretrained weights out of the settings of a model and its parts, in place."""
    for value in settings.values() if isinstance(settings, dict) else settings:
        if isinstance(value, (dict, list, tuple)):
            drop_downloads(value)
    if isinstance(settings, dict):
        initial = settings.get('init_cfg')
        if isinstance(initial, dict) and type_name(initial) in ('Pretrained', 'PretrainedInit'):
            settings.init_cfg = None
        if isinstance(settings.get('pretrained'), str):
            settings.pretrained = None


def _types(settings: Any) -> list[str]:
    if isinstance(settings, (list, tuple)):
        return [name for item in settings for name in _types(item)]
    return [type_name(settings)] if isinstance(settings, dict) and type_name(settings) else []


def _heads(settings: ConfigDict) -> list[str]:
    """Return the types of all heads, and of the pixel decoders of heads, in order."""
    found: list[str] = []
    for key, value in settings.items():
        if 'head' in key or key == 'pixel_decoder':
            found += _types(value)
            for child in value if isinstance(value, (list, tuple)) else [value]:
                if isinstance(child, dict):
                    found += _heads(child)
    return found


def _key(model: ConfigDict) -> tuple[str, ...]:
    inner = detector(model)
    heads = dict.fromkeys(_heads(model) + _heads(inner))
    return (type_name(model), *_types(inner.get('neck')), '|', *heads)


def _effort(member: tuple[str, Config]) -> tuple:
    """Order configs of one kind: images, backbones of the library itself, small ones, short names."""
    name, cfg = member
    backbone = detector(cfg.model).get('backbone') or {}
    kind = backbone.get('type', '')
    foreign = isinstance(kind, str) and '.' in kind
    numbers = [backbone.get(key) for key in ('depth', 'embed_dims')]
    skeleton = name.startswith('skeleton/')
    return (
        skeleton,
        foreign,
        *(number if isinstance(number, int) else 0 for number in numbers),
        len(name),
        name,
    )


def _exclusion(library: str, config: str, model: ConfigDict) -> str:
    if config.startswith('skeleton/'):
        return 'joints of skeletons, not images'
    for pattern, reason in EXCLUDED[library].items():
        if re.fullmatch(pattern, type_name(model)):
            return reason
    if type_name(model) == 'ImageClassifier' and not model.get('head'):
        return 'feature extractor without a head: no loss'
    return ''
