"""Image encoders of methods without a text tower: images in, one feature vector each out."""

from typing import Any

import timm
import torch
from timm.models import resnet
from torch import Tensor, nn

from nearlight.training.architectures import PREFIX, build_image_tower
from nearlight.training.errors import ConfigError
from nearlight.training.sections import EncoderSection

# Below, the last stage strides over a single place, where oneDNN's bfloat16 gradients are garbage.
STEM_LEAST_PX = {"cifar": 8, "small": 16, "imagenet": 32}
_BLOCKS: dict[str, tuple[type[nn.Module], tuple[int, ...]]] = {
    "resnet10": (resnet.BasicBlock, (1, 1, 1, 1)),
    "resnet18": (resnet.BasicBlock, (2, 2, 2, 2)),
    "resnet34": (resnet.BasicBlock, (3, 4, 6, 3)),
    "resnet50": (resnet.Bottleneck, (3, 4, 6, 3)),
    "resnet101": (resnet.Bottleneck, (3, 4, 23, 3)),
    "resnet200": (resnet.Bottleneck, (3, 24, 36, 3)),
}
_VIT = {
    "vit-tiny": "vit_tiny_patch16_224",
    "vit-small": "vit_small_patch16_224",
    "vit-base": "vit_base_patch16_224",
}


def build_encoder(section: EncoderSection, channels: int = 3, **options: Any) -> nn.Module:
    """Returns an encoder with fresh weights (the caller has set the seed): (B, channels, S, S) → (B, D).

    ResNets end in the mean over places, ViTs in their class token, others as timm or open_clip has them. A
    ResNet's residual branches start at zero (He et al. 2019, "Bag of Tricks").

    Args:
        section: which, for what side.
        channels: of the input.
        options: passed on to timm.

    Raises:
        ConfigError: no such model, or one that does not fit the section.
    """
    try:
        if section.name in _BLOCKS and not section.pretrained:
            return _resnet(section, channels, options)
        if section.name.startswith(PREFIX):
            return _image_tower(section, channels)
        if section.name in _VIT:
            patch = section.patch_px or min(16, max(section.image_px // 8, 1))
            options = {"img_size": section.image_px, "patch_size": patch, "dynamic_img_size": True, **options}
            model = timm.create_model(
                _VIT[section.name], section.pretrained, num_classes=0, in_chans=channels, **options
            )
        else:
            model = timm.create_model(
                section.name, section.pretrained, num_classes=0, in_chans=channels, **options
            )
    except (RuntimeError, TypeError, ValueError, AssertionError, KeyError) as error:
        known = ", ".join((*_BLOCKS, *_VIT))
        raise ConfigError(
            f"encoder.name = {section.name!r} cannot be built: {error}; it must be {known}, a model of timm, "
            "or open_clip:ARCH"
        ) from None
    made: nn.Module = model.to(memory_format=torch.channels_last)
    return made


def _image_tower(section: EncoderSection, channels: int) -> nn.Module:
    if channels != 3:
        raise ValueError(f"it takes 3 channels, not {channels}")
    tower: nn.Module = build_image_tower(section.name, section.image_px).to(memory_format=torch.channels_last)
    return tower


def _resnet(section: EncoderSection, channels: int, options: dict[str, Any]) -> nn.Module:
    least = STEM_LEAST_PX[section.stem]
    if section.image_px < least:
        raise ValueError(f"the stem {section.stem!r} needs images of {least} px, not {section.image_px}")
    block, layers = _BLOCKS[section.name]
    widths = tuple(max(8, round(c * section.width / 8) * 8) for c in (64, 128, 256, 512))
    model: Any = resnet.ResNet(
        block,  # type: ignore[arg-type]  # timm types an instance
        layers,
        num_classes=0,
        in_chans=channels,
        channels=widths,
        **options,
    )
    if section.width != 1 or section.stem != "imagenet":
        kernel, stride, padding = {"cifar": (3, 1, 1), "small": (3, 2, 1), "imagenet": (7, 2, 3)}[
            section.stem
        ]
        model.conv1 = nn.Conv2d(channels, 64, kernel, stride, padding, bias=False)
        nn.init.kaiming_normal_(model.conv1.weight, mode="fan_out", nonlinearity="relu")
    if section.stem != "imagenet":
        model.maxpool = nn.Identity()
    made: nn.Module = model.to(memory_format=torch.channels_last)
    return made


@torch.no_grad()
def feature_dim(encoder: nn.Module, section: EncoderSection) -> int:
    """Returns D of what an encoder makes."""
    known = getattr(encoder, "num_features", None)
    if isinstance(known, int):
        return known
    training = encoder.training
    device = next(encoder.parameters()).device
    features: Tensor = encoder.eval()(torch.zeros(1, 3, section.image_px, section.image_px, device=device))
    encoder.train(training)
    return int(features.shape[1])


def normalise_pixels(pixels: Tensor, section: EncoderSection) -> Tensor:
    """Returns float images (B, 3, H, W), channels last in memory, of uint8 (B, H, W, 3)."""
    mean = torch.tensor(section.mean, device=pixels.device) * 255
    std = torch.tensor(section.std, device=pixels.device) * 255
    return ((pixels.float() - mean) / std).permute(0, 3, 1, 2)
