"""Training against lightly: SimCLR steps and views of 32 px images; and what chunks cost.

    python tests/bench/bench_training.py [--batch 128] [--rounds 2] [--threads N] [--device cpu|cuda] [--json]
                                         [--only step views chunks]

step: images/s of SimCLR, ResNet-18 with CIFAR's stem, two views, augmentation included. lightly: its
transforms on decoded PIL images, its NTXentLoss, head and ResNet as its CIFAR-10 benchmark has them, float32;
and the same with bfloat16 autocast and channels_last. Ours: `nearlight train simclr` as its recipe is.
views: two views of each image. lightly by a DataLoader with as many workers as threads, ours by `make_views`.
chunks: a step of `--chunk batch/4` over one of the whole batch, ours.
Sides take turns; the best of the rounds counts. lightly has to be installed (1.6); without it its sides are
left out.
"""

import argparse
import json
import platform
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import nn

from nearlight.training.allocator import keep_freed_memory
from nearlight.training.batches import Batch
from nearlight.training.config import RunConfig, load_config
from nearlight.training.gradients import add_gradients, generator_of
from nearlight.training.method import DataFacts, find_method
from nearlight.training.optimisers import build_optimiser
from nearlight.training.processes import Processes
from nearlight.training.views import Share, make_views

Step = Callable[[], None]
SIDE = 32


def pixels(count: int) -> torch.Tensor:
    """Returns (count, 32, 32, 3) uint8 images, smooth as photographs are."""
    rough = torch.rand(count, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    smooth = nn.functional.interpolate(rough, (SIDE, SIDE), mode="bicubic").clamp(0, 1)
    return (smooth * 255).to(torch.uint8).permute(0, 2, 3, 1).contiguous()


def config_of(batch: int, device: str, chunk: int | None) -> RunConfig:
    """Returns simclr's own recipe for a batch."""
    settings = [f"batch_size={batch}", f"device={device}", "epochs=null", "optimiser.warmup_epochs=null"]
    return load_config(None, {"chunk": chunk}, settings, "simclr")


def our_step(batch: int, device: str, chunk: int | None = None) -> Step:
    """Returns one step of ours, images in memory as uint8."""
    config = config_of(batch, device, chunk)
    torch.manual_seed(0)
    method = find_method("simclr")(config, DataFacts(50_000)).to(device)
    solver = build_optimiser(method, config.optimiser, 0.01)
    each = torch.arange(batch)
    samples = Batch(0, pixels(batch), (), each, each, each, each % 10, Share(0, batch))
    autocast = torch.autocast(device, torch.bfloat16, enabled=config.precision == "bf16")

    def step() -> None:
        solver.zero_grad(set_to_none=True)
        add_gradients(method, samples.to(torch.device(device)), Processes(), chunk, autocast)
        solver.step()

    return step


def lightly_step(batch: int, device: str, fast: bool) -> Step:
    """Returns one step of lightly's; `fast` adds bfloat16 and channels_last."""
    from lightly.loss import NTXentLoss
    from lightly.models import ResNetGenerator
    from lightly.models.modules.heads import SimCLRProjectionHead
    from lightly.transforms import SimCLRTransform

    torch.manual_seed(0)
    resnet = ResNetGenerator("resnet-18")
    backbone = nn.Sequential(*list(resnet.children())[:-1], nn.AdaptiveAvgPool2d(1)).to(device)
    head = SimCLRProjectionHead(512, 512, 128).to(device)
    criterion = NTXentLoss()
    transform = SimCLRTransform(input_size=SIDE, cj_strength=0.5, gaussian_blur=0.0)
    images = [Image.fromarray(one) for one in pixels(batch).numpy()]
    if fast:
        backbone = backbone.to(memory_format=torch.channels_last)
    solver = torch.optim.SGD(
        [*backbone.parameters(), *head.parameters()], lr=6e-2, momentum=0.9, weight_decay=5e-4
    )

    def step() -> None:
        made = [transform(image) for image in images]
        first, second = (torch.stack([views[i] for views in made]).to(device) for i in (0, 1))
        if fast:
            first, second = (x.to(memory_format=torch.channels_last) for x in (first, second))
        solver.zero_grad()
        with torch.autocast(device, torch.bfloat16, enabled=fast):
            z0, z1 = (head(backbone(x).flatten(start_dim=1)) for x in (first, second))
            loss = criterion(z0, z1)
        loss.backward()
        solver.step()

    return step


def our_views(batch: int, device: str) -> Step:
    """Returns the making of two views of each image of a batch, as the recipe has them."""
    config, images = config_of(batch, device, None), pixels(batch).to(device)
    counter = iter(range(10**9))

    def step() -> None:
        make_views(images, config.views, config.encoder, generator_of(0, next(counter)))

    return step


class Views(torch.utils.data.Dataset[Any]):
    """lightly's two views of images held in memory."""

    def __init__(self, count: int) -> None:
        from lightly.transforms import SimCLRTransform

        self._transform = SimCLRTransform(input_size=SIDE, cj_strength=0.5, gaussian_blur=0.0)
        self._images = pixels(count).numpy()

    def __len__(self) -> int:
        return len(self._images)

    def __getitem__(self, row: int) -> Any:
        return self._transform(Image.fromarray(np.asarray(self._images[row])))


def lightly_views(batch: int, threads: int) -> Step:
    """Returns the making of eight batches of views by a DataLoader that is warm."""
    loader: Any = torch.utils.data.DataLoader(
        Views(8 * batch), batch_size=batch, num_workers=threads, persistent_workers=True
    )
    for _ in loader:  # starts the workers
        pass

    def step() -> None:
        for _ in loader:
            pass

    return step


def best(sides: dict[str, tuple[Step, int]], rounds: int, device: str) -> dict[str, float]:
    """Returns the images/s of each side: (step, its images); they take turns, the first unmeasured."""
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    for turn in range(rounds + 1):
        for name, (step, _) in sides.items():
            start = time.perf_counter()
            step()
            if device == "cuda":
                torch.cuda.synchronize()
            if turn:
                seconds[name].append(time.perf_counter() - start)
    return {name: images / min(seconds[name]) for name, (_, images) in sides.items()}


def has_lightly() -> str | None:
    """Returns lightly's version, None where it is not installed."""
    try:
        import lightly
    except ImportError:
        return None
    return str(lightly.__version__)


def measure(options: argparse.Namespace) -> dict[str, dict[str, float]]:
    """Returns images/s and ratios of what is asked for."""
    batch, device, rounds, peer = options.batch, options.device, options.rounds, has_lightly()
    found: dict[str, dict[str, float]] = {}
    if "views" in options.only:
        sides = {"ours": (our_views(batch, device), batch)}
        if peer:
            sides["lightly"] = (lightly_views(batch, options.threads), 8 * batch)
        found["views"] = best(sides, max(rounds, 3), device)
    if "step" in options.only:
        sides = {"ours": (our_step(batch, device), batch)}
        if peer:
            sides["lightly"] = (lightly_step(batch, device, fast=False), batch)
            sides["lightly bf16 channels_last"] = (lightly_step(batch, device, fast=True), batch)
        found["step"] = best(sides, rounds, device)
    if "chunks" in options.only:
        sides = {
            "whole": (our_step(batch, device), batch),
            "chunks": (our_step(batch, device, batch // 4), batch),
        }
        speed = best(sides, rounds, device)
        found["chunks"] = {**speed, "time of chunks over whole": speed["whole"] / speed["chunks"]}
    for speeds in found.values():
        others = [name for name in speeds if name.startswith("lightly")]
        speeds.update({f"ours over {name}": speeds["ours"] / speeds[name] for name in others})
    if {"views", "step"} <= set(found):
        found["step"]["share of views"] = found["step"]["ours"] / found["views"]["ours"]
    return found


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--only", nargs="+", default=["views", "step", "chunks"])
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    if options.device == "cpu":
        keep_freed_memory()
    found = measure(options)
    versions = {"python": platform.python_version(), "torch": torch.__version__, "lightly": has_lightly()}
    if options.json:
        print(json.dumps({**versions, "threads": options.threads, "batch": options.batch, "found": found}))
        return
    print(f"{options.device}, {options.threads} threads, batch {options.batch}, {versions}")
    for name, speeds in found.items():
        print(name)
        for side, value in speeds.items():
            print(f"  {side:45} {value:10.2f}")


if __name__ == "__main__":
    main()
