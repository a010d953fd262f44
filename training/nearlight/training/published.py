"""CIFAR-10 figures that others have published, for the table of `nearlight reproduce`."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Published:
    """What is known of one method on CIFAR-10, top-1 in percent."""

    founding: float | None = None
    """The founding documents' linear top-1 with a ResNet-50 (Khosla et al. 2020, table 2)."""
    linear: float | None = None
    linear_source: str = ""
    knn: float | None = None
    """k = 200, T = 0.1, ResNet-18, the best epoch on the test images."""
    knn_source: str = ""


_SOLO = "solo-learn, ResNet-18, 1000 epochs"
_LIGHTLY = "lightly, ResNet-18, 800 epochs"
PUBLISHED = {
    "simclr": Published(93.6, 90.74, _SOLO, 87.9, _LIGHTLY),
    "moco-v2": Published(None, 92.94, f"{_SOLO} (v2+)", 89.9, _LIGHTLY),
    "moco-v3": Published(None, 93.10, _SOLO),
    "byol": Published(None, 92.58, _SOLO, 91.0, _LIGHTLY),
    "simsiam": Published(None, 90.87, "PatrickHua, ResNet-18, 800 epochs", 90.4, _LIGHTLY),
    "dino": Published(None, 89.52, _SOLO, 84.8, _LIGHTLY),
    "supcon": Published(96.0, 93.82, f"{_SOLO} (its loss is L_in)"),
    "ce": Published(95.0, 96.0, "airbench, ResNet-18, about 190 epochs"),
    "maxmargin": Published(92.4),
}
