"""What the recipes of several methods have in common: CIFAR-size images, a ResNet-18, SGD with a cosine."""

from collections.abc import Mapping
from typing import Any

# Learning rate, weight decay and batch of lightly's CIFAR-10 benchmark and of MoCo's CIFAR demo.
SSL_RECIPE: Mapping[str, Any] = {
    "epochs": 200,
    "batch_size": 512,
    "data": {"cache_px": 32},
    "encoder": {"name": "resnet18", "stem": "cifar", "image_px": 32},
    "optimiser": {
        "name": "sgd",
        "lr": 0.06,
        "lr_batch_size": 128,
        "weight_decay": 5e-4,
        "warmup_epochs": 2,
        "clip_grad_norm": 0,
    },
}
# SupContrast's CIFAR recipe.
SUPERVISED_RECIPE: Mapping[str, Any] = {
    **SSL_RECIPE,
    "optimiser": {
        **SSL_RECIPE["optimiser"],
        "lr": 0.125,
        "lr_batch_size": 256,
        "weight_decay": 1e-4,
        "warmup_epochs": 5,
    },
}


def view(**changes: Any) -> dict[str, Any]:
    """Returns a view as SimCLR's on CIFAR: crop, flip, jitter of half strength, grey; with some changes."""
    plain = {
        "crop_scale": [0.08, 1.0],
        "flip": 0.5,
        "jitter": 0.8,
        "brightness": 0.4,
        "contrast": 0.4,
        "saturation": 0.4,
        "hue": 0.1,
        "grey": 0.2,
    }
    return {**plain, **changes}


def recipe(base: Mapping[str, Any], **changes: Any) -> dict[str, Any]:
    """Returns a recipe with some changes; sections are merged."""
    merged = dict(base)
    for key, value in changes.items():
        below = merged.get(key)
        merged[key] = {**below, **value} if isinstance(below, dict) and isinstance(value, dict) else value
    return merged


_JITTER = {"jitter": 0.8, "brightness": 0.4, "contrast": 0.4, "saturation": 0.4, "hue": 0.1, "grey": 0.2}
_OFF = {"turn": 0.0, "policy": "none", "jitter": 0.0, "grey": 0.0, "warp": 0.0, "blur": 0.0, "solarise": 0.0}
_SIM = {"turn": 0.5, "warp": 0.5, "blur": 0.5}  # the paper names rotation, warp and blur, not how often
AUGMENTATIONS: Mapping[str, Mapping[str, Any]] = {
    "crop": _OFF,
    "simclr": {**_OFF, **_JITTER, "blur": 0.5},
    "autoaugment": {**_OFF, "policy": "autoaugment"},
    "randaugment": {**_OFF, "policy": "randaugment"},
    "simaugment": {**_OFF, **_JITTER, **_SIM},
    "stacked-randaugment": {**_OFF, **_JITTER, **_SIM, "policy": "randaugment"},
}
"""Named augmentations (Khosla et al. 2020, section 4): what each sets in every view; crops and flips stay."""
