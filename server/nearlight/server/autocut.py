"""Where the scores of a list of hits fall off."""

import numpy as np

MAX_JUMPS = 10
# Less of the whole span than this is rounding, not a fall.
LEAST_FALL = 1e-6


def autocut(scores: list[float], jumps: int) -> int:
    """How many hits to keep: those before the `jumps`-th fall of the scores, all where there are fewer falls.

    The drops from the best score are drawn from (0, 0), the best hit, to (1, 1), the last. A fall is a local
    maximum of the curve's height over the diagonal, as are the knees of Satopää et al. 2011, "Finding a
    'Kneedle' in a Haystack"; Weaviate's autocut is of this kind too.

    Args:
        scores: best first.
        jumps: 1 or more.
    """
    if len(scores) < 3 or scores[0] == scores[-1]:
        return len(scores)
    drop = np.array(scores[0]) - np.array(scores)  # (H,)
    height = drop / drop[-1] - np.arange(len(scores)) / (len(scores) - 1)  # (H,), 0 at both ends
    found = 0
    for i in range(1, len(scores) - 1):
        if min(height[i] - height[i - 1], height[i] - height[i + 1]) > LEAST_FALL:
            found += 1
            if found == jumps:
                return i
    return len(scores)
