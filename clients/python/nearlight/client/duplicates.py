"""The plan that finds points which show (nearly) the same."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, TypeAlias, TypedDict, Unpack

from nearlight.client import convert
from nearlight.client.errors import InvalidInput
from nearlight.client.methods import FIND_DUPLICATES
from nearlight.client.plan import Plan, ask
from nearlight.client.values import FilterLike, Hit
from nearlight.v1 import point_pb2

DuplicateMethod: TypeAlias = Literal["vector", "hash"]

HASH_BITS = 64
_METHODS = {
    "vector": point_pb2.DUPLICATE_METHOD_EMBEDDING,
    "hash": point_pb2.DUPLICATE_METHOD_PERCEPTUAL,
}


class DuplicateOptions(TypedDict, total=False):
    """Options of ``find_duplicates``; see FindDuplicatesRequest in point.proto.

    by: "vector" (default) or "hash". min_score: least cosine of a pair, default 0.97, for "vector".
    max_bits: most bits in which the perceptual hashes of a pair differ, 0 to 64, default 4, for "hash".
    filter: see FilterLike. with_payload: True (default), False, or the keys wanted.
    timeout: seconds for each page; the first does the work.
    """

    by: DuplicateMethod
    min_score: float
    max_bits: int
    filter: FilterLike
    with_payload: bool | Sequence[str]
    timeout: float


def find_duplicates(collection: str, **options: Unpack[DuplicateOptions]) -> Plan[list[tuple[Hit, ...]]]:
    """Finds the groups, largest first, over all pages; in each the oldest point is first.

    The score of a hit is against that one: the cosine, or the share of the 64 bits that are equal.
    """
    by = options.get("by", "vector")
    if by not in _METHODS:
        raise InvalidInput(f"by is {by!r:.60}; it must be vector or hash")
    request = point_pb2.FindDuplicatesRequest(
        collection=convert.text_for_wire(collection),
        method=_METHODS[by],
        with_payload=convert.with_payload_for_wire(options.get("with_payload", True)),
        page_size=1000,
    )
    if "min_score" in options:
        request.min_score = options["min_score"]
    if "max_bits" in options:
        request.max_distance_bits = convert.uint32_for_wire("max_bits", options["max_bits"])
    if "filter" in options:
        request.filter.CopyFrom(convert.filter_for_wire(options["filter"]))
    found: list[tuple[Hit, ...]] = []
    while True:
        page = yield from ask(FIND_DUPLICATES(request))
        found += [tuple(convert.hit_from_wire(hit) for hit in group.points) for group in page.groups]
        if not page.next_page_token:
            return found
        request.page_token = page.next_page_token


def differing_bits(score: float) -> int:
    """Returns in how many bits two perceptual hashes differ, of the share that is equal."""
    return round((1 - score) * HASH_BITS)
