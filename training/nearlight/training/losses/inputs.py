"""What the losses ask of their arguments, and the precision they compute in.

Numbers inside tensors are not looked at: on a GPU that would wait for the device.
"""

from collections.abc import Callable
from functools import wraps
from typing import ParamSpec

import torch
from torch import Tensor
from torch.nn import functional as F

from nearlight.training.errors import LossInputError

P = ParamSpec("P")


def in_full_precision(loss: Callable[P, Tensor]) -> Callable[P, Tensor]:
    """Takes a loss out of autocast: logits rounded to bfloat16 are off by up to 0.25 at a scale of 100."""

    @wraps(loss)
    def outside(*args: P.args, **kwargs: P.kwargs) -> Tensor:
        devices = (a.device.type for a in (*args, *kwargs.values()) if isinstance(a, Tensor))
        with torch.autocast(next(devices, "cpu"), enabled=False):
            return loss(*args, **kwargs)

    return outside


def full(*tensors: Tensor) -> tuple[Tensor, ...]:
    """Returns tensors in one dtype: float64 if one of them has it, else float32."""
    exact = any(t.dtype == torch.float64 for t in tensors)
    return tuple(t.to(torch.float64 if exact else torch.float32) for t in tensors)


def unit(*tensors: Tensor) -> tuple[Tensor, ...]:
    """Returns tensors with rows of unit length, in one dtype as `full`; rows of zeros stay zeros."""
    return tuple(F.normalize(t, dim=-1) for t in full(*tensors))


def check_rows(name: str, rows: Tensor, at_least: int = 1) -> None:
    """Raises LossInputError unless a tensor is (N, D) of floats with N >= at_least and D >= 1."""
    if rows.ndim != 2 or rows.shape[1] < 1:
        raise LossInputError(f"{name} has shape {tuple(rows.shape)}; it must be (N, D) with D >= 1")
    if not rows.is_floating_point():
        raise LossInputError(f"{name} has dtype {rows.dtype}; it must be a floating-point dtype")
    if len(rows) < at_least:
        reason = ": one row has nothing to be told from" if at_least > 1 else ""
        raise LossInputError(f"{name} has {len(rows)} rows; at least {at_least} are needed{reason}")


def check_same_shape(name: str, rows: Tensor, like_name: str, like: Tensor) -> None:
    """Raises LossInputError unless two tensors have one shape."""
    if rows.shape != like.shape:
        raise LossInputError(
            f"{name} has shape {tuple(rows.shape)}; it must be that of {like_name}, {tuple(like.shape)}"
        )


def check_width(name: str, rows: Tensor, like_name: str, like: Tensor) -> None:
    """Raises LossInputError unless the first is (M, D) with the D of the second."""
    if rows.ndim != 2 or rows.shape[1] != like.shape[1]:
        raise LossInputError(
            f"{name} has shape {tuple(rows.shape)}; it must be (M, {like.shape[1]}), as wide as {like_name}"
        )


def check_labels(name: str, labels: Tensor, n: int) -> None:
    """Raises LossInputError unless labels are (n,) integers or booleans."""
    if labels.shape != (n,):
        raise LossInputError(f"{name} has shape {tuple(labels.shape)}; it must be ({n},), one for each row")
    if labels.is_floating_point() or labels.is_complex():
        raise LossInputError(f"{name} has dtype {labels.dtype}; it must be an integer dtype")


def check_scalar(name: str, value: float | Tensor) -> None:
    """Raises LossInputError unless a value is a number or a tensor without dimensions."""
    if isinstance(value, Tensor) and value.ndim:
        raise LossInputError(f"{name} has shape {tuple(value.shape)}; it must be a scalar, shape ()")


def check_above_zero(name: str, value: float | Tensor) -> None:
    """Raises LossInputError unless a scalar is > 0; a tensor on another device than the CPU is trusted."""
    check_scalar(name, value)
    if isinstance(value, Tensor):
        if value.device.type != "cpu":
            return
        value = float(value.detach())
    if not value > 0:
        raise LossInputError(f"{name} is {value}; it must be > 0")


def check_margin(margin: float) -> None:
    """Raises LossInputError unless a margin is >= 0."""
    if not margin >= 0:
        raise LossInputError(f"margin is {margin}; it must be >= 0")
