"""The optimisers, and which parameters are decayed."""

import math
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from nearlight.training.sections import OptimiserSection


class Lars(torch.optim.Optimizer):
    """SGD with momentum and a step in proportion to each layer's weights.

    You, Gitman and Ginsburg 2017, "Large Batch Training of Convolutional Networks". With g the gradient
    with weight decay, the step is lr · trust · |w| / |g| · g, put into the momentum buffer without lr.
    Parameters with fewer than two dimensions (biases, norms, scales) take plain momentum steps without
    decay; so do layers whose weights or gradient are zero. Nothing waits for the device.
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float,
        momentum: float = 0.9,
        weight_decay: float = 0.0,
        trust: float = 0.001,
    ) -> None:
        super().__init__(
            params, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay, "trust": trust}
        )

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]  # no closure is supported
        """Takes one step."""
        for group in self.param_groups:
            for weights in group["params"]:
                if weights.grad is not None:
                    self._step(weights, weights.grad, group)

    def _step(self, weights: Tensor, gradient: Tensor, group: dict[str, Any]) -> None:
        if weights.ndim >= 2:
            gradient = gradient.add(weights, alpha=group["weight_decay"])
            size, slope = weights.norm(), gradient.norm()
            ratio = torch.where((size > 0) & (slope > 0), group["trust"] * size / slope, 1.0)
            gradient = gradient * ratio
        state = self.state[weights]
        if "momentum" not in state:
            state["momentum"] = torch.zeros_like(weights)
        state["momentum"].mul_(group["momentum"]).add_(gradient)
        weights.add_(state["momentum"], alpha=-group["lr"])


def build_optimiser(
    module: nn.Module, section: OptimiserSection, lr: float, steady: Iterable[nn.Module] = ()
) -> torch.optim.Optimizer:
    """Returns the optimiser of a module's trained parameters.

    Weight decay is on matrices and kernels only, not on norms, biases and scales.

    Args:
        module: with the parameters.
        section: which optimiser.
        lr: at its peak.
        steady: parts whose learning rate the schedule leaves alone.
    """
    fixed = {id(p) for part in steady for p in part.parameters()}
    trained = [p for p in module.parameters() if p.requires_grad]
    groups: list[dict[str, Any]] = []
    for steady_part in (False, True) if fixed else (False,):
        chosen = [p for p in trained if (id(p) in fixed) == steady_part]
        for decayed in (True, False):
            decay = section.weight_decay if decayed else 0.0
            group = {"params": [p for p in chosen if (p.ndim >= 2) == decayed], "weight_decay": decay}
            groups.append({**group, "steady": True} if steady_part else group)
    if section.name == "lars":
        return Lars(groups, lr, section.momentum, trust=section.trust)
    if section.name == "sgd":
        return torch.optim.SGD(groups, lr=lr, momentum=section.momentum)
    if section.name == "rmsprop":
        return torch.optim.RMSprop(groups, lr=lr, momentum=section.momentum, eps=section.eps)
    return torch.optim.AdamW(groups, lr=lr, betas=section.betas, eps=section.eps)


def set_rates(optimiser: torch.optim.Optimizer, lr: float, factor: float, decay: float) -> None:
    """Sets the learning rate, lr · factor, and the weight decay of the groups that have one."""
    for group in optimiser.param_groups:
        group["lr"] = lr if group.get("steady") else lr * factor
        if group["weight_decay"]:
            group["weight_decay"] = decay


def decay_at(progress: float, section: OptimiserSection) -> float:
    """Returns the weight decay after a share of the run, 0 to 1: constant, or a cosine to its end."""
    if section.weight_decay_end is None:
        return section.weight_decay
    end = section.weight_decay_end
    return end + (section.weight_decay - end) * (math.cos(math.pi * progress) + 1) / 2
