"""Changes of payloads and selections of points: from the wire."""

from collections.abc import Callable

from nearlight.server.config import LimitsConfig
from nearlight.server.convert.filters import filter_of
from nearlight.server.convert.points import key_path, payload_of
from nearlight.server.convert.terms import durability_of
from nearlight.server.convert.values import check_count, point_id_of
from nearlight.server.errors import InvalidInput
from nearlight.store import Changed, Filter, PointId, VectorCollection
from nearlight.v1 import point_pb2

ChangeOf = Callable[[VectorCollection], Changed]
"""A checked change, to be made to a collection."""


def selected_points(selector: point_pb2.PointSelector, limits: LimitsConfig) -> list[PointId] | Filter:
    """The points a write touches.

    Raises:
        InvalidInput: nothing selected, too many ids, or a bad filter.
    """
    which = selector.WhichOneof("selector")
    if which is None:
        raise InvalidInput("points is empty; it must hold ids or a filter", field="points")
    if which == "filter":
        return filter_of(selector.filter, "points.filter")
    check_count(len(selector.ids.ids), limits.max_batch_inputs, "points.ids")
    return [point_id_of(item, f"points.ids[{i}]") for i, item in enumerate(selector.ids.ids)]


def setting(request: point_pb2.SetPayloadRequest, limits: LimitsConfig) -> ChangeOf:
    """What a SetPayload asks, checked.

    Raises:
        InvalidInput: names the field, the value and the limit.
    """
    points = selected_points(request.points, limits)
    if not request.payload_json:
        raise InvalidInput("payload_json is empty; it must hold a JSON object", field="payload_json")
    payload = payload_of(request.payload_json, "payload_json", limits)
    path = key_path(request.key) if request.key else ()
    replace, durability = request.replace, durability_of(request.durability)
    return lambda collection: collection.set_payload(
        points, payload, path=path, replace=replace, durability=durability
    )


def removing(request: point_pb2.DeletePayloadRequest, limits: LimitsConfig) -> ChangeOf:
    """What a DeletePayload asks, checked.

    Raises:
        InvalidInput: names the field, the value and the limit.
    """
    points = selected_points(request.points, limits)
    if request.all and request.keys:
        reason = f"all is true and keys holds {len(request.keys)} items; only one of them may be set"
        raise InvalidInput(reason, field="all")
    durability = durability_of(request.durability)
    if request.all:
        return lambda collection: collection.delete_payload(points, durability=durability)
    check_count(len(request.keys), limits.max_batch_inputs, "keys")
    paths = [key_path(key) for key in request.keys]
    return lambda collection: collection.delete_payload(points, paths, durability=durability)
