"""Backbones that are saved with their settings, and built in one line from what was saved."""

from __future__ import annotations

import copy
import importlib
import inspect
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mmengine.model import BaseModule

if TYPE_CHECKING:
    from typing_extensions import Self  # part of `typing` since Python 3.11


# They say where the first weights came from, not what the model is.
INITIALISATION = ('pretrained', 'init_cfg')
_IMPLEMENTATION = 'resformer_mm.checkpoints.saved_models'  # it imports this package


class SavedBackbone(BaseModule):
    """Base of backbones that know the settings they were constructed with.

    Attributes:
        settings: arguments of the constructor by name, except for those that initialise the weights.
    """

    settings: dict[str, Any]

    def __new__(cls, *args, **kwargs) -> Self:
        """Record the settings."""
        model = super().__new__(cls)
        # A dict entry, because modules set attributes only after `__init__`.
        model.__dict__['settings'] = constructor_settings(cls, args, kwargs)
        return model

    def save_pretrained(self, target: str | Path) -> Path:
        """Save the weights and settings for :meth:`from_pretrained`; return the file of the weights.

        Args:
            target: a folder, which gets ``model.safetensors`` and ``config.json``, the names of the Hugging
                Face hub; or a file that ends in ``.safetensors``, ``.pth`` or ``.pt``, with the settings in a
                file of the same name that ends in ``.json``.

        Raises:
            CheckpointError: a setting cannot be stored, the modules are not those of the settings any more,
                or the files cannot be written.
        """
        return importlib.import_module(_IMPLEMENTATION).save_model(self, target)

    @classmethod
    def from_pretrained(
        cls,
        source: str | Path,
        *,
        position: str | None = None,
        key: str | None = None,
        allow_missing: bool = False,
        **settings,
    ) -> Self:
        """Build a backbone with the settings and weights of a file, in evaluation mode, on the CPU.

        The log says what the file does not have and what is left out. Settings that were not saved with the
        weights follow from the shapes; the width of a head is then taken as 64 channels if there is no LPE.
        Settings without weights, such as windows, do not follow, and have their defaults.

        Args:
            source: a folder or file of :meth:`save_pretrained`, or any checkpoint that
                :func:`~resformer_mm.checkpoints.load_pretrained` accepts; the name of a model of the zoo,
                which is never downloaded; ``'hf-hub:owner/name'``, perhaps with ``@revision``, or a URL,
                which are.
            position: 'gpe' or 'learned' for a ViT; see :func:`~resformer_mm.checkpoints.convert_weights`.
            key: entry of the file that holds the weights, by default the usual one.
            allow_missing: keep the initialisation of what the file lacks without a reason.
            **settings: arguments of the constructor that replace those of the file, such as ``out_type``.

        Raises:
            CheckpointError: there is no such file or name, it cannot be read safely, or it does not fit.
            ValueError: the constructor rejects a setting.
        """
        module = importlib.import_module(_IMPLEMENTATION)
        return module.load_model(cls, source, settings, position, key, allow_missing)


def constructor_settings(kind: type, args: Sequence, kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments of a constructor by name, with the defaults of its own signature.

    Positional arguments that it passes on have the names of the next class of its kind.
    """
    names: list[str] = []
    signatures = list(_signatures(kind))
    settings = {p.name: p.default for p in signatures[0] if p.default is not p.empty}
    for parameters in signatures:
        names += [p.name for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD]
        if not any(p.kind is p.VAR_POSITIONAL for p in parameters):
            break
    settings.update(zip(names, args), **kwargs)
    return copy.deepcopy({name: value for name, value in settings.items() if name not in INITIALISATION})


def setting_names(kind: type) -> set[str]:
    """Return the names of all settings of a class, with those that its constructor passes on."""
    parameters = [p for signature in _signatures(kind) for p in signature]
    names = {p.name for p in parameters if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)}
    return names - {*INITIALISATION}


def _signatures(kind: type) -> Iterator[list[inspect.Parameter]]:
    """Yield the parameters of the constructor, and of those that it passes arguments on to."""
    for base in kind.__mro__:
        constructor = base.__dict__.get('__init__')
        if constructor is not None:
            parameters = list(inspect.signature(constructor).parameters.values())[1:]
            yield parameters
            if not any(p.kind in (p.VAR_POSITIONAL, p.VAR_KEYWORD) for p in parameters):
                return
