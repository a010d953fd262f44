"""Every tile size, and the peak memory of tensors, counted as they are made and freed."""

import weakref
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from nearlight.training.losses import tiling

N = 7  # rows of the batches that are compared with loops


@pytest.fixture(params=["dense", 1, 3, N, N + 1], ids=lambda side: f"side={side}")
def any_tiling(request: pytest.FixtureRequest) -> Iterator[None]:
    """One matrix, then tiles of one element, uneven ones, and one tile that fits or is too large."""
    if request.param == "dense":
        yield
    else:
        with tiling(dense_elements=0, side=request.param):
            yield


@pytest.fixture(params=["dense", 3], ids=lambda side: f"side={side}")
def dense_and_tiled(request: pytest.FixtureRequest) -> Iterator[None]:
    """One matrix, then uneven tiles."""
    with tiling(dense_elements=2**22 if request.param == "dense" else 0, side=3):
        yield


@pytest.fixture
def batch() -> Callable[..., Tensor]:
    """Returns a function: float64 vectors that want a gradient, of any length, for a shape and a seed."""

    def draw(*shape: int, seed: int = 0) -> Tensor:
        generator = torch.Generator().manual_seed(seed)
        return torch.randn(*shape, generator=generator, dtype=torch.float64).requires_grad_()

    return draw


class _Meter(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Sums the bytes of all storages that are alive, made while the mode was on."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
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
        meter = _Meter()
        with meter:
            loss().backward()  # type: ignore[no-untyped-call]
        return meter.peak

    return measure
