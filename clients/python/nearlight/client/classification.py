"""What goes into `classify` and what comes out of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypedDict

from nearlight.client.values import ItemError


@dataclass(frozen=True, slots=True)
class ScoredLabel:
    """A label of an image: probability 0 to 1, and score, the cosine, -1 to 1."""

    label: str
    probability: float
    score: float


@dataclass(frozen=True, slots=True)
class Classification:
    """Labels of one image, best first; empty where ``error`` is set."""

    labels: tuple[ScoredLabel, ...]
    error: ItemError | None = None


class ClassifyOptions(TypedDict, total=False):
    """Options of ``classify``; see ClassifyRequest in embedding.proto.

    labels: names, or names with the words that stand for them; or label_set: name of a stored set.
    templates: each holds "{}" once; default: the model's own. top_k: labels per image; default all.
    multi_label: None (default) as the model was trained. model: default the server's.
    timeout: as for query.
    """

    labels: Sequence[str] | Mapping[str, Sequence[str]]
    label_set: str
    templates: Sequence[str]
    top_k: int
    multi_label: bool
    model: str
    timeout: float
