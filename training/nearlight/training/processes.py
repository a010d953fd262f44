"""Several processes that train as one, started by `torchrun`.

Each process encodes its part of every batch, and all of them compute the whole loss from the gathered
vectors. The gradients are those of one process with the whole batch: `gather` hands back W times the
gradient of the process's own rows, and the mean over the W processes follows. Scales and biases inside
the loss have the true gradient in each process, and keep it in the mean.
"""

import os
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from nearlight.training.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Processes:
    """This process among all that train together."""

    rank: int = 0
    world: int = 1

    @property
    def first(self) -> bool:
        """Whether this process writes the run folder."""
        return self.rank == 0

    def gather(self, rows: Tensor) -> Tensor:
        """Returns the rows of all processes in their order, (W B, ...), with gradients for one's own."""
        if self.world == 1:
            return rows
        gathered: Tensor = _Gather.apply(rows, self.rank, self.world)
        return gathered

    def average_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Replaces gradients by their mean over the processes."""
        if self.world > 1:
            _average([p.grad for p in parameters if p.grad is not None])

    def average_norms(self, module: nn.Module) -> None:
        """Replaces the running statistics of batch norms by their mean over the processes."""
        if self.world > 1:
            norms = [m for m in module.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
            _average([b for m in norms for b in (m.running_mean, m.running_var) if b is not None])

    def agree(self, wish: bool) -> bool:
        """Whether any process wishes it."""
        if self.world == 1:
            return wish
        votes = torch.tensor(float(wish))
        if dist.get_backend() == "nccl":
            votes = votes.cuda()
        dist.all_reduce(votes)
        return bool(votes > 0)

    def wait(self) -> None:
        """Waits until all processes are here."""
        if self.world > 1:
            dist.barrier()


def join_processes(device: torch.device) -> Processes:
    """Returns this process's place, joining the others if `torchrun` started several.

    Raises:
        ConfigError: the processes cannot find each other.
    """
    world = int(os.environ.get("WORLD_SIZE", "1"))
    if world == 1:
        return Processes()
    if not dist.is_initialized():
        try:
            dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
        except (RuntimeError, ValueError) as error:
            raise ConfigError(f"cannot join {world} processes: {error}") from None
    return Processes(dist.get_rank(), dist.get_world_size())


@torch.no_grad()
def _average(tensors: list[Tensor]) -> None:
    if not tensors:
        return
    flat = torch.cat([t.reshape(-1).float() for t in tensors])
    dist.all_reduce(flat)
    flat /= dist.get_world_size()
    for tensor, part in zip(tensors, torch.split(flat, [t.numel() for t in tensors]), strict=True):
        tensor.copy_(part.view_as(tensor))


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, rows: Tensor, rank: int, world: int) -> Tensor:
        ctx.rank, ctx.world, ctx.count = rank, world, len(rows)
        parts = [torch.empty_like(rows, memory_format=torch.contiguous_format) for _ in range(world)]
        dist.all_gather(parts, rows.contiguous())
        return torch.cat(parts)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        start = ctx.rank * ctx.count
        return gradients[0][start : start + ctx.count] * ctx.world, None, None
