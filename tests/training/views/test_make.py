from typing import Any

import torch

from nearlight.training.sections import EncoderSection, ViewSection
from nearlight.training.views import Share, make_views
from nearlight.training.views.lab import to_lab
from nearlight.training.views.mix import draw_mix, mix

EVERYTHING = ViewSection(
    turn=0.5,
    policy="randaugment",
    jitter=0.8,
    grey=0.2,
    warp=0.5,
    blur=0.5,
    solarise=0.2,
    noise=0.5,
    sobel=0.3,
    cutout=0.5,
    count=2,
)
ENCODER = EncoderSection(image_px=16)


def pixels(count: int) -> torch.Tensor:
    return torch.randint(
        0, 256, (count, 20, 20, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)
    )


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(5)


def test_the_same_state_gives_the_same_views_and_each_view_its_own() -> None:
    local = ViewSection(side_px=8)
    first, second, small = make_views(pixels(6), (EVERYTHING, local), ENCODER, generator())
    assert (first.shape, small.shape) == ((6, 3, 16, 16), (6, 3, 8, 8))
    assert first.is_contiguous(memory_format=torch.channels_last)
    assert not torch.equal(first, second)
    again = make_views(pixels(6), (EVERYTHING, local), ENCODER, generator())
    assert all(torch.equal(a, b) for a, b in zip((first, second, small), again, strict=True))


def test_processes_with_a_share_each_make_the_views_of_one_with_all() -> None:
    whole = make_views(pixels(8), (EVERYTHING,), ENCODER, generator())
    for start in (0, 4):
        part = make_views(pixels(8)[start : start + 4], (EVERYTHING,), ENCODER, generator(), Share(start, 8))
        for view, wanted in zip(part, whole, strict=True):
            torch.testing.assert_close(view, wanted[start : start + 4], atol=1e-6, rtol=0)


def test_each_operation_changes_a_view_when_it_is_asked_for() -> None:
    plain: dict[str, Any] = {"crop_scale": (1.0, 1.0), "crop_ratio": (1.0, 1.0), "flip": 0.0}
    same = EncoderSection(image_px=20)
    (still,) = make_views(pixels(6), (ViewSection(**plain),), same, generator())
    names = ("turn", "warp", "noise", "sobel", "cutout", "blur", "solarise", "grey")
    wishes: list[tuple[str, Any, int]] = [(name, 1.0, 6) for name in names]
    wishes += [("policy", policy, 2) for policy in ("randaugment", "autoaugment", "autoaugment-imagenet")]
    for name, value, least in wishes:
        section = ViewSection.model_validate({**plain, name: value})
        (view,) = make_views(pixels(6), (section,), same, generator())
        changed = (view != still).flatten(1).any(dim=1)
        assert int(changed.sum()) >= least, (name, value)


def test_without_operations_a_view_is_the_image_normalised() -> None:
    plain = ViewSection(crop_scale=(1.0, 1.0), crop_ratio=(1.0, 1.0), flip=0)
    same = EncoderSection(image_px=20)
    (view,) = make_views(pixels(3), (plain,), same, generator())
    mean, std = torch.tensor(same.mean), torch.tensor(same.std)
    wanted = ((pixels(3) / 255 - mean) / std).permute(0, 3, 1, 2)
    torch.testing.assert_close(view, wanted, atol=1e-5, rtol=0)


def test_lab_of_known_colours() -> None:
    colours = torch.tensor([[1.0, 1, 1], [0, 0, 0], [1, 0, 0], [0, 0, 1]]).view(4, 3, 1, 1)
    found = to_lab(colours).view(4, 3)
    found = torch.stack((50 * (found[:, 0] + 1), 110 * found[:, 1], 110 * found[:, 2]), dim=1)
    # CIE Lab of sRGB white, black, red and blue under D65.
    wanted = torch.tensor([[100, 0, 0], [0, 0, 0], [53.24, 80.09, 67.20], [32.30, 79.19, -107.86]])
    torch.testing.assert_close(found, wanted, atol=0.05, rtol=0)


def test_mixing_keeps_shares_and_places() -> None:
    images = torch.arange(6.0).view(6, 1, 1, 1).expand(6, 3, 10, 10)
    plan = draw_mix(6, 10, 1.0, 0.0, generator())
    mixed, order, share = mix(images, plan)
    wanted = share * torch.arange(6.0) + (1 - share) * order
    torch.testing.assert_close(mixed.mean(dim=(1, 2, 3)), wanted)
    plan = draw_mix(6, 10, 0.0, 1.0, generator())
    mixed, order, share = mix(images, plan)
    own = (mixed == images).all(dim=1).float().mean(dim=(1, 2))
    moved = order != torch.arange(6)
    torch.testing.assert_close(own[moved], share[moved])
    assert plan.box is not None
