"""Queries and pages: from the wire."""

import json
import math
from dataclasses import dataclass

from nearlight.server.call import F32, Input
from nearlight.server.config import LimitsConfig
from nearlight.server.convert.filters import wanted_filter
from nearlight.server.convert.points import Wanted, wanted_parts
from nearlight.server.convert.values import dtype_of, page_size_of, point_id_of, refuse_unbuilt, vector_of
from nearlight.server.errors import InvalidInput, NotPossible
from nearlight.store import Filter, PointId
from nearlight.v1 import point_pb2, query_pb2

DEFAULT_LIMIT = 10
MAX_SCROLL = 10_000


@dataclass(frozen=True, slots=True)
class PointQuery:
    """A query by a point of the collection, which is left out of its own hits."""

    id: PointId


Target = F32 | Input | PointQuery


@dataclass(frozen=True, slots=True)
class QueryWish:
    """A checked query.

    Args:
        target: what to look near.
        limit: hits wanted.
        offset: hits skipped.
        score_threshold: least cosine, or None.
        wanted: which parts come back.
        filter: only points that pass, or None.
    """

    target: Target
    limit: int
    offset: int
    score_threshold: float | None
    wanted: Wanted
    filter: Filter | None


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
    refuse_unbuilt(request, "autocut", "mmr")
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
    return QueryWish(
        target=_target(request.query, dim),
        limit=limit,
        offset=request.offset,
        score_threshold=_threshold(request),
        wanted=wanted_parts(request.with_payload, request.with_vectors, request.dtype),
        filter=wanted_filter(request),
    )


def _target(query: query_pb2.Query, dim: int) -> Target:
    refuse_unbuilt(query, "mix")
    which = query.WhichOneof("query")
    if which == "vector":
        return vector_of(query.vector, "query.vector", dim)
    if which == "text":
        return Input("text", query.text, "query.text")
    if which == "image":
        return Input("image", query.image, "query.image")
    if which == "id":
        return PointQuery(point_id_of(query.id, "query.id"))
    raise InvalidInput("query is empty; it must hold vector, text, image or id", field="query")


def _threshold(request: query_pb2.QueryRequest) -> float | None:
    if not request.HasField("score_threshold"):
        return None
    if math.isnan(request.score_threshold) or not -1 <= request.score_threshold <= 1:
        reason = f"score_threshold is {request.score_threshold}; the limit is -1 to 1"
        raise InvalidInput(reason, field="score_threshold")
    return request.score_threshold


@dataclass(frozen=True, slots=True)
class PageWish:
    """A checked Scroll: the last id seen (None: from the start), how many points, which parts and points."""

    after: PointId | None
    limit: int
    wanted: Wanted
    filter: Filter | None


def page_wish(request: point_pb2.ScrollRequest) -> PageWish:
    """What a Scroll asks, checked.

    Raises:
        InvalidInput: a limit above 10,000, a cursor that is not ours, or a bad filter.
        NotBuilt: order.
    """
    refuse_unbuilt(request, "order_by")
    dtype_of(request.dtype, "dtype")
    return PageWish(
        after=_id_of_cursor(request.cursor) if request.cursor else None,
        limit=page_size_of(request.limit, default=100, largest=MAX_SCROLL, field="limit"),
        wanted=wanted_parts(request.with_payload, request.with_vectors, request.dtype),
        filter=wanted_filter(request),
    )


def cursor_of(point_id: PointId) -> str:
    """The cursor that goes on after a point."""
    return json.dumps(point_id)


def _id_of_cursor(cursor: str) -> PointId:
    try:
        point_id = json.loads(cursor)
    except (ValueError, RecursionError):
        point_id = None
    if isinstance(point_id, bool) or not isinstance(point_id, str | int):
        raise InvalidInput(f"cursor is {cursor[:80]!r}; it must be a next_cursor of ours", field="cursor")
    return point_id
