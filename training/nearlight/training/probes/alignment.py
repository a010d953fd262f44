"""How near views of one image lie, and how evenly all images do."""

from torch import Tensor
from torch.nn import functional as F


def alignment(first: Tensor, second: Tensor) -> float:
    """Returns E |x - y|² over unit vectors of two views of the same images, 0 to 4; lower is nearer.

    Wang and Isola 2020, equation 1 with α = 2.

    Args:
        first: (N, D); normalised here.
        second: (N, D); normalised here.
    """
    a, b = F.normalize(first, dim=1), F.normalize(second, dim=1)
    return float((a - b).square().sum(dim=1).mean())
