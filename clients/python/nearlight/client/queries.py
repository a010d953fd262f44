"""Plans of searches: one, many at once, by groups."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Unpack

from nearlight.client import convert
from nearlight.client.batching import batches, room_bytes
from nearlight.client.errors import InvalidInput
from nearlight.client.index_values import search_info_from_wire
from nearlight.client.methods import QUERY, QUERY_BATCH, QUERY_GROUPS
from nearlight.client.options import Example, QueryOptions
from nearlight.client.plan import Plan, Server, ask, sendable
from nearlight.client.values import (
    HitGroup,
    ItemError,
    QueryResult,
)
from nearlight.v1 import query_pb2

DEFAULT_LIMIT = 10
_SOURCES = ("text", "image", "vector", "id")


def query(collection: str, **options: Unpack[QueryOptions]) -> Plan[QueryResult]:
    """Searches; asks again for the rest where the server had to cut a reply that was too large."""
    request = _query_request(options)
    request.collection = convert.text_for_wire(collection)
    return (yield from _completed(request, (yield from ask(QUERY(request)))))


def query_batch(
    server: Server, collection: str, queries: Sequence[QueryOptions]
) -> Plan[list[QueryResult | ItemError]]:
    """Searches many times, in as few calls as it takes; a query that fails, fails alone."""
    limits = yield from server.limits_for(len(queries))
    name = convert.text_for_wire(collection)
    failed: list[ItemError] = []
    results: dict[int, QueryResult | ItemError] = {}
    ready = sendable(queries, _query_request, limits, failed)
    for group in batches(ready, limits.max_batch_queries, room_bytes(limits.max_message_bytes)):
        while group:
            request = query_pb2.QueryBatchRequest(collection=name, queries=[message for _, message in group])
            reply = yield from ask(QUERY_BATCH(request))
            for (index, message), outcome in zip(group, reply.results, strict=False):
                if outcome.HasField("error"):
                    code, text = convert.code_name(outcome.error.code), outcome.error.message
                    results[index] = ItemError(index, code, text)
                else:
                    message.collection = name
                    results[index] = yield from _completed(message, outcome.response)
            group = group[max(len(reply.results), 1) :] if reply.HasField("next_index") else []
    results |= {error.index: error for error in failed}
    return [results[index] for index in range(len(queries))]


def query_groups(
    collection: str, group_by: str, group_size: int, **options: Unpack[QueryOptions]
) -> Plan[list[HitGroup]]:
    """Searches for the best hits of each value of a payload key."""
    request = query_pb2.QueryGroupsRequest(
        query=_query_request(options),
        group_by=convert.text_for_wire(group_by),
        group_size=convert.uint32_for_wire("group_size", group_size),
    )
    request.query.collection = convert.text_for_wire(collection)
    reply = yield from ask(QUERY_GROUPS(request))
    return [convert.group_from_wire(group) for group in reply.groups]


def _completed(request: query_pb2.QueryRequest, reply: query_pb2.QueryResponse) -> Plan[QueryResult]:
    """The result of a query, asking for what is missing of its reply."""
    hits = [convert.hit_from_wire(hit) for hit in reply.hits]
    end = request.offset + request.limit
    while reply.HasField("next_offset") and request.offset < reply.next_offset < end:
        request.offset, request.limit = reply.next_offset, end - reply.next_offset
        reply = yield from ask(QUERY(request))
        hits += [convert.hit_from_wire(hit) for hit in reply.hits]
    return QueryResult(tuple(hits), search_info_from_wire(reply.info))


def _query_request(options: QueryOptions) -> query_pb2.QueryRequest:
    request = query_pb2.QueryRequest(
        query=_what_to_look_for(options),
        limit=convert.uint32_for_wire("limit", options.get("limit", DEFAULT_LIMIT)),
        offset=convert.uint32_for_wire("offset", options.get("offset", 0)),
        filter=convert.filter_for_wire(options["filter"]) if "filter" in options else None,
        score_threshold=options.get("score_threshold"),
        with_payload=convert.with_payload_for_wire(options.get("with_payload", True)),
        with_vectors=options.get("with_vectors", False),
        min_relevance=options.get("min_relevance"),
        min_seq=options.get("min_seq", 0),
    )
    if options.keys() & {"exact", "recall_target", "hnsw_ef", "ivf_nprobe"}:
        request.params.exact = options.get("exact", False)
        request.params.hnsw_ef = convert.uint32_for_wire("hnsw_ef", options.get("hnsw_ef", 0))
        request.params.ivf_nprobe = convert.uint32_for_wire("ivf_nprobe", options.get("ivf_nprobe", 0))
        if "recall_target" in options:
            request.params.recall_target = options["recall_target"]
    if "autocut" in options:
        request.autocut.jumps = convert.uint32_for_wire("autocut", options["autocut"])
    if "diversity" in options:
        request.mmr.diversity = options["diversity"]
        request.mmr.candidates = convert.uint32_for_wire("candidates", options.get("candidates", 0))
    return request


def _what_to_look_for(options: QueryOptions) -> query_pb2.Query:
    given = [name for name in _SOURCES if name in options]
    is_mix = "like" in options or "unlike" in options
    if len(given) + is_mix != 1:
        raise InvalidInput(
            f"a query has {given + ['like or unlike'] * is_mix or 'nothing'} to look for; "
            "exactly one of text, image, vector, id, or like and unlike"
        )
    if is_mix:
        return query_pb2.Query(mix=_mix(options))
    if "text" in options:
        return query_pb2.Query(text=convert.text_for_wire(options["text"]))
    if "image" in options:
        return query_pb2.Query(image=convert.image_for_wire(options["image"]))
    if "vector" in options:
        return query_pb2.Query(vector=convert.vector_for_wire(options["vector"]))
    return query_pb2.Query(id=convert.id_for_wire(options["id"]))


def _mix(options: QueryOptions) -> query_pb2.Mix:
    strategy = options.get("strategy", "average")
    if strategy not in ("average", "best_score"):
        raise InvalidInput(f"strategy is {strategy!r:.60}; it must be average or best_score")
    return query_pb2.Mix(
        positive=[_example(example) for example in options.get("like", ())],
        negative=[_example(example) for example in options.get("unlike", ())],
        strategy=f"MIX_STRATEGY_{strategy}".upper(),
    )


def _example(example: Example) -> query_pb2.Example:
    message = query_pb2.Example(weight=example.weight)
    if example.text is not None:
        message.text = convert.text_for_wire(example.text)
    elif example.image is not None:
        message.image = convert.image_for_wire(example.image)
    elif example.vector is not None:
        message.vector.CopyFrom(convert.vector_for_wire(example.vector))
    elif example.id is not None:
        message.id.CopyFrom(convert.id_for_wire(example.id))
    return message
