"""Choice of the class that exports a model."""

from __future__ import annotations

from torch import nn

from resformer_mm.libraries import import_name, task_of_class

from .model import DeployableModel, ExportError


def deployable(model: nn.Module, **options: object) -> DeployableModel:
    """Return a model as a module to export, of the class for its task.

    Args:
        model: model from :func:`resformer_mm.apis.load_model`, or a backbone.
        **options: options of the task, arguments of the class.

    Raises:
        ExportError: the model cannot be exported, or an option does not apply to it or is invalid.
    """
    kind = _class_of(model)
    if unknown := [name for name in options if name not in kind.options]:
        raise ExportError(
            f'the option {", ".join(unknown)} does not apply to {type(model).__name__}: '
            + (f'its options are {", ".join(kind.options)}' if kind.options else 'it has no options')
        )
    return kind(model, **options)


def evaluable(model: nn.Module) -> DeployableModel:
    """Return a model as a module whose exported files can be evaluated.

    Args:
        model: model from :func:`resformer_mm.apis.load_model`.

    Raises:
        ExportError: the model cannot be exported, or its files cannot be evaluated.
    """
    found = deployable(model, **_class_of(model).evaluation)
    found.require_predictions()
    return found


def _class_of(model: nn.Module) -> type[DeployableModel]:
    task = task_of_class(type(model))
    reference = None if task is None else task.deployment
    return DeployableModel if reference is None else import_name(reference)
