"""sRGB to CIE Lab."""

import torch
from torch import Tensor

# sRGB (IEC 61966-2-1) to XYZ, and the D65 white point of the 2° observer.
_TO_XYZ = (
    (0.412453, 0.357580, 0.180423),
    (0.212671, 0.715160, 0.072169),
    (0.019334, 0.119193, 0.950227),
)
_WHITE = (0.95047, 1.0, 1.08883)


def to_lab(images: Tensor) -> Tensor:
    """Returns (B, 3, H, W) L, a and b of sRGB images of 0 to 1; L / 50 - 1 and a, b / 110, about -1 to 1."""
    clipped = images.clamp(0, 1)
    linear = torch.where(clipped > 0.04045, ((clipped + 0.055) / 1.055) ** 2.4, clipped / 12.92)
    matrix, white = images.new_tensor(_TO_XYZ), images.new_tensor(_WHITE)
    xyz = torch.einsum("ij,bjhw->bihw", matrix, linear) / white[:, None, None]
    f = torch.where(xyz > 0.008856, xyz.clamp(min=1e-9) ** (1 / 3), 7.787 * xyz + 16 / 116)
    x, y, z = f.unbind(dim=1)
    return torch.stack(((116 * y - 16) / 50 - 1, 500 * (x - y) / 110, 200 * (y - z) / 110), dim=1)
