"""A moving average of the weights that are evaluated and exported (Polyak and Juditsky 1992), in float32."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from nearlight.training.method import Method


class WeightAverage:
    """The average of a method's exported encoder and head; the training itself never sees it.

    After step t it moves by a share of 1 - min(decay, (1 + t) / (10 + t)), so that the first weights are soon
    forgotten. What is not a float (counts of batch norms) is copied.
    """

    def __init__(self, method: Method, decay: float) -> None:
        self._method, self._decay = method, decay
        prefixes = tuple(f"{part}." for part in (method.exported, method.exported_head) if part)
        self._names = [name for name in method.state_dict() if name.startswith(prefixes)]
        self.weights = {name: _in_full(self._present()[name]) for name in self._names}

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Moves towards the present weights after a step (0-based)."""
        share = 1 - min(self._decay, (1 + step) / (10 + step))
        present = self._present()
        floats = [name for name in self._names if present[name].is_floating_point()]
        torch._foreach_lerp_(
            [self.weights[name] for name in floats], [present[name].float() for name in floats], share
        )
        for name in set(self._names) - set(floats):
            self.weights[name].copy_(present[name])

    def load(self, weights: dict[str, Tensor]) -> None:
        """Continues an average.

        Raises:
            KeyError: it lacks a weight.
        """
        for name, own in self.weights.items():
            own.copy_(weights[name])

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Puts the average in the place of the weights, and these back afterwards."""
        present = {name: tensor.clone() for name, tensor in self._present().items() if name in self.weights}
        self._method.load_state_dict(self.weights, strict=False)
        try:
            yield
        finally:
            self._method.load_state_dict(present, strict=False)

    def _present(self) -> dict[str, Tensor]:
        return dict(self._method.state_dict())


def _in_full(tensor: Tensor) -> Tensor:
    copy = tensor.detach().clone()
    return copy.float() if copy.is_floating_point() else copy
