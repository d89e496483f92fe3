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
    task = task_of_class(type(model))
    reference = None if task is None else task.deployment
    kind: type[DeployableModel] = DeployableModel if reference is None else import_name(reference)
    if unknown := [name for name in options if name not in kind.options]:
        raise ExportError(
            f'the option {", ".join(unknown)} does not apply to {type(model).__name__}: '
            + (f'its options are {", ".join(kind.options)}' if kind.options else 'it has no options')
        )
    return kind(model, **options)
