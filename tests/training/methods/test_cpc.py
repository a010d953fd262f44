"""The patches CPC sees: places of one view of the image, looks of their own."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from nearlight.training.batches import Batch
from nearlight.training.config import RunConfig
from nearlight.training.errors import ConfigError
from nearlight.training.method import DataFacts
from nearlight.training.methods.cpc import Cpc
from nearlight.training.views.make import Share, make_views

Make = Callable[..., RunConfig]
PLAIN = {"crop_scale": [1.0, 1.0], "crop_ratio": [1.0, 1.0], "flip": 0.0, "jitter": 0.0, "grey": 0.0}
SIDE, PATCH, STRIDE = 32, 8, 4


def views_of(config: RunConfig, pixels: Tensor, share: Share | None = None) -> Tensor:
    count = len(pixels)
    nothing = torch.zeros(count, dtype=torch.int64)
    batch = Batch(0, pixels, (), nothing, nothing, nothing, nothing, share or Share(0, count))
    (views,) = Cpc(config, DataFacts(100)).views(batch, torch.Generator().manual_seed(0))
    return views


def pixels_of(count: int) -> Tensor:
    shape = (count, SIDE, SIDE, 3)
    return torch.randint(256, shape, generator=torch.Generator().manual_seed(1), dtype=torch.uint8)


def told(config: RunConfig, **changes: object) -> RunConfig:
    views = [section.model_copy(update=changes) for section in config.views]
    return config.model_copy(update={"views": views})


def test_without_changes_they_are_the_places_of_the_image(tiny: Make) -> None:
    config = told(tiny("cpc"), **PLAIN)
    pixels = pixels_of(3)
    views = views_of(config, pixels)
    (whole,) = make_views(pixels, config.views[:1], config.encoder, torch.Generator().manual_seed(0))
    assert views.shape == (3, 7, 7, 3, PATCH, PATCH)
    for row in range(7):
        for column in range(7):
            top, left = row * STRIDE, column * STRIDE
            part = whole[:, :, top : top + PATCH, left : left + PATCH]
            torch.testing.assert_close(views[:, row, column], part, atol=1e-5, rtol=0)


def test_each_patch_has_a_look_of_its_own(tiny: Make) -> None:
    config = told(tiny("cpc"), **{**PLAIN, "jitter": 1.0})
    grey = torch.full((2, SIDE, SIDE, 3), 128, dtype=torch.uint8)
    image, patch = config.views
    both = views_of(config.model_copy(update={"views": [image.model_copy(update=PLAIN), patch]}), grey)
    light = both.mean(dim=(3, 4, 5)).flatten()
    assert len(set(light.tolist())) > 0.9 * len(light)  # by brightness alone; a grey has no hue to be changed


def test_a_share_sees_its_part_of_the_same_patches(tiny: Make) -> None:
    config = tiny("cpc")
    pixels = pixels_of(6)
    whole = views_of(config, pixels)
    part = views_of(config, pixels[2:4], Share(2, 6))
    torch.testing.assert_close(part, whole[2:4], atol=1e-5, rtol=0)


def test_one_view_is_not_enough(tiny: Make) -> None:
    config = tiny("cpc")
    facts = DataFacts(100)
    for views in (config.views[:1], [config.views[0], config.views[1].model_copy(update={"count": 2})]):
        with pytest.raises(ConfigError, match="views must be two of count 1"):
            Cpc(config.model_copy(update={"views": views}), facts)
