"""torch.compile of a method's parts, in place: names in checkpoints stay as they are."""

from torch import nn


def compile_parts(method: nn.Module, mode: str) -> None:
    """Compiles every direct part of a method that has parameters, when it is first called.

    Views and losses stay as they are: their shapes change, and they are a small part of a step.

    Args:
        method: changed in place.
        mode: `off`, a mode of torch.compile, or `aot_eager`, which traces without generating code.
    """
    if mode == "off":
        return
    options = {"backend": "aot_eager"} if mode == "aot_eager" else {"mode": mode}
    for part in method.children():
        if any(True for _ in part.parameters()):
            part.compile(**options)
