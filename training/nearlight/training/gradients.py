"""The gradients of one batch: in one go, or chunk by chunk (GradCache), by one process or many."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from nearlight.training.batches import Batch
from nearlight.training.errors import Diverged
from nearlight.training.method import Method, Truth, Vectors
from nearlight.training.processes import Processes

_VIEWS, _EMBED, _LOSS = 0, 1, 2  # separate streams of random numbers


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a step computed, besides the gradients it left in the parameters."""

    loss: float
    logged: dict[str, float]
    vectors: Vectors


def add_gradients(
    method: Method, batch: Batch, processes: Processes, chunk: int | None, autocast: torch.autocast
) -> Outcome:
    """Adds the gradients of a batch's loss to the parameters.

    With `chunk` the images are encoded so many at a time, first without gradients; the loss of all
    vectors gives the gradient of each vector, and each chunk is encoded again to pass it on (Gao et al.
    2021, "Scaling Deep Contrastive Learning Batch Size under Memory Limited Setup"). The loss and its
    own parameters see the whole batch once. Random numbers are replayed, so that dropout drops the same.
    Batch norms use the statistics of the chunk; their running statistics move in the first pass alone.

    Args:
        method: in training mode.
        batch: this process's part, on the device of the method.
        processes: all that share the batch.
        chunk: samples encoded at a time, >= 2 where there are batch norms; None: all.
        autocast: around encoding and the loss.

    Raises:
        Diverged: the loss is not finite; no gradient was added.
    """
    config = method.config
    streams = [generator_of(config.seed, batch.step, stream) for stream in (_VIEWS, _EMBED, _LOSS)]
    views = method.views(batch, streams[_VIEWS])  # in float32: a crop's place has more digits than bfloat16
    with autocast:
        if chunk is None or chunk >= len(batch.index):
            vectors = method.embed(views, batch, streams[_EMBED])
            replay = None
        else:
            replay = _Replay(method, views, batch, chunk, streams[_EMBED], autocast)
            vectors = replay.vectors
        whole = {name: processes.gather(rows) for name, rows in vectors.items()}
        truth = Truth(
            batch.step, *(processes.gather(rows) for rows in (batch.index, batch.labels, batch.groups))
        )
        loss, logged = method.loss(whole, truth, streams[_LOSS])
    value = loss.item()
    if not math.isfinite(value):
        raise Diverged(f"the loss is {value} at step {batch.step}{_where(method, whole)}")
    loss.backward()  # type: ignore[no-untyped-call]
    if replay is not None:
        replay.backward()
    processes.average_gradients(method.parameters())
    processes.average_norms(method)
    return Outcome(value, {k: float(v) for k, v in logged.items()}, {k: v.detach() for k, v in whole.items()})


def generator_of(seed: int, step: int, stream: int = 0) -> torch.Generator:
    """Returns the CPU generator of a step and a stream; the same in all processes."""
    return torch.Generator().manual_seed((seed * 1_000_003 + step + stream * 7_919_000_011) % 2**63)


def _where(method: nn.Module, vectors: Vectors) -> str:
    """Says what is not finite, from the weights on."""
    for kind, named in (("weights", method.named_parameters()), ("buffer", method.named_buffers())):
        for name, tensor in named:
            if tensor.is_floating_point() and not bool(tensor.isfinite().all()):
                return f"; the {kind} {name} are not finite"
    for name, rows in vectors.items():
        if rows.is_floating_point() and not bool(rows.isfinite().all()):
            bad = (~rows.flatten(1).isfinite().all(dim=1)).nonzero()[:, 0].tolist()
            return f"; the vectors {name!r} of {len(bad)} images are not finite, the first in row {bad[0]}"
    return "; weights and vectors are finite, so it is the loss itself"


class _Replay:
    """Vectors made without gradients, chunk by chunk, and how to make them again with theirs."""

    def __init__(
        self,
        method: Method,
        views: list[Tensor],
        batch: Batch,
        chunk: int,
        generator: torch.Generator,
        autocast: torch.autocast,
    ) -> None:
        self._method, self._views, self._batch = method, views, batch
        self._generator, self._autocast = generator, autocast
        stops = [*range(chunk, len(batch.index), chunk), len(batch.index)]
        self._cuts = list(zip([0, *stops[:-1]], stops, strict=True))
        self._states: list[tuple[Tensor, ...]] = []
        parts: list[Vectors] = []
        with torch.no_grad():
            for cut in self._cuts:
                self._states.append(self._random_state())
                parts.append(self._embed(cut))
        self.vectors: Vectors = {name: torch.cat([p[name] for p in parts]) for name in parts[0]}
        for rows in self.vectors.values():
            rows.requires_grad_(rows.is_floating_point())

    def backward(self) -> None:
        """Passes the gradients of the vectors on to the encoder."""
        with _norms_kept(self._method):
            for cut, state in zip(self._cuts, self._states, strict=True):
                self._restore(state)
                with self._autocast:
                    again = self._embed(cut)
                passed = [
                    (rows, self.vectors[name].grad)
                    for name, rows in again.items()
                    if rows.requires_grad and self.vectors[name].grad is not None
                ]
                gradients = [g[cut[0] : cut[1]] for _, g in passed if g is not None]
                torch.autograd.backward([rows for rows, _ in passed], gradients)

    def _embed(self, cut: tuple[int, int]) -> Vectors:
        views = [view[slice(*cut)] for view in self._views]
        return self._method.embed(views, self._batch.rows(*cut), self._generator)

    def _random_state(self) -> tuple[Tensor, ...]:
        cuda = (torch.cuda.get_rng_state(),) if self._batch.pixels.is_cuda else ()
        return (self._generator.get_state(), torch.get_rng_state(), *cuda)

    def _restore(self, state: tuple[Tensor, ...]) -> None:
        self._generator.set_state(state[0])
        torch.set_rng_state(state[1])
        if len(state) > 2:
            torch.cuda.set_rng_state(state[2])


@contextmanager
def _norms_kept(module: nn.Module) -> Iterator[None]:
    """Leaves the buffers of batch norms as they were."""
    norms = [m for m in module.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    kept = [(buffer, buffer.clone()) for norm in norms for buffer in norm.buffers()]
    try:
        yield
    finally:
        for buffer, value in kept:
            buffer.copy_(value)
