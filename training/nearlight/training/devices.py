"""Which device a run computes on."""

import os

import torch

from nearlight.training.errors import ConfigError


def pick_device(name: str) -> torch.device:
    """Returns the device of a name; `auto` is the GPU (under `torchrun` this process's own), else the CPU.

    Raises:
        ConfigError: torch knows no such device, or this machine has none.
    """
    if name == "auto":
        if not torch.cuda.is_available():
            return torch.device("cpu")
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
        return torch.device("cuda")
    try:
        torch.empty(1, device=name)
        return torch.device(name)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).partition("\n")[0]
        raise ConfigError(f"device = {name!r} cannot be used on this machine: {reason}") from None
