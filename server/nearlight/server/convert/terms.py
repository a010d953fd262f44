"""On which terms a write happens: what its points must be, and when it is acknowledged."""

from nearlight.server.convert.values import enum_name
from nearlight.server.errors import AlreadyExists, InvalidInput, NotFound, ServerError
from nearlight.store import Durability, InvalidQuery, PointId, Refusal, Terms
from nearlight.store.upserts import UpsertMode
from nearlight.v1 import collection_pb2, point_pb2

_MODES: dict[int, UpsertMode] = {
    point_pb2.UPSERT_MODE_UNSPECIFIED: "upsert",
    point_pb2.UPSERT_MODE_UPSERT: "upsert",
    point_pb2.UPSERT_MODE_INSERT_ONLY: "insert",
    point_pb2.UPSERT_MODE_UPDATE_ONLY: "update",
}
_DURABILITIES: dict[int, Durability | None] = {
    collection_pb2.DURABILITY_UNSPECIFIED: None,
    collection_pb2.DURABILITY_FULL: "full",
    collection_pb2.DURABILITY_RELAXED: "relaxed",
}


def durability_of(number: int) -> Durability | None:
    """The durability of a write; None: the collection's.

    Raises:
        InvalidInput: no such value.
    """
    enum_name(collection_pb2.Durability, number, "durability")
    return _DURABILITIES[number]


def durability_message(durability: Durability) -> collection_pb2.Durability:
    """A durability on the wire."""
    full, relaxed = collection_pb2.DURABILITY_FULL, collection_pb2.DURABILITY_RELAXED
    return relaxed if durability == "relaxed" else full


def terms_of(request: point_pb2.UpsertRequest) -> Terms:
    """What the points of an upsert must be.

    Raises:
        InvalidInput: no such mode, or a number out of range.
    """
    enum_name(point_pb2.UpsertMode, request.mode, "mode")
    bits = request.skip_duplicates_bits if request.HasField("skip_duplicates_bits") else None
    terms = Terms(_MODES[request.mode], bits)
    try:
        terms.check()
    except InvalidQuery as error:
        raise InvalidInput(str(error), field=error.field) from error
    return terms


def refusal_error(refusal: Refusal, index: int, point_id: PointId, *, in_block: bool = False) -> ServerError:
    """Why a point was not written, for its caller.

    Args:
        refusal: of the store.
        index: of the point in the request.
        point_id: its id.
        in_block: the request brought a block.
    """
    field = f"points[{index}]"
    id_field = f"block.ids[{index}]" if in_block else f"{field}.id"
    if refusal.reason == "exists":
        return AlreadyExists(f"{id_field} is {point_id!r:.80}, which exists already", field=id_field)
    if refusal.reason == "missing":
        return NotFound(f"{id_field} is {point_id!r:.80}, which does not exist", field=id_field)
    seen = f"looks like point {refusal.like!r:.80} ({refusal.bits} of 64 bits differ)"
    return AlreadyExists(f"{field}.image {seen}; it was not written", field=f"{field}.image")
