"""Steps on images of noise, before a run: what they take, and what they leave for the backward pass."""

import time

import torch
from torch import Tensor

from nearlight.training.batches import Batch
from nearlight.training.config import RunConfig
from nearlight.training.devices import pick_device
from nearlight.training.gradients import add_gradients
from nearlight.training.method import DataFacts, Method, find_method
from nearlight.training.optimisers import build_optimiser
from nearlight.training.processes import Processes
from nearlight.training.towers import vocab_size
from nearlight.training.views import Share

_TIMED_STEPS = 3
_CPU_IMAGES = 32  # a CPU takes so many times longer for so many times more images
_TEXT_TOKENS = 16  # of a caption of common length
_KEPT_IMAGES = 4


def noise_batch(config: RunConfig, facts: DataFacts, count: int, device: torch.device, text: bool) -> Batch:
    """Returns a batch of so many images of noise, with texts of noise if wanted."""
    generator = torch.Generator().manual_seed(config.seed)
    side = config.data.cache_px
    pixels = torch.randint(0, 256, (count, side, side, 3), dtype=torch.uint8, generator=generator)
    each = torch.arange(count)
    tokens: tuple[Tensor, ...] = ()
    if text:
        last = vocab_size(config.model.merges) - 1  # the end token
        length = min(_TEXT_TOKENS, config.model.context_length)
        rows = torch.randint(1, last - 1, (count, length), generator=generator)
        rows[:, -1] = last
        tokens = (rows,)
    labels = each % max(len(facts.classes), 1)
    return Batch(0, pixels, tokens, each, each, each % facts.samples, labels, Share(0, count)).to(device)


def time_step(config: RunConfig, facts: DataFacts) -> float:
    """Returns seconds of a training step on images of noise, with a method made for it."""
    device = pick_device(config.device)
    torch.manual_seed(config.seed)
    method = find_method(config.method)(config, facts).to(device)
    return time_steps_of(method, device, config.batch_size, _TIMED_STEPS)


def estimate_step(method: Method, device: torch.device) -> float:
    """Returns seconds of a step of a method's batch; on a CPU those of a few images, scaled.

    The method is trained on noise: use it no further.
    """
    size = method.config.batch_size
    count = min(size, _CPU_IMAGES) if device.type == "cpu" else size
    return time_steps_of(method, device, count, 1) * size / count


def time_steps_of(method: Method, device: torch.device, count: int, steps: int) -> float:
    """Returns seconds of one of several steps on `count` images; the first, not timed, pays for beginnings.

    Views, both passes, the optimiser and what is kept between steps are in it; decoding and compiling are
    not.
    """
    config = method.config
    optimiser = build_optimiser(method, config.optimiser, 1e-9, method.steady())
    batch = noise_batch(config, method.facts, count, device, method.towers_kind == "towers")
    autocast = torch.autocast(device.type, torch.bfloat16, enabled=config.precision == "bf16")
    start = 0.0
    for step in range(steps + 1):
        if step == 1:
            _finish(device)
            start = time.monotonic()
        optimiser.zero_grad(set_to_none=True)
        add_gradients(method, batch, Processes(), config.chunk, autocast)
        optimiser.step()
        method.after_step(step)
    _finish(device)
    return (time.monotonic() - start) / steps


def activation_bytes(method: Method, device: torch.device) -> int:
    """Returns what the images encoded at a time leave for the backward pass: measured on four, scaled.

    The method's weights and buffers stay as they are.
    """
    config = method.config
    batch = noise_batch(config, method.facts, _KEPT_IMAGES, device, method.towers_kind == "towers")
    seen: dict[int, int] = {}

    def count(tensor: Tensor) -> Tensor:
        seen[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    weights = {p.untyped_storage().data_ptr() for p in method.parameters()}
    autocast = torch.autocast(device.type, torch.bfloat16, enabled=config.precision == "bf16")
    before = {k: v.clone() for k, v in method.state_dict().items()}
    generator = torch.Generator().manual_seed(0)
    views = method.views(batch, generator)
    with torch.autograd.graph.saved_tensors_hooks(count, lambda t: t), autocast:
        kept = method.embed(views, batch, generator)
    total = sum(size for place, size in seen.items() if place not in weights)
    del kept
    method.load_state_dict(before)
    at_once = min(config.chunk or config.batch_size, config.batch_size)
    return total * at_once // _KEPT_IMAGES


def _finish(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()
