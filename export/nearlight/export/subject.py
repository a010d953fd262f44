"""What is exported: two encoders with all that their bundle must say of them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch
from onnx import ModelProto
from pydantic import JsonValue
from torch import nn

from nearlight.bundle.image import Pixels
from nearlight.bundle.manifest import ImageTower, Scoring, TextTower
from nearlight.bundle.text import Tokens

Vectors = npt.NDArray[np.float32]


class Encoders(Protocol):
    """The model itself: the reference that parity is proven against, and the graphs made of it."""

    def embed_images(self, pixels: Pixels) -> Vectors:
        """Unit vectors (B, D) of uint8 pixels (B, H, W, 3), by the model's own code."""

    def embed_texts(self, tokens: Tokens) -> Vectors:
        """Unit vectors (B, D) of whole contexts (B, context_length), by the model's own code."""

    def weights(self) -> tuple[int, int]:
        """Numbers in the image tower and in the text tower."""

    def digest(self) -> str:
        """A hash of everything that the towers are made of."""

    def image_onnx(self) -> ModelProto:
        """The image tower as served: `pixels` to `vectors`, weights in float32."""

    def text_onnx(self) -> ModelProto:
        """The text tower as served: `tokens` to `vectors`, weights in float32."""


@dataclass(frozen=True, slots=True)
class Subject:
    """A model to export.

    Attributes:
        encoders: The model.
        name: Name of the bundle unless another is asked for.
        image: Preprocessing and channel scaling.
        text: Sequence of the text tower; None for an image encoder.
        tokenizer_json: Content of tokenizer.json; None for an image encoder.
        scoring: How a cosine becomes a probability; None for an image encoder.
        training: Where the weights come from, for the manifest.
        metrics: What was measured on the weights, for the manifest.
        data: Sources whose images and texts may serve to prove parity; the first that exists is taken.
        made_with: The command's arguments, for the model card.
    """

    encoders: Encoders
    name: str
    image: ImageTower
    text: TextTower | None
    tokenizer_json: str | None
    scoring: Scoring | None
    training: Mapping[str, JsonValue]
    metrics: Mapping[str, JsonValue] = field(default_factory=dict)
    data: Sequence[str] = ()
    made_with: str = ""


def scoring_of(model: nn.Module) -> Scoring:
    """The scoring of a model: a logit bias means that it was trained with sigmoids (SigLIP)."""
    bias = model.logit_bias
    return Scoring(
        kind="softmax" if bias is None else "sigmoid",
        logit_scale=_number(model.logit_scale.exp()) if isinstance(model.logit_scale, torch.Tensor) else 1.0,
        logit_bias=_number(bias) if isinstance(bias, torch.Tensor) else 0.0,
    )


def _number(value: torch.Tensor) -> float:
    return float(value.detach().reshape(-1)[0])
