"""Chunks and processes give the gradients of one process with the whole batch."""

import os
import socket
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch.multiprocessing.spawn import spawn

from nearlight.training.config import RunConfig, check_config, load_config
from nearlight.training.errors import Diverged
from nearlight.training.gradients import add_gradients
from nearlight.training.processes import Processes, join_processes
from nearlight.training.trainer import Trainer

VIT = {"name": "vit-tiny", "image_px": 16, "patch_px": 8}
EXACT = [
    "epochs=null",
    "optimiser.warmup_epochs=null",
    "batch_size=8",
    "precision=fp32",
    "device=cpu",
    "steps=2",
]


def image_config(method: str, data: Path, *settings: str) -> RunConfig:
    overrides = {"data": {"train": [str(data)], "cache_px": 16}, "encoder": VIT}
    return load_config(None, overrides, [*EXACT, *settings], method)


def gradients(config: RunConfig, run: Path) -> tuple[float, dict[str, torch.Tensor]]:
    """Returns loss and gradients of the first batch, in this process's place among all."""
    trainer = Trainer(config, run)
    batch = trainer._open_data().make(0)
    off = torch.autocast("cpu", enabled=False)
    outcome = add_gradients(trainer.method, batch, trainer.processes, config.chunk, off)
    return outcome.loss, {n: p.grad for n, p in trainer.method.named_parameters() if p.grad is not None}


def same(a: tuple[float, dict[str, torch.Tensor]], b: tuple[float, dict[str, torch.Tensor]]) -> None:
    assert a[0] == pytest.approx(b[0], rel=1e-5)
    assert a[1].keys() == b[1].keys()
    scale = max(float(g.abs().max()) for g in a[1].values())
    for name, gradient in a[1].items():
        torch.testing.assert_close(gradient, b[1][name], atol=2e-5 * scale, rtol=2e-3, msg=f"{name} differs")


@pytest.fixture
def configs(small: dict[str, Any], labelled: Path) -> dict[str, RunConfig]:
    """A method of images whose head has no batch norm, and one of texts with a trained scale."""
    clip = {**small, "batch_size": 24, "precision": "fp32", "steps": 2}
    return {
        "supcon": image_config("supcon", labelled, "options.hidden=32", "options.projection=16"),
        "clip": check_config(clip),
    }


@pytest.mark.parametrize("method", ["supcon", "clip"])
@pytest.mark.parametrize("chunk", [3, 4])
def test_chunks_give_the_gradients_of_the_whole_batch(
    method: str, chunk: int, configs: dict[str, RunConfig], tmp_path: Path
) -> None:
    config = configs[method]
    whole = gradients(config, tmp_path / "whole")
    same(whole, gradients(config.model_copy(update={"chunk": chunk}), tmp_path / "chunks"))
    if method == "clip":
        assert float(whole[1]["towers.logit_scale"].abs()) > 0


def test_chunks_replay_dropout_and_move_batch_norms_once(labelled: Path, tmp_path: Path) -> None:
    overrides = {
        "data": {"train": [str(labelled)], "cache_px": 16},
        "encoder": {"name": "resnet10", "image_px": 16, "width": 0.125},
    }
    config = load_config(None, overrides, [*EXACT, "chunk=4", "options.hidden=32"], "simclr")
    trainer = Trainer(config, tmp_path / "run")
    head = trainer.method.get_submodule("head")
    assert isinstance(head, torch.nn.Sequential)
    head.append(torch.nn.Dropout(0.5))
    seen: list[torch.Tensor] = []
    head.register_forward_hook(lambda m, i, o: seen.append(o.detach()))
    off = torch.autocast("cpu", enabled=False)
    add_gradients(trainer.method, trainer._open_data().make(0), Processes(), 4, off)
    assert len(seen) == 4
    assert torch.equal(seen[0], seen[2])
    assert torch.equal(seen[1], seen[3])
    assert not torch.equal(seen[0], seen[1])
    counted = [b for n, b in trainer.method.named_buffers() if n.endswith("num_batches_tracked")]
    assert {int(b) for b in counted} == {2}


def test_a_gradient_that_is_not_finite_leaves_weights_and_saves_them(labelled: Path, tmp_path: Path) -> None:
    config = image_config("supcon", labelled, "options.hidden=32")
    trainer = Trainer(config, tmp_path / "run")
    head = trainer.method.get_parameter("head.0.weight")
    head.register_hook(lambda g: g * float("inf"))  # type: ignore[no-untyped-call]
    before = head.detach().clone()
    with pytest.raises(Diverged, match="gradient is .* at step 0.*state before it is saved"):
        trainer.train()
    assert torch.equal(head, before)
    assert (tmp_path / "run" / "checkpoint.pt").is_file()
    assert (tmp_path / "run" / "diverged.json").is_file()


def _worker(rank: int, world: int, port: int, configs: dict[str, RunConfig], folder: Path) -> None:
    os.environ |= {
        "RANK": str(rank),
        "WORLD_SIZE": str(world),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
    }
    torch.set_num_threads(1)
    assert join_processes(torch.device("cpu")) == Processes(rank, world)
    for name, config in configs.items():
        found = gradients(config, folder / name)
        if rank == world - 1:  # not the first, whose own rows come first
            torch.save(found, folder / f"{name}.pt")
    dist.destroy_process_group()


@pytest.mark.parametrize("world", [2, pytest.param(4, marks=pytest.mark.slow)])
def test_processes_give_the_loss_and_gradients_of_one(
    world: int, configs: dict[str, RunConfig], tmp_path: Path
) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    spawn(_worker, (world, port, configs, tmp_path), nprocs=world)  # type: ignore[no-untyped-call]
    for name, config in configs.items():
        together = torch.load(tmp_path / f"{name}.pt")
        same(gradients(config, tmp_path / f"{name}-alone"), together)
