"""open_clip's architectures by name: its image towers as encoders, and its configurations."""

import difflib
from typing import Any

import open_clip
from open_clip.model import _build_vision_tower  # the text tower beside it may need the network
from torch import nn

PREFIX = "open_clip:"


def architecture(name: str) -> dict[str, Any]:
    """Returns the configuration of an architecture of open_clip.

    Raises:
        ValueError: there is none of this name; the nearest is named.
    """
    config: dict[str, Any] | None = open_clip.get_model_config(name)
    if config is None:
        nearest = difflib.get_close_matches(name, open_clip.list_models(), n=1, cutoff=0.0)[0]
        raise ValueError(f"open_clip has no architecture {name!r}; did you mean {nearest!r}?")
    return config


def build_image_tower(name: str, image_px: int) -> nn.Module:
    """Returns an image tower, (B, 3, S, S) → (B, D), D being the architecture's embed_dim.

    Args:
        name: `open_clip:ARCH` with fresh weights, or `open_clip:ARCH:WEIGHTS`, a tag of open_clip's (they are
            downloaded) or a file.
        image_px: S.

    Raises:
        ValueError: no such architecture.
    """
    arch, _, weights = name.removeprefix(PREFIX).partition(":")
    config = architecture(arch)
    if weights:
        made: nn.Module = open_clip.create_model(arch, weights, force_image_size=image_px).visual
        return made
    vision = {**config["vision_cfg"], "image_size": image_px, "output_tokens": False}
    fresh: nn.Module = _build_vision_tower(config["embed_dim"], vision, config.get("quick_gelu", False))
    if hasattr(fresh, "trunk"):
        fresh.set_input_size(image_px)  # type: ignore[operator]  # a timm model was built for its own side
    return fresh
