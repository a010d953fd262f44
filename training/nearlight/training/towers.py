"""The encoders: open_clip's CLIP modules built from our configuration, small towers of ours included."""

from typing import Any

import numpy as np
import numpy.typing as npt
import open_clip
import timm
import torch
from timm.models import resnet
from torch import Tensor, nn
from torch.nn import functional as F

from nearlight.training.architectures import architecture
from nearlight.training.config import ModelSection
from nearlight.training.errors import ConfigError


def vocab_size(merges: int) -> int:
    """Returns the number of token ids of a CLIP vocabulary cut to `merges`: 512 bytes, merges, 2 marks."""
    return 512 + merges + 2


def build_towers(section: ModelSection) -> open_clip.CLIP:
    """Returns an open_clip CLIP module with fresh weights (the caller has set the seed).

    Raises:
        ConfigError: open_clip or timm refuses the configuration.
    """
    try:
        known = architecture(section.architecture) if section.architecture else {}
        text = {
            **known.get("text_cfg", section.text),
            "context_length": section.context_length,
            "vocab_size": vocab_size(section.merges),
        }
        vision = {**known.get("vision_cfg", section.vision), "image_size": section.image_px}
        if "hf_model_name" in text or text.get("no_causal_mask") or text.get("embed_cls"):
            raise ValueError(f"the text tower of {section.architecture!r} is not causal, as CLIP's is")
        return open_clip.CLIP(
            embed_dim=known.get("embed_dim", section.embed_dim),
            vision_cfg=vision,
            text_cfg=text,
            quick_gelu=known.get("quick_gelu", False),
        )
    except (TypeError, RuntimeError, AssertionError, ValueError) as error:
        raise ConfigError(f"the model section cannot be built: {error}") from error


def encode_image(model: open_clip.CLIP, images: Tensor) -> Tensor:
    """Returns features of normalised images: (B, 3, H, W) → (B, D), not yet unit length."""
    features: Tensor = model.encode_image(images)
    return features


def encode_text(model: open_clip.CLIP, tokens: Tensor) -> Tensor:
    """Returns features of token rows cut to any length: (B, L) → (B, D), not yet unit length.

    open_clip's own `encode_text` needs L = context_length. A causal tower pooled at the end token
    gives the same result when only padding is cut, at a fraction of the cost: this follows its steps
    with the positions and the mask cut to L.

    Args:
        model: a CLIP whose text tower is causal (it has an attention mask) and pools at the last token.
        tokens: (B, L) with L <= context_length; the end token has the highest id.
    """
    length = tokens.shape[1]
    x = model.token_embedding(tokens)  # (B, L, W)
    x = x + model.positional_embedding[:length]
    x = model.transformer(x, attn_mask=model.attn_mask[:length, :length])  # (B, L, W)
    x = model.ln_final(x)
    pooled = x[torch.arange(x.shape[0], device=x.device), tokens.argmax(dim=-1)]  # (B, W)
    projection = model.text_projection
    features: Tensor = projection(pooled) if isinstance(projection, nn.Linear) else pooled @ projection
    return features  # (B, D)


def is_trimmable(model: open_clip.CLIP) -> bool:
    """Whether cutting padding leaves the text vector as it is: a causal mask and pooling at the end token."""
    return getattr(model, "attn_mask", None) is not None and model.text_pool_type == "argmax"


@torch.no_grad()
def embed_texts(model: open_clip.CLIP, tokens: npt.NDArray[np.int64], batch_size: int = 256) -> Tensor:
    """Returns unit vectors (N, D) float32 of token rows (N, L), in evaluation mode, without gradients."""
    device = next(model.parameters()).device
    rows = torch.from_numpy(tokens)
    parts = [encode_text(model, part.to(device)) for part in torch.split(rows, batch_size)]
    return F.normalize(torch.cat(parts).float(), dim=-1)  # (N, D)


@torch.no_grad()
def embed_pixels(
    model: open_clip.CLIP, pixels: npt.NDArray[np.uint8], section: ModelSection, batch_size: int = 256
) -> Tensor:
    """Returns unit vectors (N, D) float32 of uint8 images (N, H, W, 3), in evaluation mode."""
    device = next(model.parameters()).device
    parts = []
    for part in torch.split(torch.from_numpy(pixels), batch_size):
        parts.append(encode_image(model, normalise(part.to(device), section)))
    return F.normalize(torch.cat(parts).float(), dim=-1)  # (N, D)


def normalise(pixels: Tensor, section: ModelSection) -> Tensor:
    """Returns float images (B, 3, H, W), channels last in memory, of uint8 (B, H, W, 3)."""
    mean = torch.tensor(section.mean, device=pixels.device) * 255
    std = torch.tensor(section.std, device=pixels.device) * 255
    return ((pixels.float() - mean) / std).permute(0, 3, 1, 2)


def nearlight_resnet10(pretrained: bool = False, **kwargs: Any) -> nn.Module:
    """Returns a 4.9M-parameter ResNet-10 for small images (one basic block a stage), for timm's registry."""
    return _small_resnet([1, 1, 1, 1], pretrained, kwargs)


def nearlight_resnet18(pretrained: bool = False, **kwargs: Any) -> nn.Module:
    """Returns an 11M-parameter ResNet-18 for small images (two basic blocks a stage), for timm's registry."""
    return _small_resnet([2, 2, 2, 2], pretrained, kwargs)


def _small_resnet(layers: list[int], pretrained: bool, kwargs: dict[str, Any]) -> nn.Module:
    """Returns a ResNet for 32 to 96 px: a 3x3 stem of stride 2 and no pooling before the first stage."""
    if pretrained:
        raise ConfigError("Nearlight's small ResNets have no pretrained weights")
    for key in ("pretrained_cfg", "pretrained_cfg_overlay", "cache_dir"):
        kwargs.pop(key, None)
    model: Any = resnet.ResNet(resnet.BasicBlock, layers, **kwargs)  # type: ignore[arg-type]  # timm types an instance
    model.conv1 = nn.Conv2d(3, 64, kernel_size=3, stride=2, padding=1, bias=False)
    model.maxpool = nn.Identity()
    nn.init.kaiming_normal_(model.conv1.weight, mode="fan_out", nonlinearity="relu")
    model.pretrained_cfg = model.default_cfg = {"input_size": (3, 64, 64), "pool_size": (4, 4)}
    small: nn.Module = model
    return small


for _entry in (nearlight_resnet10, nearlight_resnet18):
    if not timm.is_model(_entry.__name__):
        timm.models.register_model(_entry)
