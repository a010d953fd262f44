"""Which points a write touches, in as many messages as it takes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from nearlight.client import convert
from nearlight.client.errors import InvalidInput
from nearlight.client.plan import Plan, Server, waves
from nearlight.client.values import FilterLike, PointId
from nearlight.v1 import point_id_pb2, point_pb2
from nearlight.v1.filter_pb2 import Filter


def selectors(
    server: Server, points: Sequence[PointId] | FilterLike
) -> Plan[Iterator[point_pb2.PointSelector]]:
    """Returns the selectors: one of a filter, and of ids one for each batch the server takes."""
    if isinstance(points, Filter | Mapping):
        wanted = point_pb2.PointSelector(filter=convert.filter_for_wire(points))
        return iter((wanted,))
    limits = yield from server.limits_for(len(points))
    ids = map(convert.id_for_wire, listed(points))
    return (
        point_pb2.PointSelector(ids=point_id_pb2.PointIds(ids=wave))
        for wave in waves(ids, limits.max_batch_inputs)
    )


def listed(ids: Sequence[PointId]) -> Sequence[PointId]:
    """Returns the ids, once it is sure that they are a list and not one string."""
    if isinstance(ids, str):
        raise InvalidInput(f"ids is one string, {ids!r:.60}; it must be a list of ids")
    return ids
