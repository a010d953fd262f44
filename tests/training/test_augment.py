import torch

from nearlight.training.augment import augment, crop_boxes, crop_side
from nearlight.training.config import AugmentSection

WHOLE = AugmentSection(crop_scale=(1.0, 1.0), crop_ratio=(1.0, 1.0), flip=0.0)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def images(count: int = 4, side: int = 16) -> torch.Tensor:
    return torch.rand(count, 3, side, side, generator=generator(9))


def test_the_whole_image_at_its_own_size_is_the_image() -> None:
    batch = images()
    assert torch.allclose(augment(batch, 16, WHOLE, generator()), batch, atol=1e-5)


def test_a_certain_flip_mirrors() -> None:
    batch = images()
    flipped = augment(batch, 16, WHOLE.model_copy(update={"flip": 1.0}), generator())
    assert torch.allclose(flipped, batch.flip(-1), atol=1e-5)


def test_a_crop_samples_the_box_it_says() -> None:
    section = AugmentSection(crop_scale=(0.3, 0.6), flip=0.0)
    batch, side = images(6, 20), 8
    boxes = crop_boxes(6, section, generator(4))
    views = augment(batch, side, section, generator(4))
    for n, (x, y, half_width, half_height) in enumerate(boxes.tolist()):
        for row, column in ((0, 0), (3, 5), (7, 7)):
            at_x = (x + half_width * ((2 * column + 1) / side - 1) + 1) / 2 * 20 - 0.5
            at_y = (y + half_height * ((2 * row + 1) / side - 1) + 1) / 2 * 20 - 0.5
            assert torch.allclose(views[n, :, row, column], bilinear(batch[n], at_y, at_x), atol=1e-4)


def bilinear(image: torch.Tensor, y: float, x: float) -> torch.Tensor:
    last = image.shape[-1] - 1
    y, x = abs(y), abs(x)  # reflection about the first pixel's outer edge is not reached by boxes inside
    top, left = min(int(y), last), min(int(x), last)
    down, right = min(top + 1, last), min(left + 1, last)
    upper = image[:, top, left] * (1 - (x - left)) + image[:, top, right] * (x - left)
    lower = image[:, down, left] * (1 - (x - left)) + image[:, down, right] * (x - left)
    return upper * (1 - (y - top)) + lower * (y - top)


def test_boxes_stay_inside_and_in_range() -> None:
    section = AugmentSection(crop_scale=(0.2, 0.9))
    x, y, half_width, half_height = crop_boxes(2000, section, generator()).T
    assert bool(((x.abs() + half_width) <= 1 + 1e-6).all())
    assert bool(((y.abs() + half_height) <= 1 + 1e-6).all())
    inner = (half_width < 1) & (half_height < 1)
    area, ratio = (half_width * half_height)[inner], (half_width / half_height)[inner]
    assert 0.2 - 1e-4 <= float(area.min()) < 0.25
    assert 0.75 - 1e-4 <= float(ratio.min()) < 0.8
    assert 1.25 < float(ratio.max()) <= 4 / 3 + 1e-4


def test_same_generator_same_views() -> None:
    section = AugmentSection(brightness=0.2, contrast=0.3)
    first = augment(images(), 8, section, generator(1))
    assert torch.equal(first, augment(images(), 8, section, generator(1)))
    assert not torch.equal(first, augment(images(), 8, section, generator(2)))
    assert first.is_contiguous(memory_format=torch.channels_last)


def test_crops_grow_in_steps_of_eight() -> None:
    section = AugmentSection(crop_px=(32, 56))
    sides = [crop_side(step, 100, section, 64) for step in range(100)]
    assert (sides[0], sides[-1]) == (32, 56)
    assert sides == sorted(sides)
    assert set(sides) == {32, 40, 48, 56}
    assert crop_side(5, 100, AugmentSection(), 64) == 64
