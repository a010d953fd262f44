"""The way back to torch: an encoder's weights as safetensors, in the names of the library that built it."""

import os
import secrets
from pathlib import Path

import safetensors.torch

from nearlight.export.errors import SourceError
from nearlight.export.subject import Subject
from nearlight.export.torch_encoders import ImageOnly, TorchEncoders


def save_weights(subject: Subject, file: Path) -> None:
    """Write the weights of a torch model; complete, or not at all.

    `open_clip:ARCH:FILE` or `timm:NAME:FILE` loads them again, and so do open_clip and timm themselves.

    Raises:
        SourceError: The model came as ONNX, or `file` exists or does not end in .safetensors.
        OSError: The disk refuses; nothing is left behind.
    """
    refuse_place(file)
    if not isinstance(subject.encoders, TorchEncoders):
        raise SourceError("the model came as ONNX: there are no torch weights to save")
    model = subject.encoders.model
    state = (model.visual if isinstance(model, ImageOnly) else model).state_dict()
    # safetensors refuses tensors that share memory; names matter more than a few bytes
    separate = {name: value.detach().clone().contiguous() for name, value in state.items()}
    fresh = file.with_name(f".{file.name}.{secrets.token_hex(6)}.tmp")
    try:
        safetensors.torch.save_file(separate, fresh, metadata={"format": "pt"})
        os.replace(fresh, file)
    finally:
        fresh.unlink(missing_ok=True)


def refuse_place(file: Path) -> None:
    """Refuse a file that exists or is misnamed, before any work.

    Raises:
        SourceError: Says which.
    """
    if file.suffix != ".safetensors":
        raise SourceError(f"--weights {file.name} must end in .safetensors")
    if file.exists():
        raise SourceError(f"{file} exists already; choose another place")
