"""Plans of points: write and read."""

from __future__ import annotations

from collections.abc import Sequence

from nearlight.client import convert
from nearlight.client.batching import batches, room_bytes
from nearlight.client.methods import COUNT, DELETE, GET, INSERT, SCROLL, UPSERT
from nearlight.client.plan import Plan, Server, ask, sendable, waves
from nearlight.client.selection import listed, selectors
from nearlight.client.terms import ANY, UpsertTerms
from nearlight.client.values import (
    FilterLike,
    ItemError,
    Point,
    PointId,
    Record,
    UpsertResult,
)
from nearlight.v1 import point_pb2


def upsert(
    server: Server, collection: str, points: Sequence[Point], terms: UpsertTerms = ANY
) -> Plan[UpsertResult]:
    """Writes points in as many calls as it takes, one after another: of two with one id the later wins."""
    limits = yield from server.limits_for(len(points))
    failed: list[ItemError] = []
    seq = upserted = 0
    ready = sendable(points, convert.point_for_wire, limits, failed)
    for group in batches(ready, limits.max_batch_inputs, room_bytes(limits.max_message_bytes)):
        request = terms.on(collection)
        request.points.extend(message for _, message in group)
        reply = yield from ask((INSERT if terms.mode == "insert" else UPSERT)(request))
        seq, upserted = max(seq, reply.seq), upserted + reply.upserted
        failed += [convert.item_error_from_wire(error, group[error.index][0]) for error in reply.errors]
    return UpsertResult(seq, upserted, tuple(sorted(failed, key=lambda error: error.index)))


def delete(server: Server, collection: str, ids: Sequence[PointId] | FilterLike) -> Plan[int]:
    """Deletes by ids or by filter; returns how many points there were."""
    name = convert.text_for_wire(collection)
    deleted = 0
    for selector in (yield from selectors(server, ids)):
        deleted += (yield from ask(DELETE(point_pb2.DeleteRequest(collection=name, points=selector)))).deleted
    return deleted


def get(
    server: Server,
    collection: str,
    ids: Sequence[PointId],
    with_payload: bool | Sequence[str],
    with_vectors: bool,
) -> Plan[list[Record]]:
    """Reads points by id, in the order of the ids; those that do not exist are left out."""
    limits = yield from server.limits_for(len(ids))
    found: list[Record] = []
    for wave in waves(map(convert.id_for_wire, listed(ids)), limits.max_batch_inputs):
        rest = wave
        while rest:
            request = point_pb2.GetRequest(
                collection=convert.text_for_wire(collection),
                ids=rest,
                with_payload=convert.with_payload_for_wire(with_payload),
                with_vectors=with_vectors,
            )
            reply = yield from ask(GET(request))
            found += [convert.record_from_wire(record) for record in reply.records]
            rest = rest[max(reply.next_index, 1) :] if reply.HasField("next_index") else []
    return found


def scroll_page(
    collection: str,
    cursor: str,
    page_size: int,
    with_payload: bool | Sequence[str],
    with_vectors: bool,
    filter: FilterLike | None,
    order_by: str | None,
    descending: bool,
) -> Plan[tuple[list[Record], str]]:
    """Reads one page; returns it with the cursor of the next one, "" after the last."""
    request = point_pb2.ScrollRequest(
        collection=convert.text_for_wire(collection),
        cursor=cursor,
        limit=convert.uint32_for_wire("page_size", page_size),
        with_payload=convert.with_payload_for_wire(with_payload),
        with_vectors=with_vectors,
        filter=None if filter is None else convert.filter_for_wire(filter),
    )
    if order_by is not None:
        request.order_by.key = convert.text_for_wire(order_by)
        request.order_by.descending = descending
    reply = yield from ask(SCROLL(request))
    return [convert.record_from_wire(record) for record in reply.records], reply.next_cursor


def count(collection: str, filter: FilterLike | None) -> Plan[int]:
    """Counts the points that pass the filter."""
    request = point_pb2.CountRequest(
        collection=convert.text_for_wire(collection),
        filter=None if filter is None else convert.filter_for_wire(filter),
    )
    return int((yield from ask(COUNT(request))).count)
