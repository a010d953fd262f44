"""How far a classifier's confidence is from its accuracy."""

import torch
from torch import Tensor

BINS = 15


def calibration_error(probabilities: Tensor, truth: Tensor, bins: int = BINS) -> float:
    """Returns the expected calibration error, 0 to 1: Σ |B_m| / n · |accuracy(B_m) - confidence(B_m)|.

    Guo et al. 2017, "On Calibration of Modern Neural Networks", equation 3; bins of equal width.

    Args:
        probabilities: (N, C), rows sum to 1.
        truth: (N,) int64.
        bins: how many.
    """
    confidence, guess = probabilities.max(dim=1)
    hit = (guess == truth).double()
    place = (confidence * bins).ceil().long().sub(1).clamp(0, bins - 1)  # bins are (m - 1, m] / bins
    gap = torch.zeros(bins, dtype=torch.float64).scatter_add_(0, place, hit - confidence.double())
    return float(gap.abs().sum() / len(truth))
