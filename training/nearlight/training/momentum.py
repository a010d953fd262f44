"""The momentum encoder: a copy whose weights follow the trained ones."""

import copy
import math

import torch
from torch import Tensor, nn


def momentum_copy(module: nn.Module) -> nn.Module:
    """Returns a copy that gets no gradient."""
    twin = copy.deepcopy(module)
    twin.requires_grad_(False)
    return twin


@torch.no_grad()
def follow(twin: nn.Module, module: nn.Module, momentum: float) -> None:
    """Moves the weights of a copy: m twin + (1 - m) module, in float32.

    Buffers are left: batch norms of the copy keep the statistics of what it sees itself, as in the papers'
    code.
    """
    twins: list[Tensor] = [*twin.parameters()]
    news: list[Tensor] = [*module.parameters()]
    torch._foreach_lerp_(twins, news, 1 - momentum)


def cosine_momentum(start: float, progress: float) -> float:
    """Returns 1 - (1 - start) (cos(π progress) + 1) / 2: from start to 1 (Grill et al. 2020, section 3.2)."""
    return 1 - (1 - start) * (math.cos(math.pi * progress) + 1) / 2
