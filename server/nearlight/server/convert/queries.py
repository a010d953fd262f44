"""Queries: from the wire."""

import math
from dataclasses import dataclass

from nearlight.server.call import F32, Input
from nearlight.server.config import LimitsConfig
from nearlight.server.convert.filters import wanted_filter
from nearlight.server.convert.indexes import NO_PARAMS, search_params_of
from nearlight.server.convert.points import Wanted, path_of, wanted_parts
from nearlight.server.convert.values import (
    check_count,
    dtype_of,
    page_size_of,
    point_id_of,
    vector_of,
)
from nearlight.server.errors import InvalidInput, NotBuilt, NotPossible
from nearlight.store import Filter, PointId, SearchParams
from nearlight.v1 import query_pb2

DEFAULT_LIMIT = 10
MAX_EXAMPLES = 256
MAX_GROUP_SIZE = 100


@dataclass(frozen=True, slots=True)
class PointQuery:
    """A query by a point of the collection, which is left out of its own hits."""

    id: PointId
    field: str


Source = F32 | Input | PointQuery


@dataclass(frozen=True, slots=True)
class Example:
    """What hits are to be like, or unlike, and how much it counts beside others."""

    source: Source
    weight: float = 1.0


@dataclass(frozen=True, slots=True)
class Variety:
    """Hits chosen for variety: `diversity` 0 to 1, from so many best ones."""

    diversity: float
    n_candidates: int


@dataclass(frozen=True, slots=True)
class QueryWish:
    """A checked query.

    Args:
        positive: what to look near; one example, but for a mix.
        negative: what to stay away from.
        is_best_score: rank by the best positive example; else by the mean of all.
        limit: hits wanted.
        offset: hits skipped.
        score_threshold: least cosine, or None.
        wanted: which parts come back.
        filter: only points that pass, or None.
        variety: None: the best hits.
        params: how hard to search.
    """

    positive: tuple[Example, ...]
    negative: tuple[Example, ...]
    is_best_score: bool
    limit: int
    offset: int
    score_threshold: float | None
    wanted: Wanted
    filter: Filter | None
    variety: Variety | None
    params: SearchParams = NO_PARAMS


def query_wish(request: query_pb2.QueryRequest, dim: int, limits: LimitsConfig) -> QueryWish:
    """What a query asks, checked.

    Args:
        request: as it came.
        dim: of the collection.
        limits: of the server.

    Raises:
        InvalidInput: names the field, the value and the limit.
        NotBuilt: a field that is not built.
        NotPossible: relevance, which no collection has yet.
    """
    if request.HasField("autocut"):
        raise NotBuilt("autocut is not built in this server", field="autocut")
    if request.HasField("min_relevance"):
        raise NotPossible(
            "min_relevance needs a calibrated collection; this one is not", field="min_relevance"
        )
    dtype_of(request.dtype, "dtype")
    limit = request.limit if request.HasField("limit") else DEFAULT_LIMIT
    most = limits.max_query_limit
    if not 1 <= limit <= most:
        raise InvalidInput(f"limit is {limit}; the limit is 1 to {most}", field="limit")
    if limit + request.offset > most:
        reason = f"limit + offset is {limit} + {request.offset}; the limit is {most}"
        raise InvalidInput(reason, field="offset")
    positive, negative, is_best_score = _examples(request.query, dim)
    return QueryWish(
        positive=positive,
        negative=negative,
        is_best_score=is_best_score,
        limit=limit,
        offset=request.offset,
        score_threshold=_threshold(request),
        wanted=wanted_parts(request.with_payload, request.with_vectors, request.dtype),
        filter=wanted_filter(request),
        variety=_variety(request, limit, most),
        params=search_params_of(request),
    )


def _examples(query: query_pb2.Query, dim: int) -> tuple[tuple[Example, ...], tuple[Example, ...], bool]:
    """Positive and negative examples, and whether the best score counts."""
    if query.WhichOneof("query") != "mix":
        return (Example(_source(query, "query", dim)),), (), False
    mix = query.mix
    check_count(len(mix.positive) + len(mix.negative), MAX_EXAMPLES, "query.mix.positive and negative")
    if mix.strategy not in query_pb2.MixStrategy.values():
        reason = f"query.mix.strategy is {mix.strategy}; it must be 1 (AVERAGE) or 2 (BEST_SCORE)"
        raise InvalidInput(reason, field="query.mix.strategy")
    is_best_score = mix.strategy == query_pb2.MIX_STRATEGY_BEST_SCORE
    positive, negative = (
        tuple(
            _example(one, f"query.mix.{name}[{i}]", dim, is_best_score)
            for i, one in enumerate(getattr(mix, name))
        )
        for name in ("positive", "negative")
    )
    if is_best_score and not positive:
        reason = "query.mix.positive is empty; strategy BEST_SCORE needs at least one"
        raise InvalidInput(reason, field="query.mix.positive")
    return positive, negative, is_best_score


def _example(message: query_pb2.Example, field: str, dim: int, is_best_score: bool) -> Example:
    source = _source(message, field, dim)
    weight = message.weight if message.HasField("weight") else 1.0
    if not (weight > 0 and math.isfinite(weight)):
        reason = f"{field}.weight is {weight}; it must be above 0, and finite"
        raise InvalidInput(reason, field=f"{field}.weight")
    if is_best_score and weight != 1:
        reason = f"{field}.weight is {weight}; with strategy BEST_SCORE it must be 1"
        raise InvalidInput(reason, field=f"{field}.weight")
    return Example(source, weight)


def _source(message: query_pb2.Query | query_pb2.Example, field: str, dim: int) -> Source:
    if message.HasField("vector"):
        return vector_of(message.vector, f"{field}.vector", dim)
    if message.HasField("text"):
        return Input("text", message.text, f"{field}.text")
    if message.HasField("image"):
        return Input("image", message.image, f"{field}.image")
    if message.HasField("id"):
        return PointQuery(point_id_of(message.id, f"{field}.id"), f"{field}.id")
    raise InvalidInput(f"{field} is empty; it must hold vector, text, image or id", field=field)


def _variety(request: query_pb2.QueryRequest, limit: int, most: int) -> Variety | None:
    if not request.HasField("mmr"):
        return None
    mmr = request.mmr
    if not 0 <= mmr.diversity <= 1:
        reason = f"mmr.diversity is {mmr.diversity}; the limit is 0 to 1"
        raise InvalidInput(reason, field="mmr.diversity")
    if mmr.candidates and not limit <= mmr.candidates <= most:
        reason = f"mmr.candidates is {mmr.candidates}; the limit is {limit} (the hits wanted) to {most}"
        raise InvalidInput(reason, field="mmr.candidates")
    return Variety(mmr.diversity, max(mmr.candidates or min(10 * limit, most), limit + request.offset))


@dataclass(frozen=True, slots=True)
class GroupsWish:
    """A checked QueryGroups: the query, the path to group by, and hits in a group."""

    query: QueryWish
    path: tuple[str, ...]
    group_size: int


def groups_wish(request: query_pb2.QueryGroupsRequest, dim: int, limits: LimitsConfig) -> GroupsWish:
    """What a QueryGroups asks, checked.

    Raises:
        InvalidInput: names the field, the value and the limit.
        NotBuilt: a field that is not built.
    """
    query = query_wish(request.query, dim, limits)
    if query.offset:
        raise InvalidInput(f"offset is {query.offset}; groups have none, it must be 0", field="query.offset")
    if query.variety is not None:
        raise InvalidInput("mmr is set; it does not apply to groups", field="query.mmr")
    if query.is_best_score:
        raise NotBuilt(
            "query.mix.strategy BEST_SCORE is not built for groups", field="query.query.mix.strategy"
        )
    size = page_size_of(request.group_size, default=1, largest=MAX_GROUP_SIZE, field="group_size")
    if query.limit * size > limits.max_query_limit:
        reason = f"limit * group_size is {query.limit} * {size}; the limit is {limits.max_query_limit}"
        raise InvalidInput(reason, field="group_size")
    return GroupsWish(query, path_of(request.group_by, "group_by"), size)


def _threshold(request: query_pb2.QueryRequest) -> float | None:
    if not request.HasField("score_threshold"):
        return None
    if math.isnan(request.score_threshold) or not -1 <= request.score_threshold <= 1:
        reason = f"score_threshold is {request.score_threshold}; the limit is -1 to 1"
        raise InvalidInput(reason, field="score_threshold")
    return request.score_threshold


def modality_of(query: query_pb2.Query) -> str:
    """What a query is made of: "text", "image" (a stored point too), "vector" or "mix"."""
    which = query.WhichOneof("query") or "vector"
    return "image" if which == "id" else which
