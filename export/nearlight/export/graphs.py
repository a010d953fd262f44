"""The two towers as they are served: raw input in, unit vectors out."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nearlight.bundle.manifest import ImageTower
from nearlight.export.subject import Subject
from nearlight.training.towers import encode_text


class ImageGraph(nn.Module):
    """uint8 pixels (B, H, W, 3) to unit vectors (B, D): channels scaled, the image tower, L2 norm."""

    mean: Tensor
    std: Tensor

    def __init__(self, visual: nn.Module, tower: ImageTower) -> None:
        super().__init__()
        self.visual = visual
        self.register_buffer("mean", torch.tensor(tower.mean) * 255)  # (3,)
        self.register_buffer("std", torch.tensor(tower.std) * 255)  # (3,)

    def forward(self, pixels: Tensor) -> Tensor:
        """Unit vectors of pixels."""
        images = ((pixels.float() - self.mean) / self.std).permute(0, 3, 1, 2)  # (B, 3, H, W)
        return F.normalize(self.visual(images), dim=-1)  # (B, D)


class TextGraph(nn.Module):
    """int64 tokens (B, L) to unit vectors (B, D); L may be short only where that is exact."""

    def __init__(self, model: nn.Module, trimmable: bool) -> None:
        super().__init__()
        self.model = model
        self.trimmable = trimmable

    def forward(self, tokens: Tensor) -> Tensor:
        """Unit vectors of tokens."""
        model: Any = self.model
        features = encode_text(model, tokens) if self.trimmable else model.encode_text(tokens)
        return F.normalize(features, dim=-1)  # (B, D)


def image_graph(subject: Subject) -> ImageGraph:
    """The image tower of a subject, ready to be written."""
    visual = subject.model.visual
    assert isinstance(visual, nn.Module)
    return ImageGraph(visual, subject.image).eval()


def text_graph(subject: Subject) -> TextGraph:
    """The text tower of a subject, ready to be written."""
    return TextGraph(subject.model, subject.text.trimmable).eval()
