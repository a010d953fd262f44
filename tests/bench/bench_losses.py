"""Peak memory and time of tiled losses over dense ones, forward and backward, and how far gradients differ.

    python tests/bench/bench_losses.py [--nt-xent 8192] [--clip 8192] [--rounds 1] [--threads N]
                                       [--device cpu|cuda] [--json]

nt_xent: N pairs of D = 128, tiled over the same loss as one matrix. clip_loss: N pairs of D = 512, tiled
over open_clip's ClipLoss, which is given unit vectors that are normalised inside the measured part, as
clip_loss does. 0 leaves a loss out. Each side runs in a process of its own: the peak is the highest
resident memory (on CUDA the highest allocated) above what was there before the loss, inputs included;
inputs and their gradients are not the same on both sides. Where a side does not fit into memory it is
reported as refused. Times are the best of the rounds. Differences of gradients are the largest ones, divided
by the largest gradient: of both sides from the tiled loss in float64, and of one from the other.
"""

import argparse
import json
import platform
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from nearlight.training.losses import clip_loss, nt_xent, tiling

DIM = {"nt_xent": 128, "clip_loss": 512}
SCALE, TEMPERATURE = 20.0, 0.1
DENSE = 2**62  # more logits than there can be


def open_clip_loss(image: Tensor, text: Tensor, logit_scale: Tensor) -> Tensor:
    """Returns ClipLoss of open_clip, of vectors that are normalised first as its towers do."""
    from open_clip.loss import ClipLoss

    loss: Tensor = ClipLoss()(F.normalize(image), F.normalize(text), logit_scale)
    return loss


def loss_of(name: str, side: str, logit_scale: Tensor) -> Callable[[Tensor, Tensor], Tensor]:
    """Returns the loss of one side."""
    if name == "nt_xent":
        return lambda a, b: nt_xent(a, b, TEMPERATURE)
    if side != "dense":
        return lambda a, b: clip_loss(a, b, logit_scale)
    return lambda a, b: open_clip_loss(a, b, logit_scale)


class Peak:
    """Highest memory since it was made, above what was there then."""

    def __init__(self, device: str) -> None:
        self._device = device
        if device == "cuda":
            torch.cuda.synchronize()
            torch.cuda.reset_peak_memory_stats()
            self._before = torch.cuda.memory_allocated()
        else:
            Path("/proc/self/clear_refs").write_text("5")  # forgets the highest resident size so far
            self._before = resident_bytes("VmRSS")

    def bytes(self) -> int:
        """Returns the peak so far."""
        if self._device == "cuda":
            torch.cuda.synchronize()
            return torch.cuda.max_memory_allocated() - self._before
        return resident_bytes("VmHWM") - self._before


def resident_bytes(field: str) -> int:
    """Returns VmRSS or VmHWM of this process."""
    found = re.search(rf"{field}:\s+(\d+) kB", Path("/proc/self/status").read_text())
    if found is None:
        raise RuntimeError(f"/proc/self/status has no {field}")
    return int(found[1]) * 1024


def measure(name: str, side: str, n: int, rounds: int, device: str, gradients: Path) -> dict[str, float]:
    """Runs one side in this process and saves its gradients."""
    generator = torch.Generator().manual_seed(0)
    base = torch.randn(n, DIM[name], generator=generator)
    other = base + torch.randn(n, DIM[name], generator=generator)
    dtype = torch.float64 if side == "exact" else torch.float32
    a, b = (x.to(device, dtype).requires_grad_() for x in (base, other))
    del base, other
    logit_scale = torch.tensor(SCALE, device=device, dtype=dtype, requires_grad=True)
    loss = loss_of(name, side, logit_scale)
    small = loss(a[:64], b[:64])  # loads what is loaded once
    small.backward()  # type: ignore[no-untyped-call]
    seconds, peak = [], Peak(device)
    for _ in range(rounds):
        a.grad = b.grad = logit_scale.grad = None
        start = time.perf_counter()
        with tiling(DENSE if side == "dense" else 0):
            value = loss(a, b)
        value.backward()  # type: ignore[no-untyped-call]
        if device == "cuda":
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - start)
    result = {"peak_bytes": float(peak.bytes()), "seconds": min(seconds), "loss": float(value.detach())}
    torch.save([a.grad, b.grad, logit_scale.grad], gradients)
    return result


def in_a_process(arguments: list[str]) -> dict[str, float] | None:
    """Returns what `measure` returns there, or None where memory did not suffice."""
    done = subprocess.run([sys.executable, __file__, *arguments], capture_output=True, text=True, check=False)
    if done.returncode == 0:
        result: dict[str, float] = json.loads(done.stdout)
        return result
    out_of_memory = "can't allocate memory" in done.stderr or "OutOfMemoryError" in done.stderr
    if done.returncode == -9 or out_of_memory:
        return None
    raise RuntimeError(done.stderr)


def largest_difference(one: Path, other: Path) -> float:
    """Returns the largest difference of two sets of gradients over the largest gradient of its tensor."""
    found, expected = (torch.load(path, weights_only=True, map_location="cpu") for path in (one, other))
    return max(
        float((f - e).abs().max() / e.abs().max())
        for f, e in zip(found, expected, strict=True)
        if f is not None and e is not None
    )


def compare(name: str, n: int, options: argparse.Namespace) -> dict[str, Any]:
    """Returns both sides of a loss and their ratios."""
    with tempfile.TemporaryDirectory() as folder:
        sides, files = {}, {side: Path(folder, f"{side}.pt") for side in ("dense", "tiled", "exact")}
        for side, file in files.items():
            words = [f"--measure={name}", f"--side={side}", f"--n={n}", f"--gradients={file}"]
            words += [
                f"--rounds={options.rounds}",
                f"--threads={options.threads}",
                f"--device={options.device}",
            ]
            sides[side] = in_a_process(words)
        dense, tiled = sides["dense"], sides["tiled"]
        row: dict[str, Any] = {"loss": name, "n": n, "dim": DIM[name], "dense": dense, "tiled": tiled}
        if dense is not None and tiled is not None:
            row["memory_ratio"] = dense["peak_bytes"] / tiled["peak_bytes"]
            row["time_ratio"] = dense["seconds"] / tiled["seconds"]
            row["gradient_difference"] = largest_difference(files["tiled"], files["dense"])
        for side in ("dense", "tiled"):
            if sides[side] is not None and sides["exact"] is not None:
                row[f"{side}_from_float64"] = largest_difference(files[side], files["exact"])
    return row


def show(row: dict[str, Any]) -> None:
    """Prints a row for people."""
    print(f"{row['loss']} N={row['n']} D={row['dim']}")
    for side in ("dense", "tiled"):
        name = "open_clip" if side == "dense" and row["loss"] == "clip_loss" else side
        found = row[side]
        if found is None:
            print(f"  {name:10} refused: not enough memory")
        else:
            print(f"  {name:10} peak {found['peak_bytes'] / 1e6:9.1f} MB   {found['seconds']:7.2f} s")
    if "memory_ratio" in row:
        print(f"  dense over tiled: memory {row['memory_ratio']:.1f}, time {row['time_ratio']:.2f}")
        print(f"  largest difference of gradients {row['gradient_difference']:.1e}")
    for side in ("dense", "tiled"):
        if f"{side}_from_float64" in row:
            print(f"  gradients of {side} from float64 {row[f'{side}_from_float64']:.1e}")


def main() -> None:
    """Compares each loss and prints."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--nt-xent", type=int, default=8192, metavar="N")
    parser.add_argument("--clip", type=int, default=8192, metavar="N")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--json", action="store_true")
    for name in ("--measure", "--side", "--gradients"):
        parser.add_argument(name, help=argparse.SUPPRESS)
    parser.add_argument("--n", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    if options.measure:
        file = Path(options.gradients)
        arguments = (options.measure, options.side, options.n, options.rounds, options.device, file)
        print(json.dumps(measure(*arguments)))
        return
    sizes = {"nt_xent": options.nt_xent, "clip_loss": options.clip}
    rows = [compare(name, n, options) for name, n in sizes.items() if n]
    versions = {"python": platform.python_version(), "torch": torch.__version__}
    if options.json:
        print(json.dumps({"device": options.device, "threads": options.threads, **versions, "rows": rows}))
        return
    print(f"{options.device}, {options.threads} threads, torch {torch.__version__}")
    for row in rows:
        show(row)


if __name__ == "__main__":
    main()
