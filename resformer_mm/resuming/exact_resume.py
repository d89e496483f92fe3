"""A hook that saves and restores everything that decides how a training goes on."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from mmengine.dist import all_gather_object, broadcast_object_list, get_dist_info
from mmengine.hooks import EarlyStoppingHook, Hook
from mmengine.logging import print_log
from mmengine.runner import EpochBasedTrainLoop, IterBasedTrainLoop, Runner
from torch import Tensor, nn

from resformer_mm.registry import HOOKS

from .numbered_batches import EndlessBatches, NumberedBatches, number_batches
from .random_states import capture_states, restore_states, seed_generators

ENTRY = 'exact_state'
# What hooks of MMEngine know, but do not save.
HOOK_FIELDS = {EarlyStoppingHook: ('best_score', 'wait_count')}


@HOOKS.register_module()
class ExactResumeHook(Hook):
    """Make an interrupted training end with the weights of an undisturbed one.

    ``tools/train.py`` adds it to every run; ``default_hooks.exact_resume=None`` leaves it out. A checkpoint
    then also holds, in the entry 'exact_state':

    - the states of the random generators of every process;
    - how many batches of the epoch are done: a resumed run goes on with the next, without reading them;
    - gradients that are accumulated over several steps, the last of which is missing;
    - buffers of other processes that differ from those of the first;
    - what hooks with a method ``process_state`` know in each process;
    - whether the validation that was due has taken place: a resumed run makes up for it.

    Validation does not influence the training: the random numbers that it uses are given back.

    Call :meth:`attach` before the training loop is built.
    """

    priority = 'VERY_HIGH'

    def __init__(self) -> None:
        self._batches: NumberedBatches | None = None
        self._saved: dict | None = None  # of the checkpoint that the run resumed from
        self._random: dict | None = None  # states to restore
        self._ranks: list[dict] | None = None  # of all processes, for the next checkpoint
        self._done = 0  # batches of this epoch
        self._is_validated = False
        self._before_validation: dict | None = None

    def attach(self, runner: Runner) -> None:
        """Let a runner train on numbered batches."""
        build_loop = runner.build_train_loop

        def build_train_loop(loop: Any) -> Any:
            loader = settings = runner._train_dataloader
            if isinstance(loader, dict):
                diff_rank_seed = runner._randomness_cfg.get('diff_rank_seed', False)
                loader = runner.build_dataloader(loader, seed=runner.seed, diff_rank_seed=diff_rank_seed)
                runner._train_dataloader = loader
            if self._batches is None:
                self._batches = number_batches(loader, runner.seed, *get_dist_info())
            try:
                loop = build_loop(loop)
            finally:
                runner._train_dataloader = settings  # which the learning rate is scaled by
            if self._batches is not None and isinstance(loop, EpochBasedTrainLoop):
                self._batches.agree()
                loop._max_iters = loop.max_epochs * len(self._batches)
            return loop

        runner.build_train_loop = build_train_loop

    # What is saved.

    def collect_states(self, runner: Runner) -> None:
        """Collect what differs between the processes; called in all of them before a checkpoint is saved."""
        states = {
            'random': self._before_validation or capture_states(),
            'gradients': dict(_open_gradients(runner)),
            'buffers': _other_buffers(_module(runner)),
            'hooks': {type(hook).__name__: hook.process_state() for hook in _hooks_of_processes(runner)},
        }
        self._ranks = all_gather_object(states)

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Add the entry to a checkpoint that training can resume from."""
        ranks, self._ranks = self._ranks, None
        if ranks is None or 'optimizer' not in checkpoint:
            return
        loader = runner.train_dataloader
        checkpoint[ENTRY] = {
            'ranks': ranks,
            'batches_done': self._done,
            'is_validated': self._is_validated or runner.val_loop is None,
            'batch_size': _batch_size(loader),
            'batches_per_epoch': len(loader),
            'sampler_seeds': [getattr(sampler, 'seed', None) for sampler in _samplers(loader)],
            'hooks': {
                type(hook).__name__: {name: getattr(hook, name) for name in names}
                for hook, names in _hooks_with_fields(runner)
            },
        }

    # What is restored.

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Keep the entry of a checkpoint that the run resumes from."""
        if runner._resume:
            self._saved = checkpoint.get(ENTRY, {})

    def before_train(self, runner: Runner) -> None:
        """Go to the place in the data where the interrupted run was."""
        loop, batches = runner.train_loop, self._batches
        if self._saved:
            self._restore(runner, self._saved)
        elif self._saved is not None:
            if isinstance(loop, IterBasedTrainLoop):
                self._done = loop.iter
            _warn(
                f'the checkpoint was saved without its entry {ENTRY!r}: the run goes on with other random '
                'numbers than the interrupted one would have'
            )
        if batches is None:
            return
        batches.is_open = True
        if isinstance(loop, IterBasedTrainLoop):
            if getattr(loop, 'fast_forward_on_resume', False):  # then the data starts from the beginning
                self._done = 0
            loop.dataloader._iterator = None  # of workers that persist
            loop.dataloader_iterator = EndlessBatches(loop.dataloader, batches, self._done)
        elif isinstance(loop, EpochBasedTrainLoop) and self._done:
            batches.first = self._done
            _count_batches_from(loop, self._done)

    def _restore(self, runner: Runner, saved: dict) -> None:
        rank, world_size = get_dist_info()
        for sampler, seed in zip(_samplers(runner.train_dataloader), saved['sampler_seeds']):
            if seed is not None:
                sampler.seed = seed
        if self._batches is not None:
            runner.train_dataloader.dataset.__getitems__.seed = runner.seed
        for hook, _ in _hooks_with_fields(runner):
            for name, value in saved['hooks'].get(type(hook).__name__, {}).items():
                setattr(hook, name, value)
        self._is_validated = saved['is_validated']
        self._done = _resumed_position(runner, saved, world_size)
        is_same_number, module = len(saved['ranks']) == world_size, _module(runner)
        parameters = dict(module.named_parameters())
        own = saved['ranks'][rank : rank + 1] if is_same_number else saved['ranks']
        for name, gradient in _mean_gradients(own).items():
            parameters[name].grad = gradient.to(parameters[name].device)
        for hook in _hooks_of_processes(runner):
            states = [one.get('hooks', {}).get(type(hook).__name__) for one in own]
            hook.load_process_states([state for state in states if state is not None])
        if not is_same_number:
            seed_generators(runner.seed, runner.iter, rank)
            return
        states = saved['ranks'][rank]
        self._random = states['random']
        buffers = dict(module.named_buffers())
        for name, value in states['buffers'].items():
            buffers[name].copy_(value)

    def before_train_epoch(self, runner: Runner) -> None:
        """Restore the random generators, if the interrupted run was between two epochs."""
        if self._batches is not None and isinstance(runner.train_loop, EpochBasedTrainLoop):
            self._batches.epoch = runner.epoch
        if self._done == 0:
            self._restore_random()

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None) -> None:
        """Restore the random generators, if the interrupted run was within an epoch."""
        self._restore_random()
        self._is_validated = False

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: dict | None = None
    ) -> None:
        """Count the batch."""
        self._done += 1

    def after_train_epoch(self, runner: Runner) -> None:
        """Start the count anew."""
        self._restore_random()  # of a run that was interrupted after the last batch of an epoch
        if isinstance(runner.train_loop, EpochBasedTrainLoop):
            self._done = 0

    def _restore_random(self) -> None:
        if self._random is not None:
            restore_states(self._random)
            self._random = None

    # Validation.

    def make_up_validation(self, runner: Runner) -> None:
        """Validate, if the interrupted run ended before the validation that was due."""
        loop = runner.train_loop
        if not self._saved or self._is_validated or runner.val_loop is None:
            return
        if isinstance(loop, EpochBasedTrainLoop):
            now, last = (0 if self._done else loop.epoch), loop.max_epochs
        elif isinstance(loop, IterBasedTrainLoop):
            now, last = loop.iter, loop.max_iters
        else:
            return
        loop._decide_current_val_interval()
        if now and now >= loop.val_begin and (now % loop.val_interval == 0 or now == last):
            runner.val_loop.run()

    def before_val(self, runner: Runner) -> None:
        """Remember the random generators of the training."""
        self._before_validation = self._random or capture_states()

    def after_val_epoch(self, runner: Runner, metrics: dict[str, float] | None = None) -> None:
        """Note that the validation has taken place; the best checkpoint is saved after this."""
        self._is_validated = True

    def after_val(self, runner: Runner) -> None:
        """Give the random generators back to the training."""
        if self._before_validation is not None:
            restore_states(self._before_validation)
            self._before_validation = None


class MakeUpValidationHook(Hook):
    """Validates before a resumed run goes on, once all other hooks are ready for it.

    Args:
        exact_resume: knows whether a validation is due.
    """

    priority = 'LOWEST'

    def __init__(self, exact_resume: ExactResumeHook) -> None:
        self._exact_resume = exact_resume

    def before_train(self, runner: Runner) -> None:
        """Make up for the validation."""
        self._exact_resume.make_up_validation(runner)


def _resumed_position(runner: Runner, saved: dict, world_size: int) -> int:
    """Return how many batches are done, counted in batches of this run, and set the iteration to match."""
    loader, loop = runner.train_dataloader, runner.train_loop
    before = saved['batch_size'] * len(saved['ranks'])
    now = _batch_size(loader) * world_size
    done: int = saved['batches_done']
    if len(saved['ranks']) != world_size:
        text = f'number of processes: {len(saved["ranks"])} in the checkpoint, {world_size} now'
        if now == before:
            size = f'{_batch_size(loader)} samples instead of {saved["batch_size"]}'
            _warn(f'{text}. Each takes {size}: batches are the same, the random numbers of the model are not')
        else:
            _warn(
                f'{text}. A batch has {now} samples in all instead of {before}, for which the learning rate '
                'was chosen: change train_dataloader.batch_size or the learning rate'
            )
    elif now != before:
        _warn(
            f'train_dataloader.batch_size is {_batch_size(loader)}, but {saved["batch_size"]} in the '
            'checkpoint: the run goes on at the same sample'
        )
    if now != before:
        done = done * before // now
        if isinstance(loop, EpochBasedTrainLoop):
            loop._iter = loop.epoch * len(loader) + done
    elif len(loader) != saved['batches_per_epoch']:
        _warn(
            f'an epoch has {len(loader)} batches, and had {saved["batches_per_epoch"]} before: '
            'the data is another one, and so is its order'
        )
    return done


def _count_batches_from(loop: EpochBasedTrainLoop, first: int) -> None:
    """Let the first epoch that a loop runs number its batches from another number than zero."""
    run_iter, run_epoch = loop.run_iter, loop.run_epoch

    def run_late_iter(idx: int, data_batch: Any) -> None:
        run_iter(idx + first, data_batch)

    def run_rest() -> None:
        loop.run_iter = run_late_iter
        run_epoch()
        del loop.run_iter, loop.run_epoch

    loop.run_epoch = run_rest


def _module(runner: Runner) -> nn.Module:
    return getattr(runner.model, 'module', runner.model)


def _batch_size(loader: Any) -> int:
    return getattr(loader.batch_sampler, 'batch_size', None) or loader.batch_size or 1


def _samplers(loader: Any) -> Iterator[Any]:
    """Yield the samplers that may have a seed."""
    batch_sampler = getattr(loader.batch_sampler, 'batch_sampler', loader.batch_sampler)
    yield batch_sampler
    yield getattr(batch_sampler, 'sampler', loader.sampler)


def _hooks_with_fields(runner: Runner) -> Iterator[tuple[Hook, tuple[str, ...]]]:
    for hook in runner.hooks:
        for kind, names in HOOK_FIELDS.items():
            if isinstance(hook, kind):
                yield hook, names


def _hooks_of_processes(runner: Runner) -> list[Any]:
    """Return the hooks that know what differs between processes."""
    return [hook for hook in runner.hooks if hasattr(hook, 'process_state')]


def _open_gradients(runner: Runner) -> Iterator[tuple[str, Tensor]]:
    """Yield the gradients that wait for the last step of an accumulation."""
    inner = getattr(runner.optim_wrapper, 'optim_wrappers', None)
    wrappers = list(inner.values()) if isinstance(inner, dict) else [runner.optim_wrapper]
    if all(getattr(wrapper, '_accumulative_counts', 1) == 1 for wrapper in wrappers):
        return
    for name, parameter in _module(runner).named_parameters():
        if parameter.grad is not None:
            yield name, parameter.grad.cpu()


def _mean_gradients(states: Sequence[dict]) -> dict[str, Tensor]:
    """Return the mean of the gradients of several processes, which is what they would step with."""
    names = dict.fromkeys(name for state in states for name in state['gradients'])
    found = {name: [state['gradients'].get(name) for state in states] for name in names}
    return {
        name: sum(gradient for gradient in gradients if gradient is not None) / len(states)
        for name, gradients in found.items()
    }


def _other_buffers(module: nn.Module) -> dict[str, Tensor]:
    """Return the buffers of a checkpoint that differ from those of the first process."""
    rank, world_size = get_dist_info()
    if world_size == 1:
        return {}
    buffers = dict(_saved_buffers(module))
    digests = {name: _digest(buffer) for name, buffer in buffers.items()}
    first = [digests]
    broadcast_object_list(first)
    return {name: buffer for name, buffer in buffers.items() if first[0].get(name) != digests[name]}


def _saved_buffers(module: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Yield the buffers that checkpoints hold; the state of a sharded module has them in one process."""
    for name, buffer in module.named_buffers():
        owner, _, own_name = name.rpartition('.')
        if own_name not in module.get_submodule(owner)._non_persistent_buffers_set:
            yield name, buffer.detach().cpu()


def _digest(tensor: Tensor) -> str:
    return hashlib.sha256(tensor.contiguous().flatten().view(torch.uint8).numpy().tobytes()).hexdigest()


def _warn(message: str) -> None:
    print_log(f'Resuming: {message}', logger='current', level=logging.WARNING)
