"""What is compared between the copies of an image or a clip by a model that classifies it."""

from __future__ import annotations

from torch import Tensor, nn

from resformer_mm.registry import MODELS


class ConsistencyTarget:
    """Holds the consistency loss of a classifier and finds what it compares; a mixin before a model.

    The model has a ``backbone``, and calls :meth:`set_consistency` once that is there.
    """

    def set_consistency(self, consistency: dict | None) -> None:
        """Build a :class:`~resformer_mm.models.losses.ScaleConsistency` from its config; None for none.

        Raises:
            ValueError: its target needs tokens that the backbone does not give.
        """
        self.consistency: nn.Module | None = None
        if consistency is None:
            return
        self.consistency = MODELS.build({'_scope_': 'resformer_mm', **consistency})
        if self.consistency.target != 'logits' and not hasattr(self.backbone, 'forward_tokens'):
            raise ValueError(
                f'model.consistency.target={self.consistency.target!r} needs a backbone with '
                f'`forward_tokens`, such as resformer_mm.ResFormer; {type(self.backbone).__name__} has '
                "none: use KLConsistency (target='logits') or consistency=None"
            )

    @property
    def compares_tokens(self) -> bool:
        """Whether tokens are compared, not logits or nothing."""
        return self.consistency is not None and self.consistency.target != 'logits'

    def features_and_tokens(self, inputs: Tensor) -> tuple[tuple[Tensor, ...], Tensor]:
        """Return what the backbone gives, one entry per out index, and the tokens to compare ``(B, C)``."""
        backbone = self.backbone
        is_cls = self.consistency.target == 'cls'
        outputs, grid = backbone.forward_tokens(inputs, is_cls and backbone.out_type == 'cls_token')
        feats = tuple(backbone.format_output(tokens, grid) for tokens in outputs)
        tokens = outputs[-1]
        return feats, tokens[:, 0] if is_cls else backbone.patch_tokens(tokens).mean(dim=1)

    def consistency_losses(
        self, target: Tensor | None, teacher: Tensor | None, name: str, num_copies: int
    ) -> tuple[dict[str, Tensor], Tensor | None]:
        """Return the named term of one copy, if it has a teacher, and what it teaches the next."""
        losses = {}
        if teacher is not None:
            losses[f'loss_consistency_{name}'] = self.consistency(target, teacher) / num_copies
        return losses, None if target is None else target.detach()
