"""What searches of the client take besides the collection's name."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypedDict

import numpy.typing as npt

from nearlight.client.errors import InvalidInput
from nearlight.client.values import FilterLike, Image, PointId


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Example:
    """What hits of a mix are to be like, or unlike: one of text, image, vector, id; ``weight`` > 0."""

    text: str | None = None
    image: Image | None = None
    vector: npt.ArrayLike | None = None
    id: PointId | None = None
    weight: float = 1.0

    def __post_init__(self) -> None:
        given = [name for name in ("text", "image", "vector", "id") if getattr(self, name) is not None]
        if len(given) != 1:
            raise InvalidInput(f"an example has {given or 'nothing'}; exactly one of text, image, vector, id")


class QueryOptions(TypedDict, total=False):
    """Options of ``query``; see QueryRequest in query.proto.

    text, image, vector, id: what to look for; exactly one. An image is bytes or a Path.
    Or like, unlike: examples to look near and to stay away from. strategy: average (default) or best_score.
    diversity: 0 (best hits) to 1 (most varied), chosen among so many ``candidates``, default 10 * limit.
    limit: hits wanted, default 10. offset: hits skipped first, default 0.
    score_threshold: least cosine, -1 to 1. with_payload: True (default), False, or the keys wanted.
    with_vectors: default False. filter: see FilterLike. exact: compare every vector. recall_target: 0.5 to 1,
    for which the server picks a width; hnsw_ef, ivf_nprobe: the width itself.
    min_seq: read your writes. min_relevance: 0 to 1, in a calibrated collection, for one text, image or id.
    autocut: cut before so many falls of scores, 1 to 10. timeout: seconds for each RPC, its retries included.
    """

    text: str
    image: Image
    vector: npt.ArrayLike
    id: PointId
    like: Sequence[Example]
    unlike: Sequence[Example]
    strategy: Literal["average", "best_score"]
    diversity: float
    candidates: int
    limit: int
    offset: int
    score_threshold: float
    with_payload: bool | Sequence[str]
    with_vectors: bool
    filter: FilterLike
    exact: bool
    recall_target: float
    hnsw_ef: int
    ivf_nprobe: int
    min_seq: int
    min_relevance: float
    autocut: int
    timeout: float
