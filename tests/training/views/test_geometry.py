import math

import numpy as np
import torch
from scipy import ndimage
from torch.nn import functional as F

from nearlight.training.views.degrade import add_noise, cutout
from nearlight.training.views.edges import sobel
from nearlight.training.views.geometry import draw_knots, turn, warp


def noise(count: int, side: int) -> torch.Tensor:
    return torch.rand(count, 3, side, side, generator=torch.Generator().manual_seed(0))


def test_turns_by_quarters() -> None:
    images = noise(4, 6)
    made = turn(images, torch.arange(4))
    for quarters in range(4):
        assert torch.equal(made[quarters], torch.rot90(images[quarters], quarters, (1, 2)))


def test_sobel_is_scipys() -> None:
    images = noise(2, 9)
    made = sobel(images)
    for image, found in zip(images.flatten(0, 1).numpy(), made.flatten(0, 1).numpy(), strict=True):
        across, down = (ndimage.sobel(image, axis, mode="nearest") for axis in (1, 0))
        np.testing.assert_allclose(found, np.minimum(np.hypot(across, down) / 4, 1), atol=1e-6)


def test_cutout_by_hand() -> None:
    images, centre = noise(3, 7), torch.tensor([[3, 3], [0, 6], [6, 0]])
    made = cutout(images, centre, 4)
    for image, (row, column), found in zip(images, centre.tolist(), made, strict=True):
        wanted = image.clone()
        wanted[:, max(row - 2, 0) : row + 2, max(column - 2, 0) : column + 2] = 0.5
        assert torch.equal(found, wanted)


def test_noise_has_its_size_and_stays_in_range() -> None:
    grey, grain = torch.full((2, 3, 40, 40), 0.5), torch.randn(2, 3, 40, 40)
    made = add_noise(grey, torch.tensor([0.0, 0.1]), grain)
    assert torch.equal(made[0], grey[0])
    assert abs(float(made[1].std()) - 0.1) < 0.01
    loud = add_noise(noise(1, 8), torch.tensor([5.0]), grain[:1, :, :8, :8])
    assert (float(loud.min()), float(loud.max())) == (0, 1)


def test_warp_reads_every_pixel_where_the_knots_say() -> None:
    images = noise(2, 10)
    knots = draw_knots(2, 2.0, torch.Generator().manual_seed(1))
    assert float(knots.abs().max()) <= 2
    shift = F.interpolate(knots, (10, 10), mode="bicubic", align_corners=True)
    made = warp(images, knots)
    for n in range(2):
        for row in range(10):
            for column in range(10):
                x, y = column + float(shift[n, 0, row, column]), row + float(shift[n, 1, row, column])
                x, y = (abs(p) if p < 9 else 18 - p for p in (abs(x), abs(y)))  # mirrored at 0 and 9
                left, top = min(math.floor(x), 8), min(math.floor(y), 8)
                fx, fy = x - left, y - top
                wanted = (
                    images[n, :, top, left] * (1 - fx) * (1 - fy)
                    + images[n, :, top, left + 1] * fx * (1 - fy)
                    + images[n, :, top + 1, left] * (1 - fx) * fy
                    + images[n, :, top + 1, left + 1] * fx * fy
                )
                torch.testing.assert_close(made[n, :, row, column], wanted, atol=1e-4, rtol=0)
    assert torch.allclose(warp(images, torch.zeros(2, 2, 4, 4)), images, atol=1e-5)
