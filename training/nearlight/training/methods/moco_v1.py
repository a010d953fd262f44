"""MoCo: a queue of keys from a momentum encoder, a linear head (He, Fan, Wu, Xie and Girshick 2020)."""

from typing import Any, ClassVar

from nearlight.training.defaults import SSL_RECIPE, recipe, view
from nearlight.training.methods.moco_v2 import MocoV2


class MocoV1(MocoV2):
    """MoCo v2 with the linear head, the one direction, the temperature and the views of the first."""

    recipe: ClassVar[dict[str, Any]] = recipe(
        SSL_RECIPE, views=[view(count=2, crop_scale=[0.2, 1.0], jitter=1.0, hue=0.4)]
    )

    class Options(MocoV2.Options):
        """What only MoCo can be told."""

        temperature: float = 0.07
        symmetric: bool = False
        hidden: int | None = None
