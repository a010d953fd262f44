"""Each operation on batches against torchvision's on one image at a time."""

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F
from torchvision.transforms import InterpolationMode
from torchvision.transforms.v2 import CutMix, MixUp, RandomResizedCrop
from torchvision.transforms.v2 import functional as tv

from nearlight.training.views.blur import blur, kernel_px
from nearlight.training.views.colour import (
    adjust_brightness,
    adjust_contrast,
    adjust_hue,
    adjust_saturation,
    jitter,
    solarise,
    to_grey,
)
from nearlight.training.views.crop import crop, draw_boxes
from nearlight.training.views.degrade import add_noise, cutout
from nearlight.training.views.geometry import turn
from nearlight.training.views.mix import MixPlan, mix


@pytest.fixture
def images() -> Tensor:
    """Noise, flat colours, greys, black and white: where hues have no angle too."""
    made = torch.rand(12, 3, 24, 24, generator=torch.Generator().manual_seed(0))
    made[8] = torch.tensor([0.9, 0.2, 0.4])[:, None, None]
    made[9] = 0.5
    made[10] = 0
    made[11] = 1
    return made


def stack(operation: object, images: Tensor, values: Tensor) -> Tensor:
    return torch.stack([operation(i, float(v)) for i, v in zip(images, values, strict=True)])  # type: ignore[operator]


@pytest.mark.parametrize("side", [8, 24, 40])
def test_crop_and_flip(images: Tensor, side: int) -> None:
    boxes = draw_boxes(12, 24, (0.08, 1.0), (0.75, 4 / 3), torch.Generator().manual_seed(1))
    boxes[0] = torch.tensor([0, 0, 24, 24])
    boxes[1] = torch.tensor([23, 5, 1, 3])
    flip = torch.arange(12) % 2 == 0
    made = crop(images.permute(0, 2, 3, 1), boxes, flip, side)
    for image, box, turned, view in zip(images, boxes.tolist(), flip, made, strict=True):
        wanted = tv.resized_crop(image, *box, [side, side], InterpolationMode.BILINEAR, antialias=True)
        wanted = tv.horizontal_flip(wanted) if turned else wanted
        torch.testing.assert_close(view, wanted, atol=2e-6, rtol=0)


def test_boxes_are_distributed_as_torchvisions() -> None:
    scale, ratio, count = (0.08, 1.0), (0.75, 4 / 3), 4000
    boxes = draw_boxes(count, 32, scale, ratio, torch.Generator().manual_seed(0)).double()
    torch.manual_seed(0)
    theirs_of = RandomResizedCrop(32, scale, ratio)
    blank = torch.zeros(3, 32, 32)
    params = [theirs_of.make_params([blank]) for _ in range(count)]
    theirs = torch.tensor([[p[k] for k in ("top", "left", "height", "width")] for p in params]).double()
    assert int((boxes[:, 0] + boxes[:, 2]).max()) <= 32
    assert int((boxes[:, 1] + boxes[:, 3]).max()) <= 32
    assert int(boxes[:, 2:].min()) >= 1
    for quantile in (0.05, 0.25, 0.5, 0.75, 0.95):
        gap = boxes.quantile(quantile, dim=0) - theirs.quantile(quantile, dim=0)
        assert float(gap.abs().max()) <= 1.0
    torch.testing.assert_close(boxes.mean(dim=0), theirs.mean(dim=0), atol=0.5, rtol=0)


def test_impossible_ratios_fall_back_to_the_largest_box() -> None:
    wide = draw_boxes(5, 30, (1.0, 1.0), (2.0, 3.0), torch.Generator().manual_seed(0))
    assert wide.tolist() == [[7, 0, 15, 30]] * 5
    tall = draw_boxes(5, 30, (1.0, 1.0), (0.3, 0.5), torch.Generator().manual_seed(0))
    assert tall.tolist() == [[0, 7, 30, 15]] * 5


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (adjust_brightness, tv.adjust_brightness),
        (adjust_contrast, tv.adjust_contrast),
        (adjust_saturation, tv.adjust_saturation),
    ],
)
def test_factors(ours: object, theirs: object, images: Tensor) -> None:
    factors = torch.linspace(0, 2, 12)
    made = ours(images.clone(), factors)  # type: ignore[operator]
    torch.testing.assert_close(made, stack(theirs, images, factors), atol=2e-6, rtol=0)


def test_hue(images: Tensor) -> None:
    shifts = torch.linspace(-0.5, 0.5, 12)
    torch.testing.assert_close(
        adjust_hue(images, shifts), stack(tv.adjust_hue, images, shifts), atol=5e-6, rtol=0
    )


def test_grey_and_solarise(images: Tensor) -> None:
    torch.testing.assert_close(to_grey(images), tv.rgb_to_grayscale(images, 3), atol=2e-6, rtol=0)
    torch.testing.assert_close(solarise(images), tv.solarize(images, 0.5), atol=0, rtol=0)


def test_turns_and_holes(images: Tensor) -> None:
    quarters = torch.arange(12) % 4
    for image, quarter, made in zip(images, quarters.tolist(), turn(images, quarters), strict=True):
        assert torch.equal(made, tv.rotate(image, 90 * quarter))
    centre = torch.tensor([[5, 20]] * 12)
    for image, made in zip(images, cutout(images, centre, 6), strict=True):
        assert torch.equal(made, tv.erase(image, 2, 17, 6, 6, torch.full((3, 6, 6), 0.5)))


def test_noise(images: Tensor) -> None:
    torch.manual_seed(7)
    wanted = torch.stack([tv.gaussian_noise(image, 0.0, 0.2) for image in images])
    torch.manual_seed(7)
    grain = torch.stack([torch.randn_like(image) for image in images])
    torch.testing.assert_close(add_noise(images, torch.full((12,), 0.2), grain), wanted)


@pytest.mark.parametrize("theirs", [MixUp(alpha=1.0, num_classes=12), CutMix(alpha=1.0, num_classes=12)])
def test_mixing(images: Tensor, theirs: MixUp | CutMix) -> None:
    labels = torch.arange(12)
    torch.manual_seed(3)
    wanted, soft = theirs(images, labels)
    torch.manual_seed(3)
    drawn = theirs.make_params([images])
    box = drawn.get("box")
    share = drawn["lam_adjusted"] if box else drawn["lam"]
    plan = MixPlan(labels.roll(1), share, (box[1], box[0], box[3], box[2]) if box else None)
    mixed, order, shares = mix(images, plan)
    torch.testing.assert_close(mixed, wanted)
    own, other = F.one_hot(labels, 12), F.one_hot(labels[order], 12)
    torch.testing.assert_close(shares[:, None] * own + (1 - shares[:, None]) * other, soft)


@pytest.mark.parametrize("width", [3, 5, 23])
def test_blur(images: Tensor, width: int) -> None:
    sigma = torch.linspace(0.1, 2, 12)
    wanted = torch.stack(
        [tv.gaussian_blur(i, [width, width], [float(s)] * 2) for i, s in zip(images, sigma, strict=True)]
    )
    torch.testing.assert_close(blur(images, sigma, width), wanted, atol=2e-6, rtol=0)
    assert [kernel_px(s) for s in (16, 32, 64, 224)] == [3, 3, 7, 23]


def test_jitter_follows_each_images_own_order_and_leaves_the_others(images: Tensor) -> None:
    generator = torch.Generator().manual_seed(2)
    strengths = torch.rand(12, 4, generator=generator) + 0.5
    strengths[:, 3] -= 1
    order = torch.rand(12, 4, generator=generator).argsort(dim=1)
    chosen = torch.arange(12) != 3
    made = jitter(images.clone(), strengths, order, chosen)
    operations = (tv.adjust_brightness, tv.adjust_contrast, tv.adjust_saturation, tv.adjust_hue)
    assert len({tuple(row) for row in order.tolist()}) > 6
    for row, image in enumerate(images):
        wanted = image
        for kind in order[row].tolist() if chosen[row] else []:
            wanted = operations[kind](wanted, float(strengths[row, kind]))
        torch.testing.assert_close(made[row], wanted, atol=1e-5, rtol=0)
