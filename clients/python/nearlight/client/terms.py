"""On which terms points are written."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias, get_args

from nearlight.client.convert import text_for_wire, uint32_for_wire
from nearlight.client.errors import InvalidInput
from nearlight.v1 import collection_pb2, point_pb2

UpsertMode: TypeAlias = Literal["upsert", "insert", "update"]
Durability: TypeAlias = Literal["full", "relaxed"]
"""full: acknowledged when it is on the disk. relaxed: at once; a power loss may take the last second."""

_MODES = {
    "upsert": point_pb2.UPSERT_MODE_UPSERT,
    "insert": point_pb2.UPSERT_MODE_INSERT_ONLY,
    "update": point_pb2.UPSERT_MODE_UPDATE_ONLY,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class UpsertTerms:
    """What points must be to be written, and when that is acknowledged.

    Attributes:
        mode: "insert": an id that exists is an error ALREADY_EXISTS; "update": one that does not, NOT_FOUND.
            A stream whose connection broke sends again what was not acknowledged: "insert" then refuses what
            it wrote.
        skip_duplicates_bits: 0 to 32; a point of a new id whose image looks like that of another (perceptual
            hashes that differ in at most so many of 64 bits) is an error ALREADY_EXISTS that names it.
        durability: None: the collection's.
        space_id: space the vectors are of; an error where it is not the collection's. "": not checked.
    """

    mode: UpsertMode = "upsert"
    skip_duplicates_bits: int | None = None
    durability: Durability | None = None
    space_id: str = ""

    def __post_init__(self) -> None:
        if self.mode not in _MODES:
            raise InvalidInput(f"mode is {self.mode!r:.60}; it must be one of {', '.join(_MODES)}")
        if self.skip_duplicates_bits is not None:
            uint32_for_wire("skip_duplicates_bits", self.skip_duplicates_bits)

    def on(self, collection: str) -> point_pb2.UpsertRequest:
        """Returns a request on these terms, without points yet."""
        request = point_pb2.UpsertRequest(
            collection=text_for_wire(collection),
            mode=_MODES[self.mode],
            space_id=text_for_wire(self.space_id),
        )
        request.durability = durability_for_wire(self.durability)
        if self.skip_duplicates_bits is not None:
            request.skip_duplicates_bits = self.skip_duplicates_bits
        return request


ANY = UpsertTerms()


def durability_for_wire(durability: Durability | None) -> collection_pb2.Durability:
    """Returns a durability; None: unspecified."""
    if durability is None:
        return collection_pb2.DURABILITY_UNSPECIFIED
    if durability not in get_args(Durability):
        raise InvalidInput(f"durability is {durability!r:.60}; it must be full or relaxed")
    return collection_pb2.DURABILITY_FULL if durability == "full" else collection_pb2.DURABILITY_RELAXED
