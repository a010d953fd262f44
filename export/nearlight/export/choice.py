"""What a user may say about a model that its files do not."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Choice:
    """What a user may say about a model.

    Attributes:
        tokenizer: Folder with tokenizer.json (and its tokenizer_config.json); None looks beside the weights,
            then asks the hub.
        tag: The published open_clip weights whose settings a local file shares.
        arch: The open_clip architecture behind a pair of ONNX files that do not say it.
        logit_scale: Factor of the cosine, already exponentiated, for ONNX files that do not hold it.
        logit_bias: Added after the factor, for ONNX files that do not hold it.
        trust_pickle: Load weights that are arbitrary pickles, which can run any code.
        head: Keep the projection head of a training run's encoder, which its loss was computed on.
    """

    tokenizer: Path | None = None
    tag: str | None = None
    arch: str | None = None
    logit_scale: float | None = None
    logit_bias: float | None = None
    trust_pickle: bool = False
    head: bool = False
