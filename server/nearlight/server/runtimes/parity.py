"""Whether an encoder gives the vectors it should, and gives them whatever is in the batch beside them."""

from dataclasses import dataclass

import numpy as np

from nearlight.bundle.golden import least_cosine
from nearlight.server.call import F32, Row
from nearlight.server.runtimes.encoder import Encoder

# Kernels may add in another order when a batch has another size: the last bits of float32, no more.
MAX_DRIFT = 1e-5


@dataclass(frozen=True, slots=True)
class Probes:
    """Rows with the vectors that the reference gives for them.

    Args:
        rows: (N, H, W, 3) or (N, L), N at least 2.
        vectors: (N, D), unit length, of ONNX Runtime in float32.
        timed: rows of the shape on which speed is measured.
        used: the shortest length in use that holds each text, (N,); None for images and for towers that must
            not be trimmed.
    """

    rows: Row
    vectors: F32
    timed: Row
    used: tuple[int, ...] | None = None


@dataclass(frozen=True, slots=True)
class Parity:
    """How near an encoder is to the reference, and to itself.

    Args:
        cosine: the least over the probes.
        centred_cosine: the same after the mean of all probes is taken away from both sides: what is left is
            what tells inputs apart.
        drift: the largest change of any number when a row runs alone, or with less padding.
    """

    cosine: float
    centred_cosine: float
    drift: float

    def problem(self, min_cosine: float) -> str:
        """What is wrong with it, "" for nothing."""
        if not self.cosine >= min_cosine:
            return f"cosine {self.cosine:.6f}, below {min_cosine}"
        if not self.drift <= MAX_DRIFT:
            return f"a vector changes by {self.drift:.2g} with its batch or padding"
        return ""


def parity_of(encoder: Encoder, probes: Probes) -> Parity:
    """Run the probes together, alone, and (texts) at their own length."""
    together = encoder.encode(probes.rows)  # (N, D)
    drift = 0.0
    for i, row in enumerate(probes.rows):
        length = len(row) if probes.used is None else probes.used[i]
        alone = encoder.encode(probes.rows[i : i + 1, :length])  # (1, D)
        drift = max(drift, _largest_change(alone[0], together[i]))
    mean = probes.vectors.mean(axis=0)  # (D,)
    return Parity(
        cosine=least_cosine(probes.vectors, together),
        centred_cosine=least_cosine(probes.vectors - mean, together - together.mean(axis=0)),
        drift=drift,
    )


def _largest_change(a: F32, b: F32) -> float:
    change = float(np.abs(a - b).max())
    return change if np.isfinite(change) else float("inf")
