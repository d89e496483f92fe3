"""Multi-resolution training in plain PyTorch: no runner, no config, the whole method in one file.

    python tools/dataset_converters/make_embedded_data.py data/mini
    python examples/plain_training.py --data data/mini --resolutions 64 48 32 --epochs 14

The folder holds ``train/CLASS/*.jpg`` and ``val/CLASS/*.jpg``; the first command generates one with ten
classes. The model is that of the quickstart: width 128, 6 blocks, patch 8.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR
from torch.utils.data import DataLoader

from resformer_mm.models import ResFormer, SmoothL1Consistency  # isort: split

# After resformer_mm, which makes torchvision importable beside a PyTorch without GPU support.
from torchvision import transforms
from torchvision.datasets import ImageFolder

ARCH = dict(embed_dims=128, num_layers=6, num_heads=4, feedforward_channels=512)
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
BICUBIC = transforms.InterpolationMode.BICUBIC


class Classifier(nn.Module):
    """A ResFormer with a linear layer on its class token."""

    def __init__(self, backbone: ResFormer, num_classes: int) -> None:
        super().__init__()
        self.backbone = backbone
        self.head = nn.Linear(backbone.embed_dims, num_classes)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Return class tokens ``(B, C)`` and class scores ``(B, K)`` of images ``(B, 3, H, W)``."""
        (cls_token,) = self.backbone(images)
        return cls_token, self.head(cls_token)


class Copies:
    """Gives every resolution, high to low, its own crop and augmentation of an image (paper, Section 3.1)."""

    def __init__(self, resolutions: Sequence[int]) -> None:
        self.transforms = [
            transforms.Compose(
                [
                    transforms.RandomResizedCrop(resolution, scale=(0.3, 1.0), interpolation=BICUBIC),
                    transforms.RandomHorizontalFlip(),
                    transforms.ColorJitter(brightness=0.2, contrast=0.2),
                    transforms.ToTensor(),
                    transforms.Normalize(MEAN, STD),
                ]
            )
            for resolution in resolutions
        ]

    def __call__(self, image) -> list[Tensor]:
        """Return one tensor ``(3, R, R)`` per resolution."""
        return [transform(image) for transform in self.transforms]


def multi_resolution_loss(
    model: Classifier, copies: Sequence[Tensor], labels: Tensor, consistency: nn.Module
) -> Tensor:
    """Return ``1/r sum_i [CE(y_i, t) + SC(cls_i, cls_{i-1})]`` (paper, Equation 3).

    Every copy learns the label. Every copy but the first also learns to agree with the class token of the
    next larger one, its teacher, which receives no gradient.
    """
    losses, teacher = [], None
    for images in copies:
        cls_token, scores = model(images)
        losses.append(F.cross_entropy(scores, labels, label_smoothing=0.1))
        if teacher is not None:
            losses.append(consistency(cls_token, teacher))
        teacher = cls_token.detach()
    return sum(losses) / len(copies)


def make_optimizer(model: nn.Module, steps: int) -> tuple[torch.optim.AdamW, LambdaLR]:
    """Return AdamW with a warm-up and a cosine over a number of steps.

    There is no weight decay on biases, norms, the class token and the position embeddings.
    """
    decayed, others = [], []
    for name, parameter in model.named_parameters():
        plain = parameter.ndim < 2 or 'cls_token' in name or '_position' in name
        (others if plain else decayed).append(parameter)
    groups = [dict(params=decayed, weight_decay=0.05), dict(params=others, weight_decay=0.0)]
    optimizer = torch.optim.AdamW(groups, lr=1e-3)
    warmup = max(1, min(100, steps // 10))

    def factor(step: int) -> float:
        if step < warmup:
            return (step + 1) / warmup
        return 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, steps - warmup)))

    return optimizer, LambdaLR(optimizer, factor)


@torch.no_grad()
def evaluate(model: Classifier, folder: Path, resolution: int, device: str) -> float:
    """Return the share of right predictions at a resolution: short side R * 256 / 224, central crop of R."""
    model.eval()
    transform = transforms.Compose(
        [
            transforms.Resize(int(resolution * 256 / 224), interpolation=BICUBIC),
            transforms.CenterCrop(resolution),
            transforms.ToTensor(),
            transforms.Normalize(MEAN, STD),
        ]
    )
    right = total = 0
    for images, labels in DataLoader(ImageFolder(folder, transform), batch_size=64, num_workers=2):
        _, scores = model(images.to(device))
        right += (scores.argmax(dim=1).cpu() == labels).sum().item()
        total += len(labels)
    return right / total


def train(
    data: Path, resolutions: Sequence[int], epochs: int, batch_size: int, device: str
) -> tuple[Classifier, list[float]]:
    """Return a model that was trained from scratch, and its mean loss in every epoch."""
    dataset = ImageFolder(data / 'train', Copies(resolutions))
    loader = DataLoader(dataset, batch_size, shuffle=True, drop_last=True, num_workers=2)
    if not len(loader):
        raise SystemExit(f'{data / "train"} has {len(dataset)} images, less than one batch of {batch_size}')
    model = Classifier(ResFormer(ARCH, patch_size=8, drop_path_rate=0.05), len(dataset.classes)).to(device)
    consistency = SmoothL1Consistency()
    optimizer, scheduler = make_optimizer(model, epochs * len(loader))
    history = []
    for epoch in range(epochs):
        model.train()
        total = 0.0
        for copies, labels in loader:
            copies = [images.to(device) for images in copies]
            loss = multi_resolution_loss(model, copies, labels.to(device), consistency)
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 5.0)
            optimizer.step()
            scheduler.step()
            total += loss.item()
        history.append(total / len(loader))
        print(f'epoch {epoch + 1}/{epochs}: loss {history[-1]:.3f}', flush=True)
    return model, history


def main() -> None:
    """Train, then evaluate at every training resolution, half the smallest and twice the largest."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--data', type=Path, required=True, help='folder with train/CLASS and val/CLASS')
    parser.add_argument(
        '--resolutions', type=int, nargs='+', default=[64, 48, 32], help='in pixels, high to low'
    )
    parser.add_argument('--epochs', type=int, default=14)
    parser.add_argument('--batch-size', type=int, default=64)
    args = parser.parse_args()
    torch.manual_seed(0)
    device = 'cuda' if torch.cuda.is_available() else 'cpu'
    model, _ = train(args.data, args.resolutions, args.epochs, args.batch_size, device)
    for resolution in [2 * args.resolutions[0], *args.resolutions, args.resolutions[-1] // 2]:
        print(f'top-1 at {resolution}: {100 * evaluate(model, args.data / "val", resolution, device):.1f} %')


if __name__ == '__main__':
    main()
