"""A hook that makes an average of the weights the teacher of the model."""

from __future__ import annotations

from mmengine.hooks import EMAHook
from mmengine.runner import Runner

from resformer_mm.registry import HOOKS


@HOOKS.register_module()
class TeacherHook(EMAHook):
    """:class:`mmengine.hooks.EMAHook` whose average of the weights also teaches the model.

    The average, in evaluation mode, is given to the ``set_teacher`` of the model, such as that of
    :class:`~resformer_mm.tasks.classification.semi_supervised.SemiSupervisedClassifier`. As with its base
    class, evaluation uses the average, and checkpoints hold it in 'state_dict', and the trained weights in
    'ema_state_dict', so an interrupted training continues with both.

    Args:
        **kwargs: arguments of :class:`mmengine.hooks.EMAHook`: ``ema_type`` and those of the average.

    Raises:
        ValueError: the model takes no teacher; raised before training.
    """

    def before_run(self, runner: Runner) -> None:
        """Make the average, and give it to the model."""
        super().before_run(runner)
        if not hasattr(self.src_model, 'set_teacher'):
            raise ValueError(
                f'custom_hooks: TeacherHook needs a model that takes a teacher, and '
                f'{type(self.src_model).__name__} does not: set model.type to '
                'resformer_mm.SemiSupervisedClassifier, or use EMAHook'
            )
        self.ema_model.eval()
        self.src_model.set_teacher(self.ema_model.module)
