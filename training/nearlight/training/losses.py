"""Contrastive losses: pure functions of embeddings.

Scale convention: `logit_scale` is the multiplier itself, 1 / temperature, never its logarithm.
"""

import torch
from torch import Tensor
from torch.nn import functional as F


def clip_loss(image: Tensor, text: Tensor, logit_scale: Tensor, groups: Tensor | None = None) -> Tensor:
    r"""Returns the symmetric InfoNCE of paired images and texts over in-batch negatives.

    With s = logit_scale, u and v the unit vectors of images and texts, and q the targets,

    $$ L = -\frac{1}{2N} \sum_i \sum_j q_{ij} \left( \log \frac{e^{s u_i v_j}}{\sum_k e^{s u_i v_k}}
          + \log \frac{e^{s v_i u_j}}{\sum_k e^{s v_i u_k}} \right) $$

    Without `groups`, q is the identity: Radford et al. 2021, "Learning Transferable Visual Models From
    Natural Language Supervision", figure 3. With `groups`, rows of one group are positives of one
    another and q is uniform over them, as in Khosla et al. 2020, "Supervised Contrastive Learning"
    (the sum outside the logarithm), and Yang et al. 2022, "Unified Contrastive Learning" (UniCL).

    Args:
        image: (N, D), any length; normalised here.
        text: (N, D), row i is the caption of image i; normalised here.
        logit_scale: scalar, > 0.
        groups: (N,) integers; equal numbers share positives. None: each row is its own group.

    Returns:
        Scalar in nats, the mean over the 2N anchors of both directions.
    """
    # Outside autocast: logits rounded to bfloat16 would be off by up to 0.25 at a scale of 100.
    with torch.autocast(image.device.type, enabled=False):
        logits = logit_scale * _unit(image) @ _unit(text).T  # (N, N)
        if groups is None:
            index = torch.arange(len(logits), device=logits.device)  # (N,)
            return (F.cross_entropy(logits, index) + F.cross_entropy(logits.T, index)) / 2
        same = (groups[:, None] == groups[None, :]).to(logits.dtype)  # (N, N), symmetric
        target = same / same.sum(dim=1, keepdim=True)  # (N, N), rows sum to 1
        return (F.cross_entropy(logits, target) + F.cross_entropy(logits.T, target)) / 2


def _unit(vectors: Tensor) -> Tensor:
    """Returns rows of unit length, in float32 at least."""
    return F.normalize(vectors if vectors.dtype == torch.float64 else vectors.float(), dim=-1)
