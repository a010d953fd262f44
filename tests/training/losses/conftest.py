"""Peak memory of tensors, counted as they are made and freed: the same number on each run."""

import weakref
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class _Meter(TorchDispatchMode):
    """Sums the bytes of all storages that are alive, made while the mode was on."""

    def __init__(self) -> None:
        super().__init__()
        self.live, self.peak = 0, 0
        self.seen: set[int] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(result):
            if isinstance(leaf, Tensor):
                self._count(leaf.untyped_storage())
        return result

    def _count(self, storage: torch.UntypedStorage) -> None:
        key, size = storage._cdata, storage.nbytes()
        if key in self.seen:
            return
        self.seen.add(key)
        self.live += size
        self.peak = max(self.peak, self.live)
        weakref.finalize(storage, self._free, key, size)

    def _free(self, key: int, size: int) -> None:
        self.seen.discard(key)
        self.live -= size


@pytest.fixture
def peak_bytes() -> Callable[[Callable[[], Tensor]], int]:
    """Returns a function: the peak bytes of tensors made by a loss and its backward pass."""

    def measure(loss: Callable[[], Tensor]) -> int:
        with _Meter() as meter:
            loss().backward()  # type: ignore[no-untyped-call]
        return meter.peak

    return measure
