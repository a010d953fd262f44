"""The two towers as they are served: raw input in, unit vectors out."""

from typing import Any

import torch
from open_clip.transformer import TextTransformer, text_global_pool
from torch import Tensor, nn
from torch.nn import functional as F

from nearlight.bundle.manifest import ImageTower
from nearlight.export.lean import lean_images, lean_texts


class ImageGraph(nn.Module):
    """uint8 pixels (B, H, W, 3) to unit vectors (B, D): channels scaled, the image tower, L2 norm."""

    mean: Tensor
    std: Tensor

    def __init__(self, visual: nn.Module, tower: ImageTower) -> None:
        super().__init__()
        self.lean = lean_images(visual, tower)
        self.visual = visual
        self.register_buffer("mean", torch.tensor(tower.mean) * 255)  # (3,)
        self.register_buffer("std", torch.tensor(tower.std) * 255)  # (3,)

    def forward(self, pixels: Tensor) -> Tensor:
        """Unit vectors of pixels."""
        if self.lean is not None:
            return F.normalize(self.lean(pixels), dim=-1)
        images = ((pixels.float() - self.mean) / self.std).permute(0, 3, 1, 2)  # (B, 3, H, W)
        return F.normalize(features_of(self.visual(images)), dim=-1)  # (B, D)


class TextGraph(nn.Module):
    """int64 tokens (B, L) to unit vectors (B, D); L may be short only where that is exact."""

    def __init__(self, model: nn.Module, trimmable: bool) -> None:
        super().__init__()
        self.lean = lean_texts(model)
        self.model = model
        self.trimmable = trimmable

    def forward(self, tokens: Tensor) -> Tensor:
        """Unit vectors of tokens."""
        model: Any = self.model
        if self.lean is not None:
            return F.normalize(self.lean(tokens), dim=-1)
        features = encode_trimmed(model, tokens) if self.trimmable else model.encode_text(tokens)
        return F.normalize(features, dim=-1)  # (B, D)


def features_of(found: Any) -> Tensor:
    """What an image tower found (B, D); CoCa's also returns its tokens, which only the captioner reads."""
    features: Tensor = found[0] if isinstance(found, tuple) else found
    return features


def encode_trimmed(model: Any, tokens: Tensor) -> Tensor:
    """Features (B, D) of token rows (B, L) with L <= context_length, by a tower that `may_trim`.

    open_clip's own `encode_text` takes whole contexts; these are its steps, positions and mask cut to L.
    """
    tower = _text_tower(model)
    length = tokens.shape[1]
    x = tower.token_embedding(tokens) + tower.positional_embedding[:length]  # (B, L, W)
    x = tower.ln_final(tower.transformer(x, attn_mask=tower.attn_mask[:length, :length]))  # (B, L, W)
    pool, eos_id = _pooling(model)
    pooled: Tensor = text_global_pool(x, tokens, pool, eos_token_id=eos_id)  # (B, W)
    if tower.text_projection is None:
        return pooled
    projection = tower.text_projection
    features: Tensor = projection(pooled) if isinstance(projection, nn.Linear) else pooled @ projection
    return features  # (B, D)


def may_trim(model: Any) -> bool:
    """Whether a text tower's build promises that padding after the end token cannot reach its vector.

    A causal mask, pooling at the end token, and no class token behind the padding (CoCa has one).
    """
    tower = _text_tower(model)
    if (
        not isinstance(getattr(tower, "attn_mask", None), Tensor)
        or getattr(tower, "cls_emb", None) is not None
    ):
        return False
    return _pooling(model)[0] in ("argmax", "eos")


def _text_tower(model: Any) -> Any:
    """open_clip's `CLIP` is its own text tower; the other classes keep one in `text`."""
    return getattr(model, "text", model)


def _pooling(model: Any) -> tuple[str, int | None]:
    tower = _text_tower(model)
    if isinstance(tower, TextTransformer):
        return tower.pool_type, tower.eos_id
    return tower.text_pool_type, getattr(tower, "text_eos_id", None)
