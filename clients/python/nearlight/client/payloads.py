"""Plans of payloads: set keys, replace all, remove keys."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from nearlight.client import convert
from nearlight.client.errors import InvalidInput
from nearlight.client.methods import DELETE_PAYLOAD, SET_PAYLOAD
from nearlight.client.plan import Plan, Server, ask
from nearlight.client.selection import selectors
from nearlight.client.values import FilterLike, PointId
from nearlight.v1 import point_pb2


def set_payload(
    server: Server,
    collection: str,
    points: Sequence[PointId] | FilterLike,
    payload: Mapping[str, Any],
    key: str,
    replace: bool,
) -> Plan[int]:
    """Sets keys of payloads, or replaces them; returns how many points changed."""
    name, key, payload_json = (
        convert.text_for_wire(collection),
        convert.text_for_wire(key),
        convert.json_for_wire(payload),
    )
    updated = 0
    for selector in (yield from selectors(server, points)):
        request = point_pb2.SetPayloadRequest(
            collection=name, points=selector, payload_json=payload_json, replace=replace, key=key
        )
        updated += (yield from ask(SET_PAYLOAD(request))).updated
    return updated


def delete_payload(
    server: Server, collection: str, points: Sequence[PointId] | FilterLike, keys: Sequence[str] | None
) -> Plan[int]:
    """Removes keys from payloads, None meaning all of them; returns how many points changed."""
    if isinstance(keys, str):
        raise InvalidInput(f"keys is one string, {keys!r:.60}; it must be a list of keys")
    name = convert.text_for_wire(collection)
    wire_keys = [convert.text_for_wire(key) for key in keys or ()]
    updated = 0
    for selector in (yield from selectors(server, points)):
        request = point_pb2.DeletePayloadRequest(
            collection=name, points=selector, keys=wire_keys, all=keys is None
        )
        updated += (yield from ask(DELETE_PAYLOAD(request))).updated
    return updated
