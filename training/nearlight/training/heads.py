"""Projection heads and predictors, as the papers have them."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import weight_norm


def mlp(
    widths: Sequence[int], norm: bool = True, last_norm: bool = False, last_affine: bool = True
) -> nn.Sequential:
    """Returns linear layers with ReLU between them, (B, widths[0]) → (B, widths[-1]).

    Args:
        widths: of input, hidden layers and output, at least two.
        norm: batch norm before each ReLU (SimCLR v2, BYOL, SimSiam; not MoCo v2).
        last_norm: batch norm after the last layer (SimSiam's and MoCo v3's projector).
        last_affine: that one has a scale and a shift.
    """
    layers: list[nn.Module] = []
    for place, (wide_in, wide_out) in enumerate(zip(widths[:-1], widths[1:], strict=True)):
        last = place == len(widths) - 2
        normed = last_norm if last else norm
        layers.append(nn.Linear(wide_in, wide_out, bias=not normed))
        if normed:
            layers.append(nn.BatchNorm1d(wide_out, affine=last_affine or not last))
        if not last:
            layers.append(nn.ReLU(inplace=True))
    return nn.Sequential(*layers)


class Prototypes(nn.Module):
    """DINO's head: an MLP with GELU, unit length, then unit prototypes (Caron et al. 2021, section 3.1)."""

    def __init__(self, width: int, hidden: int, bottleneck: int, prototypes: int, norm: bool) -> None:
        """Makes the layers.

        Args:
            width: of the features.
            hidden: of the two hidden layers.
            bottleneck: of the unit vectors.
            prototypes: K, how many logits come out.
            norm: batch norm in the hidden layers (for ResNets).
        """
        super().__init__()
        layers: list[nn.Module] = []
        for wide_in, wide_out in ((width, hidden), (hidden, hidden)):
            layers.append(nn.Linear(wide_in, wide_out))
            if norm:
                layers.append(nn.BatchNorm1d(wide_out))
            layers.append(nn.GELU())
        self.layers = nn.Sequential(*layers, nn.Linear(hidden, bottleneck))
        for module in self.layers:
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=0.02)
                nn.init.zeros_(module.bias)
        self.last = weight_norm(nn.Linear(bottleneck, prototypes, bias=False))
        gain = self.last.parametrizations.weight.original0
        gain.data.fill_(1)
        gain.requires_grad_(False)

    def forward(self, features: Tensor) -> Tensor:
        """Returns (B, K) logits of (B, D) features."""
        logits: Tensor = self.last(F.normalize(self.layers(features).float(), dim=-1))
        return logits


class SplitBatchNorm2d(nn.BatchNorm2d):
    """Batch norm over parts of the batch, as if each part were on a GPU of its own (MoCo on one GPU)."""

    def __init__(self, channels: int, splits: int = 8, **options: Any) -> None:
        super().__init__(channels, **options)
        self.splits = splits

    def forward(self, images: Tensor) -> Tensor:
        """Returns (B, C, H, W), each of the `splits` parts normalised by itself while training."""
        splits = min(self.splits, max(len(images) // 2, 1))
        if not self.training or splits == 1:
            return super().forward(images)
        momentum = 1 - (1 - (self.momentum or 0.1)) ** (1 / splits)  # the parts together move as one batch
        parts = [
            F.batch_norm(
                part, self.running_mean, self.running_var, self.weight, self.bias, True, momentum, self.eps
            )
            for part in images.tensor_split(splits)
        ]
        return torch.cat(parts)
