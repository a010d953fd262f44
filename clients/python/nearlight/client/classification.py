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
    """Labels of one image, best first; empty where ``error`` is set.

    ``abstained``: none is likely enough. ``calibrated``: the label set's calibration was used.
    """

    labels: tuple[ScoredLabel, ...]
    error: ItemError | None = None
    abstained: bool = False
    calibrated: bool = False


class ClassifyOptions(TypedDict, total=False):
    """Options of ``classify``; see ClassifyRequest in embedding.proto.

    labels: names, or names with the words that stand for them; or label_set: name of a stored set.
    templates: each holds "{}" once; default: the model's own. top_k: labels per image; default all.
    multi_label: None (default) as the model was trained. model: default the set's, else the server's.
    min_probability: an image whose best label is less likely abstains; default the set's, else 0.
    timeout: as for query.
    """

    labels: Sequence[str] | Mapping[str, Sequence[str]]
    label_set: str
    templates: Sequence[str]
    top_k: int
    multi_label: bool
    min_probability: float
    model: str
    timeout: float
