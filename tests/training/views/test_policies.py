"""Each operation of a policy on a batch against torchvision's on one image at a time."""

import pytest
import torch
from torch import Tensor
from torchvision.transforms import AutoAugment, AutoAugmentPolicy, InterpolationMode
from torchvision.transforms.v2 import RandAugment

from nearlight.training.views.policies import (
    NAMES,
    OPERATIONS,
    Steps,
    apply_steps,
    draw_auto_augment,
    draw_rand_augment,
)


@pytest.fixture
def images() -> Tensor:
    """Noise of uint8 levels, dim and bright, flat, black and white."""
    levels = torch.randint(0, 256, (10, 3, 22, 22), generator=torch.Generator().manual_seed(0))
    levels[5] = levels[5] // 4
    levels[6] = levels[6] // 3 + 160
    levels[7], levels[8], levels[9] = 90, 0, 255
    return levels / 255


def theirs(image: Tensor, name: str, amount: float) -> Tensor:
    if name == "Equalize":  # theirs works in uint8
        made = theirs_of((image * 255).round().to(torch.uint8), name, amount)
        return made / 255
    if name == "Posterize":
        return theirs_of((image * 255).round().to(torch.uint8), name, amount) / 255
    return theirs_of(image, name, amount)


def theirs_of(image: Tensor, name: str, amount: float) -> Tensor:
    made: Tensor = RandAugment()._apply_image_or_video_transform(
        image, name, amount, InterpolationMode.BILINEAR, {Tensor: None}
    )
    return made


@pytest.mark.parametrize("strength", [0.0, 0.37, 1.0])
@pytest.mark.parametrize(
    ("name", "sign"),
    [(name, sign) for name in NAMES for sign in (1, -1) if sign > 0 or OPERATIONS[name].signed],
)
def test_operation(images: Tensor, name: str, sign: int, strength: float) -> None:
    operation = OPERATIONS[name]
    amount = sign * operation.amount(torch.full((10,), strength), 22)
    made = operation.apply(images.clone(), amount)
    wanted = torch.stack([theirs(image, name, float(amount[0])) for image in images])
    torch.testing.assert_close(made, wanted, atol=2e-5, rtol=0)


def test_amounts_are_torchvisions() -> None:
    table = RandAugment()._AUGMENTATION_SPACE
    assert set(table) == set(NAMES) - {"Invert"}
    for name, (magnitudes, signed) in table.items():
        assert OPERATIONS[name].signed == signed
        wanted = magnitudes(31, 32, 32)
        if wanted is not None:
            found = OPERATIONS[name].amount(torch.arange(31) / 30, 32)
            torch.testing.assert_close(found, wanted.float(), atol=1e-5, rtol=0)


def test_each_image_takes_its_own_steps_in_its_own_order(images: Tensor) -> None:
    steps = draw_rand_augment(10, 3, 12, torch.Generator().manual_seed(1))
    assert len({tuple(row) for row in steps.kinds.tolist()}) > 5
    assert bool((steps.strengths == 12 / 30).all())
    made = apply_steps(images, steps)
    for row in range(10):
        one = images[row : row + 1].clone()
        for place in range(3):
            operation = OPERATIONS[NAMES[int(steps.kinds[row, place])]]
            amount = operation.amount(steps.strengths[row, place : place + 1], 22) * steps.signs[row, place]
            one = operation.apply(one, amount)
        torch.testing.assert_close(made[row], one[0], atol=1e-6, rtol=0)


def test_draws_have_the_published_chances() -> None:
    steps = draw_rand_augment(20_000, 1, 9, torch.Generator().manual_seed(2))
    counts = torch.bincount(steps.kinds[:, 0], minlength=len(NAMES)) / 20_000
    torch.testing.assert_close(counts[:-1], torch.full((14,), 1 / 14), atol=0.01, rtol=0)
    assert counts[-1] == 0  # no Invert
    sheared = steps.signs[steps.kinds == NAMES.index("ShearX")]
    assert abs(float(sheared.mean())) < 0.1
    assert bool((steps.signs[steps.kinds == NAMES.index("Equalize")] == 1).all())
    auto = draw_auto_augment(20_000, "cifar10", torch.Generator().manual_seed(3))
    wanted = torch.zeros(len(NAMES))
    for pair in AutoAugment(AutoAugmentPolicy.CIFAR10).policies:
        for name, chance, _ in pair:
            wanted[NAMES.index(name)] += chance / 25
    found = torch.bincount(auto.kinds.flatten(), minlength=len(NAMES)) / 20_000
    torch.testing.assert_close(found[1:], wanted[1:], atol=0.02, rtol=0)


def test_nothing_to_do_leaves_images(images: Tensor) -> None:
    still = torch.zeros(10, 2, dtype=torch.int64)
    steps = Steps(still, torch.ones(10, 2), torch.ones(10, 2))
    assert torch.equal(apply_steps(images, steps), images)
