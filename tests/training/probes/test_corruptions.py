"""Each corruption on a batch against loops over pixels, or Pillow, one image at a time; the same draws."""

import colorsys
import io
import math

import numpy as np
import numpy.typing as npt
import pytest
import torch
from PIL import Image
from scipy import ndimage
from torch import Tensor

from nearlight.training.errors import ConfigError
from nearlight.training.probes.corruptions import CORRUPTIONS, SEVERITIES, corrupt
from nearlight.training.probes.corruptions.blurs import (
    defocus_blur,
    disk,
    glass_blur,
    motion_blur,
    zoom_blur,
)
from nearlight.training.probes.corruptions.digital import box_matrix, elastic_transform
from nearlight.training.probes.corruptions.pixelwise import (
    brightness,
    contrast,
    gaussian_noise,
    impulse_noise,
    shot_noise,
)
from nearlight.training.probes.corruptions.sampling import gaussian, plasma, smear
from nearlight.training.probes.corruptions.weather import fog, frost, snow

Pixels = npt.NDArray[np.float64]
SIDE = 16


def seeded(seed: int = 7) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.fixture
def images() -> Tensor:
    """Levels of uint8, smooth and rough, with a black and a white one."""
    levels = torch.randint(0, 256, (5, 3, SIDE, SIDE), generator=seeded(0)) / 255
    levels[1] = gaussian(levels[1:2], 2.0)[0]
    levels[3], levels[4] = 0, 1
    return levels


def bilinear(image: Pixels, x: float, y: float, mirror: bool = False) -> Pixels:
    """Reads a (C, S, S) image between pixels, its edges repeated or mirrored."""
    top = image.shape[-1] - 1
    if mirror:
        x, y = (p % (2 * top) for p in (x, y))
        x, y = (2 * top - p if p > top else p for p in (x, y))
    x, y = (min(max(p, 0), top) for p in (x, y))
    left, up = min(int(x), top - 1), min(int(y), top - 1)
    fx, fy = x - left, y - up
    above = image[:, up, left] * (1 - fx) + image[:, up, left + 1] * fx
    below = image[:, up + 1, left] * (1 - fx) + image[:, up + 1, left + 1] * fx
    return np.asarray(above * (1 - fy) + below * fy)


def smeared(image: Pixels, radius: float, sigma: float, degrees: float) -> Pixels:
    weights = [math.exp(-0.5 * (tap / sigma) ** 2) for tap in range(2 * math.ceil(radius) + 1)]
    angle, made = math.radians(degrees), np.zeros_like(image)
    for row in range(image.shape[1]):
        for column in range(image.shape[2]):
            for tap, weight in enumerate(weights):
                at = bilinear(image, column + tap * math.cos(angle), row + tap * math.sin(angle))
                made[:, row, column] += weight / sum(weights) * at
    return made


def test_noises_by_their_draws(images: Tensor) -> None:
    wanted = images + 0.08 * torch.randn(images.shape, generator=seeded())
    torch.testing.assert_close(gaussian_noise(images, 3, seeded()), wanted)
    counted = torch.poisson(images * 100, generator=seeded()) / 100
    torch.testing.assert_close(shot_noise(images, 3, seeded()), counted)
    draw = torch.rand(images.shape, generator=seeded())
    made = impulse_noise(images, 5, seeded())
    for place in np.ndindex(*images.shape):
        u, value = float(draw[place]), float(images[place])
        assert float(made[place]) == (0 if u < 0.035 else 1 if u >= 0.965 else value)


def test_brightness_is_the_value_of_hsv_raised(images: Tensor) -> None:
    made = brightness(images, 4, seeded())
    for n, row, column in np.ndindex(5, SIDE, SIDE):
        hue, saturation, value = colorsys.rgb_to_hsv(*images[n, :, row, column].tolist())
        wanted = colorsys.hsv_to_rgb(hue, saturation, min(value + 0.2, 1))
        np.testing.assert_allclose(made[n, :, row, column].numpy(), wanted, atol=1e-5)


def test_contrast_by_hand(images: Tensor) -> None:
    made = contrast(images, 5, seeded())
    for image, found in zip(images.flatten(0, 1), made.flatten(0, 1), strict=True):
        torch.testing.assert_close(found, (image - image.mean()) * 0.15 + image.mean())


@pytest.mark.parametrize("sigma", [0.05, 0.4, 1.3])
def test_gaussian_is_scipys(images: Tensor, sigma: float) -> None:
    made = gaussian(images, sigma)
    for image, found in zip(images.flatten(0, 1), made.flatten(0, 1), strict=True):
        wanted = ndimage.gaussian_filter(image.double().numpy(), sigma, mode="nearest", truncate=4)
        np.testing.assert_allclose(found.numpy(), wanted, atol=1e-6)


@pytest.mark.parametrize("severity", SEVERITIES)
def test_defocus_is_a_softened_disk(images: Tensor, severity: int) -> None:
    radius = (0.3, 0.4, 0.5, 1, 1.5)[severity - 1] * SIDE / 32
    kernel = disk(radius, (0.4, 0.5, 0.6, 0.2, 0.1)[severity - 1]).double().numpy()
    assert kernel.sum() == pytest.approx(1)
    made = defocus_blur(images, severity, seeded())
    for image, found in zip(images.flatten(0, 1), made.flatten(0, 1), strict=True):
        wanted = ndimage.correlate(image.double().numpy(), kernel, mode="mirror")
        np.testing.assert_allclose(found.numpy(), wanted, atol=1e-6)
    assert disk(1.5, 0.1).shape == (5, 5)
    assert disk(1.5, 0.1)[2, 2] == pytest.approx(1 / 9, abs=1e-4)  # nine pixels lie inside


@pytest.mark.parametrize(("side", "severity"), [(16, 5), (64, 2)])
def test_glass_exchanges_pixels_one_by_one(side: int, severity: int) -> None:
    images = torch.rand(2, 3, side, side, generator=seeded(1))
    sigma, rounds = {5: (0.4, 2), 2: (0.25, 1)}[severity]
    sigma, reach = sigma * side / 32, max(round(side / 32), 1)
    generator, drawn = seeded(), []
    inner = list(range(side - reach, reach, -1))
    for _ in range(rounds):
        drawn.append(
            torch.randint(-reach, reach, (2, len(inner), len(inner), 2), generator=generator).numpy()
        )
    made = glass_blur(images, severity, seeded())
    for n in range(2):
        pixels = gaussian(images[n : n + 1], sigma)[0].numpy().copy()
        for draw in drawn:
            for i, row in enumerate(inner):
                for j, column in enumerate(inner):
                    other = row + draw[0, i, j, n], column + draw[1, i, j, n]
                    kept = pixels[:, row, column].copy()
                    pixels[:, row, column] = pixels[:, other[0], other[1]]
                    pixels[:, other[0], other[1]] = kept
        wanted = gaussian(torch.from_numpy(pixels)[None], sigma)[0]
        torch.testing.assert_close(made[n], wanted, atol=1e-6, rtol=0)


def test_motion_follows_each_images_own_direction(images: Tensor) -> None:
    degrees = (torch.rand(5, generator=seeded()) * 90 - 45).tolist()
    made = motion_blur(images, 2, seeded())
    for n in (0, 1):
        wanted = smeared(images[n].double().numpy(), 6 * SIDE / 32, 1.5 * SIDE / 32, degrees[n])
        np.testing.assert_allclose(made[n].numpy(), wanted, atol=1e-4)


def test_zoom_is_a_mean_of_magnifications(images: Tensor) -> None:
    made, middle = zoom_blur(images, 1, seeded()), (SIDE - 1) / 2
    image, total = images[0].double().numpy(), images[0].double().numpy().copy()
    for step in range(6):
        for row in range(SIDE):
            for column in range(SIDE):
                x, y = ((p - middle) / (1 + step / 100) + middle for p in (column, row))
                total[:, row, column] += bilinear(image, x, y)
    np.testing.assert_allclose(made[0].numpy(), total / 7, atol=1e-5)


def test_plasma_is_diamond_square() -> None:
    size, decay, rough, generator = 8, 2.0, 100.0, seeded()
    made = plasma(2, size, decay, seeded())
    cloud, step = np.zeros((2, size, size)), size
    while step >= 2:
        half, count = step // 2, size // step
        noise = torch.rand(2, count, count, generator=generator).numpy() * 2 - 1
        for n, i, j in np.ndindex(2, count, count):
            y, x = i * step, j * step
            around = [cloud[n, (y + dy) % size, (x + dx) % size] for dy in (0, step) for dx in (0, step)]
            cloud[n, y + half, x + half] = np.mean(around) + rough**2 * noise[n, i, j]
        edges = [((0, half), torch.rand(2, count, count, generator=generator).numpy() * 2 - 1)]
        edges.append(((half, 0), torch.rand(2, count, count, generator=generator).numpy() * 2 - 1))
        values = []
        for (dy, dx), noise in edges:
            for n, i, j in np.ndindex(2, count, count):
                y, x = i * step + dy, j * step + dx
                around = [
                    cloud[n, (y + a) % size, (x + b) % size]
                    for a, b in ((half, 0), (-half, 0), (0, half), (0, -half))
                ]
                values.append(((n, y, x), np.mean(around) + rough**2 * noise[n, i, j]))
        for place, value in values:
            cloud[place] = value
        step, rough = half, rough / decay
    low, high = cloud.min(axis=(1, 2), keepdims=True), cloud.max(axis=(1, 2), keepdims=True)
    np.testing.assert_allclose(made.numpy(), (cloud - low) / (high - low), atol=1e-5)
    assert plasma(1, 20, 3, seeded()).shape == (1, 20, 20)


def test_fog_and_frost_by_their_clouds(images: Tensor) -> None:
    cloud = plasma(5, SIDE, 2.5, seeded())
    made = fog(images, 3, seeded())
    for image, veil, found in zip(images, cloud, made, strict=True):
        top = float(image.max())
        torch.testing.assert_close(found, (image + 0.75 * veil) * top / (top + 0.75))
    ice = plasma(5, SIDE, 1.6, seeded())
    made = frost(images, 4, seeded())
    ridges = torch.minimum(2 * ice, 2 - 2 * ice)
    torch.testing.assert_close(made[:, 2], 0.85 * images[:, 2] + 0.4 * ridges, atol=1e-6, rtol=0)


def test_snow_by_hand(images: Tensor) -> None:
    generator = seeded()
    noise = torch.randn(5, 1, SIDE, SIDE, generator=generator).double().numpy()
    degrees = (torch.rand(5, generator=generator) * 90 - 135).tolist()
    made = snow(images, 2, seeded())
    for n in (0, 3):
        flakes = noise[n] * 0.2 + 0.1
        flakes = smeared(np.clip(np.where(flakes < 0.5, 0, flakes), 0, 1), 5, 2, degrees[n])
        image = images[n].double().numpy()
        grey = 0.2989 * image[0] + 0.587 * image[1] + 0.114 * image[2]
        white = np.maximum(image, grey * 1.5 + 0.5)
        wanted = 0.9 * image + 0.1 * white + flakes + flakes[:, ::-1, ::-1]
        np.testing.assert_allclose(made[n].numpy(), wanted, atol=1e-4)


@pytest.mark.parametrize("severity", [1, 4])
def test_elastic_reads_where_affine_and_field_say(images: Tensor, severity: int) -> None:
    strength, smooth, shift = ((0, 0, 0.08), (0.1, 0.04, 0.05))[severity // 4]
    generator = seeded()
    corners = ((torch.rand(5, 3, 2, generator=generator) * 2 - 1) * shift * SIDE).double().numpy()
    field = (torch.rand(5, 2, SIDE, SIDE, generator=generator) * 2 - 1).double().numpy()
    made = elastic_transform(images, severity, seeded())
    middle, arm = SIDE // 2, SIDE // 3
    still = np.array([[middle + arm, middle + arm], [middle + arm, middle - arm], [middle - arm] * 2])
    image = images[1].double().numpy()
    there = np.column_stack((still + corners[1], np.ones(3)))
    back = np.linalg.solve(there, still)  # (3, 2)
    moved = np.empty_like(image)
    for row in range(SIDE):
        for column in range(SIDE):
            x, y = np.array([column, row, 1]) @ back
            moved[:, row, column] = bilinear(image, x, y, mirror=True)
    wanted = moved.copy()
    if strength:
        shifts = [
            ndimage.gaussian_filter(f, smooth * SIDE, mode="nearest", truncate=3) * strength * SIDE
            for f in field[1]
        ]
        for row in range(SIDE):
            for column in range(SIDE):
                x, y = column + shifts[0][row, column], row + shifts[1][row, column]
                wanted[:, row, column] = bilinear(moved, x, y, mirror=True)
    np.testing.assert_allclose(made[1].numpy(), wanted, atol=1e-4)


@pytest.mark.parametrize("severity", SEVERITIES)
def test_pixelate_and_jpeg_are_pillows(severity: int) -> None:
    pixels = torch.randint(0, 256, (2, 32, 32, 3), dtype=torch.uint8, generator=seeded(2))
    small = int(32 * (0.95, 0.9, 0.85, 0.75, 0.65)[severity - 1])
    made = corrupt(pixels, "pixelate", severity)
    for one, found in zip(pixels.numpy(), made.numpy(), strict=True):
        box = Image.Resampling.BOX
        wanted = Image.fromarray(one).resize((small, small), box).resize((32, 32), box)
        assert int(np.abs(np.asarray(wanted).astype(int) - found.astype(int)).max()) <= 1  # they round twice
    made = corrupt(pixels, "jpeg_compression", severity)
    for one, found in zip(pixels.numpy(), made.numpy(), strict=True):
        buffer = io.BytesIO()
        Image.fromarray(one).save(buffer, "JPEG", quality=(80, 65, 58, 50, 40)[severity - 1])
        assert np.array_equal(np.asarray(Image.open(buffer)), found)
    assert torch.equal(box_matrix(4, 4), torch.eye(4))


def test_every_corruption_is_its_own_repeatable_and_worse_when_severe() -> None:
    smooth = gaussian(torch.rand(6, 3, 32, 32, generator=seeded(3)), 2.0)
    pixels = ((smooth - smooth.min()) / (smooth.max() - smooth.min()) * 255).to(torch.uint8)
    pixels = pixels.permute(0, 2, 3, 1)
    assert len(CORRUPTIONS) == 15
    for name in CORRUPTIONS:
        harm = []
        for severity in (1, 5):
            made = corrupt(pixels, name, severity)
            assert (made.shape, made.dtype) == (pixels.shape, torch.uint8)
            assert torch.equal(made, corrupt(pixels, name, severity))
            harm.append(float((made.float() - pixels.float()).abs().mean()))
        # The published severities of the elastic one shift less and bend more.
        assert min(harm) > 0
        assert harm[0] < harm[1] or name == "elastic_transform", name
    assert not torch.equal(corrupt(pixels, "fog", 3), corrupt(pixels, "fog", 3, seed=1))
    assert corrupt(pixels[:, :24, :24], "elastic_transform", 5).shape == (6, 24, 24, 3)


def test_mistakes_are_named() -> None:
    pixels = torch.zeros(1, 8, 8, 3, dtype=torch.uint8)
    with pytest.raises(ConfigError, match="no corruption 'rain'; one of gaussian_noise"):
        corrupt(pixels, "rain", 1)
    with pytest.raises(ConfigError, match="severity is 6"):
        corrupt(pixels, "fog", 6)
    with pytest.raises(ConfigError, match="images of 4 px"):
        corrupt(pixels[:, :4, :4], "fog", 1)
    assert smear(torch.ones(1, 1, 4, 4), 2, 1, torch.zeros(1)).allclose(torch.ones(1, 1, 4, 4))
