"""Factors of the attention scores that follow the number of tokens attended to.

The more keys a query has, the flatter its softmax becomes at the same scores. A factor that grows with the
logarithm of the number of keys keeps the attention as sharp as on the grids of the training.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from resformer_mm.compat.tracing import is_compiling, is_exporting
from resformer_mm.registry import MODELS

Number = Any  # a float, or a tensor of such
FIELD = 'backbone.attention_scale'


class AttentionScale(nn.Module):
    """Interface of the factor f(n) of the scores of a query that attends to n tokens::

        softmax(f(n) * Q K^T / sqrt(d) + bias) V

    n counts all keys, with the class token and the registers: those of the image; in a padded batch those of
    each image without its padding; in a window those of the window and the class token; in a clip those that
    the query attends to, of its frame or of all frames.

    Subclasses are built with ``num_heads`` and implement :meth:`factor`. Where the factor is 1, nothing is
    computed. Where it is the same for all, it is an argument of the fused kernel. Else it multiplies the
    queries, which are fewer numbers than the scores. While gradients of parameters are computed, it always
    multiplies the queries, so that every parameter gets a gradient, which is zero where the factor is 1.

    Attributes:
        free: the range of n, both ends included, in which the factor is 1.
    """

    free: tuple[int, int] = (0, 0)

    def factor(self, number: Number) -> Number:
        """Return the factor f(n).

        Args:
            number: n, or a tensor of such that is broadcastable to ``(B, num_heads, 1, 1)``; so is the
                result, which may be a tensor for a number, too.
        """
        raise NotImplementedError

    def forward(self, query: Tensor, number: int, valid: Tensor | None = None) -> tuple[Tensor, float | None]:
        """Return queries ``(B, num_heads, Q, d)``, and the scale for the fused kernel; None is its default.

        Args:
            query: the queries, of the same shape.
            number: number of keys of every query, real or not.
            valid: which keys are real, ``(B, number)``. None: all of them.
        """
        least = number if valid is None else 1
        is_fixed = not is_exporting() or type(number) is int  # else the number stands for all sizes
        if is_fixed and not self._needs_gradients() and self._is_free(least, number):
            return query, None
        if valid is not None:
            factor = self.factor(valid.sum(dim=1).to(_exact_type(query))[:, None, None, None])
        elif is_compiling():
            ones = torch.ones(1, 1, 1, dtype=_exact_type(query), device=query.device)
            factor = self.factor(ones * number)
        else:
            factor = self.factor(int(number))
        if isinstance(factor, Tensor):
            return (query * factor).to(query.dtype), None
        return query, None if factor == 1 else factor / math.sqrt(query.shape[-1])

    def _needs_gradients(self) -> bool:
        return torch.is_grad_enabled() and any(parameter.requires_grad for parameter in self.parameters())

    def _is_free(self, least: int, most: int) -> bool:
        low, high = self.free
        return bool(low <= least) and bool(most <= high)


@MODELS.register_module()
class LogTokensScale(AttentionScale):
    """Temperature by the logarithm of the number of tokens, without parameters: ``(log n / log n_0) ** e``.

    Above the trained numbers, n_0 is the largest of them; from the smallest to the largest, the factor is 1.
    With exponent 1, scores grow with log n (Chiang & Cholak, arXiv 2202.12172; Su's log-scaled attention for
    models whose training had no such factor). With 0.5, this is the factor by which Jin et al. (arXiv
    2306.08645) keep the entropy of the attention when images are larger than in training. A model trained
    with a single number and ``below=True`` has the scores of Scalable-Softmax (Nakanishi, arXiv 2501.19399),
    ``s log(n) q k``: the weights of the queries learn the factor s of each head.

    Args:
        num_heads: number of heads, which have the same factor.
        tokens: number of tokens of the training, with the class token and registers, or those of all training
            resolutions, in any order: 65, 37 and 17 for 64, 48 and 32 pixels, patch 8 and a class token.
        exponent: e.
        below: whether the factor also falls below 1 for fewer tokens than the smallest trained number, which
            then is n_0. A single number of ``tokens`` then is the only one without a factor.

    Raises:
        ValueError: there is no number of tokens, or one is not an integer of at least 2; or the exponent is
            not positive.
    """

    def __init__(
        self, num_heads: int, tokens: int | Sequence[int], exponent: float = 1.0, below: bool = False
    ) -> None:
        super().__init__()
        if not exponent > 0:
            raise ValueError(f'{FIELD}.exponent must be positive, got {exponent!r}')
        numbers = _check_tokens(tokens)
        self.least, self.most = numbers[0], numbers[-1]
        self.exponent = exponent
        self.below = below
        self.free = (self.least if below else 0, self.most)

    def factor(self, number: Number) -> Number:
        """Return ``(log n / log n_0) ** e``."""
        # Not a quotient of logarithms, which may differ from 1 by rounding for a trained number.
        ratio = 1 + _log(_at_least(number / self.most, 1)) / math.log(self.most)
        if self.below:
            ratio = ratio + _log(_at_most(number / self.least, 1)) / math.log(self.least)
        return ratio if self.exponent == 1 else ratio**self.exponent


@MODELS.register_module()
class LearnedLogTokensScale(LogTokensScale):
    """The same with a learned strength per head: ``1 + s_h ((log n / log n_0) ** e - 1)``.

    A strength of 0 ignores the number of tokens, one of 1 is :class:`LogTokensScale`. It is learned from the
    resolutions whose number of tokens is not free: with ``tokens`` of the largest one and ``below=True``,
    from all the others. This is Scalable-Softmax with an additive term, ``s log n + b`` (Nakanishi, arXiv
    2501.19399), as a factor that is 1 at n_0.

    Args:
        num_heads: number of heads.
        tokens: see :class:`LogTokensScale`.
        exponent: see :class:`LogTokensScale`.
        below: see :class:`LogTokensScale`; here True by default.
        strength: s_h at the start.
    """

    def __init__(
        self,
        num_heads: int,
        tokens: int | Sequence[int],
        exponent: float = 1.0,
        below: bool = True,
        strength: float = 1.0,
    ) -> None:
        super().__init__(num_heads, tokens, exponent, below)
        self.strength = nn.Parameter(torch.full((num_heads, 1, 1), float(strength)))

    def factor(self, number: Number) -> Tensor:
        """Return ``1 + s_h ((log n / log n_0) ** e - 1)``."""
        return 1 + self.strength * (super().factor(number) - 1)


@MODELS.register_module()
class YarnScale(AttentionScale):
    """The temperature of YaRN: ``(slope * ln(n / n_0) + 1) ** 2`` above the trained number of tokens n_0.

    Peng et al. (arXiv 2309.00071) divide the scores by a temperature t with ``sqrt(1 / t) = 0.1 ln(n / n_0) +
    1``, which they fitted to language models.

    Args:
        num_heads: number of heads, which have the same factor.
        tokens: see :class:`LogTokensScale`; n_0 is the largest number.
        slope: factor of the logarithm.

    Raises:
        ValueError: there is no number of tokens, or one is not an integer of at least 2.
    """

    def __init__(self, num_heads: int, tokens: int | Sequence[int], slope: float = 0.1) -> None:
        super().__init__()
        self.most = _check_tokens(tokens)[-1]
        self.slope = slope
        self.free = (0, self.most)

    def factor(self, number: Number) -> Number:
        """Return ``(slope * ln(n / n_0) + 1) ** 2``."""
        return (self.slope * _log(_at_least(number / self.most, 1)) + 1) ** 2


@MODELS.register_module()
class PerGridScale(AttentionScale):
    """A given factor for each of some numbers of tokens, e.g. found on validation images.

    Between two of them, the logarithm of the factor is linear in that of the number; beyond the smallest and
    the largest one, the factor is theirs.

    Args:
        num_heads: number of heads, which have the same factor.
        tokens: numbers of tokens, with the class token and registers, increasing.
        factors: their factors.

    Raises:
        ValueError: the numbers are not increasing integers of at least 2; there is not one positive factor
            for each; or all factors are 1, which changes nothing.
    """

    log_factors: Sequence[Number]  # a number, or (num_heads, 1, 1), for each number of tokens

    def __init__(self, num_heads: int, tokens: Sequence[int], factors: Sequence[float]) -> None:
        super().__init__()
        self.tokens, factors = _check_grids(tokens, factors)
        if all(factor == 1 for factor in factors):
            raise ValueError(f'{FIELD}.factors are all 1, which changes nothing: leave {FIELD} out')
        self._set_factors(factors)

    def _set_factors(self, factors: Sequence[float]) -> None:
        self.log_factors = [math.log(factor) for factor in factors]
        last = 0
        for number, factor in zip(self.tokens, factors):
            if factor != 1:
                break
            last = number
        self.free = (0, last)

    def factor(self, number: Number) -> Number:
        """Return the interpolated factor."""
        total = self.log_factors[0]
        for index in range(len(self.tokens) - 1):
            left, right = self.tokens[index : index + 2]
            way = _at_most(_log(_at_least(number / left, 1)) / math.log(right / left), 1)  # from 0 to 1
            total = total + (self.log_factors[index + 1] - self.log_factors[index]) * way
        return total.exp() if isinstance(total, Tensor) else math.exp(total)


@MODELS.register_module()
class LearnedPerGridScale(PerGridScale):
    """The same with a factor for each head and number of tokens that is learned.

    Factors of numbers that no training resolution comes near to keep their start.

    Args:
        num_heads: number of heads.
        tokens: see :class:`PerGridScale`, e.g. those of the training resolutions.
        factors: the factors at the start; by default all are 1.
    """

    def __init__(self, num_heads: int, tokens: Sequence[int], factors: Sequence[float] | None = None) -> None:
        AttentionScale.__init__(self)  # factors of 1 will change
        self.tokens, start = _check_grids(tokens, [1.0] * len(tokens) if factors is None else factors)
        logs = torch.tensor([math.log(factor) for factor in start])
        values = logs.view(-1, 1, 1, 1).repeat(1, num_heads, 1, 1)
        self.log_factors = nn.Parameter(values)  # type: ignore[assignment]  # indexed like a sequence


def _check_tokens(tokens: int | Sequence[int]) -> list[int]:
    """Return numbers of tokens in increasing order.

    Raises:
        ValueError: there is none, or one is not an integer of at least 2, whose logarithm is positive.
    """
    numbers = [tokens] if isinstance(tokens, int) else list(tokens)
    if not numbers or not all(type(number) is int and number > 1 for number in numbers):
        raise ValueError(
            f'{FIELD}.tokens must be the number of tokens of a training image, or a list of them, integers '
            f'of at least 2, got {tokens!r}'
        )
    return sorted(numbers)


def _check_grids(tokens: Sequence[int], factors: Sequence[float]) -> tuple[list[int], list[float]]:
    numbers = _check_tokens(tokens)
    if numbers != sorted(set(numbers)) or numbers != list(tokens):
        raise ValueError(f'{FIELD}.tokens must increase, got {tokens!r}')
    if len(factors) != len(numbers) or not all(0 < factor < math.inf for factor in factors):
        raise ValueError(
            f'{FIELD}.factors must be positive numbers, one for each of the {len(numbers)} tokens, got '
            f'{factors!r}'
        )
    return numbers, [float(factor) for factor in factors]


def _exact_type(x: Tensor) -> torch.dtype:
    return torch.promote_types(x.dtype, torch.float32)


# The same formula for numbers, which cost no operation of a device, and for tensors.
def _log(x: Number) -> Number:
    return x.log() if isinstance(x, Tensor) else math.log(x)


def _at_least(x: Number, least: float) -> Number:
    return x.clamp(min=least) if isinstance(x, Tensor) else max(x, least)


def _at_most(x: Number, most: float) -> Number:
    return x.clamp(max=most) if isinstance(x, Tensor) else min(x, most)


def build_attention_scale(config: dict, num_heads: int) -> AttentionScale:
    """Build the scale of an attention from the config ``backbone.attention_scale``.

    Raises:
        ValueError: the config is of something else, or an argument is out of range.
    """
    try:
        built = MODELS.build({'_scope_': 'resformer_mm', **config, 'num_heads': num_heads})
    except TypeError as error:
        raise ValueError(f'{FIELD}={dict(config)}: {error}') from error
    if not isinstance(built, AttentionScale):
        raise ValueError(
            f'{FIELD}={dict(config)} is not a scale of the attention: choose e.g. LogTokensScale'
        )
    return built
