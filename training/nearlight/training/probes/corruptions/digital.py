"""Elastic warps, pixelation and JPEG."""

import io

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from nearlight.training.probes.corruptions.sampling import gaussian, places, take


def elastic_transform(images: Tensor, severity: int, generator: torch.Generator) -> Tensor:
    """Returns images turned, sheared and stretched a little, then warped by a smooth random field."""
    strength, smooth, shift = (
        (0.0, 0.0, 0.08),
        (0.05, 0.2, 0.07),
        (0.08, 0.06, 0.06),
        (0.1, 0.04, 0.05),
        (0.1, 0.03, 0.03),
    )[severity - 1]
    side = images.shape[-1]
    corners = (torch.rand(len(images), 3, 2, generator=generator) * 2 - 1) * shift * side
    field = torch.rand(len(images), 2, side, side, generator=generator) * 2 - 1
    moved = _affine(images, corners.to(images))
    if not strength:
        return moved
    field = gaussian(field.to(images), smooth * side, truncate=3.0) * strength * side
    x, y = places(images)
    return take(moved, x + field[:, 0], y + field[:, 1], "reflection")


def _affine(images: Tensor, shifts: Tensor) -> Tensor:
    """Returns images under the affine maps that move three points around the centre by (N, 3, 2) pixels."""
    side = images.shape[-1]
    middle, arm = side // 2, side // 3
    points = images.new_tensor(
        [[middle + arm, middle + arm], [middle + arm, middle - arm], [middle - arm, middle - arm]]
    )  # (3, 2) x, y
    ones = images.new_ones(len(images), 3, 1)
    there = torch.cat((points + shifts, ones), dim=2)  # (N, 3, 3)
    back = torch.linalg.solve(there, points.expand(len(images), 3, 2))  # (N, 3, 2): from moved to still
    x, y = places(images)
    at = torch.stack((x.expand(len(images), -1, -1), y.expand(len(images), -1, -1)), dim=-1)
    at = at @ back[:, None, :2] + back[:, None, 2:]  # (N, S, S, 2)
    return take(images, at[..., 0], at[..., 1], "reflection")


def pixelate(images: Tensor, severity: int, generator: torch.Generator) -> Tensor:
    """Returns images shrunk with a box filter and enlarged with it."""
    share = (0.95, 0.9, 0.85, 0.75, 0.65)[severity - 1]
    side = images.shape[-1]
    small = max(int(side * share), 1)
    both = (box_matrix(small, side) @ box_matrix(side, small)).to(images)
    return both @ images @ both.T


def box_matrix(side_in: int, side_out: int) -> Tensor:
    """Returns (side_out, side_in): the mean of the input pixels whose centres each output pixel covers.

    An output pixel that covers no centre (when enlarging) takes that of the pixel it lies in. Pillow's BOX.
    """
    step = side_in / side_out
    matrix = torch.zeros(side_out, side_in)
    for row in range(side_out):
        centre, reach = (row + 0.5) * step, 0.5 * max(step, 1)
        first, last = int(centre - reach + 0.5), min(int(centre + reach + 0.5), side_in)
        matrix[row, first : max(last, first + 1)] = 1
    return matrix / matrix.sum(dim=1, keepdim=True)


def jpeg_compression(images: Tensor, severity: int, generator: torch.Generator) -> Tensor:
    """Returns images through JPEG of a quality, by Pillow, one by one."""
    quality = (80, 65, 58, 50, 40)[severity - 1]
    pixels = (images * 255).round().to(torch.uint8).permute(0, 2, 3, 1).cpu().numpy()
    made = []
    for one in pixels:
        buffer = io.BytesIO()
        Image.fromarray(one).save(buffer, "JPEG", quality=quality)
        made.append(np.asarray(Image.open(buffer)))
    return torch.from_numpy(np.stack(made)).to(images.device).permute(0, 3, 1, 2).to(images.dtype) / 255
