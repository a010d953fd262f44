"""What is exported: a model in memory with all that its bundle must say of it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from pydantic import JsonValue
from torch import nn

from nearlight.bundle.manifest import ImageTower, Scoring, TextTower


@dataclass(frozen=True, slots=True)
class Subject:
    """A model of two towers, in evaluation mode on the CPU.

    Attributes:
        model: An open_clip `CLIP` or `CustomTextCLIP`.
        name: Name of the bundle unless another is asked for.
        image: Preprocessing and channel scaling.
        text: Sequence of the text tower.
        tokenizer_json: Content of tokenizer.json.
        scoring: How a cosine becomes a probability.
        training: Where the weights come from, for the manifest.
        metrics: What was measured on the weights, for the manifest.
        data: Sources whose images and texts may serve to prove parity; the first that exists is taken.
        made_with: The command's arguments, for the model card.
    """

    model: nn.Module
    name: str
    image: ImageTower
    text: TextTower
    tokenizer_json: str
    scoring: Scoring
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
