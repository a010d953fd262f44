"""FindDuplicates: one search at a time, whose pages are kept until others push them out."""

import asyncio
import secrets
import threading
from collections import OrderedDict
from dataclasses import dataclass

from nearlight.server.catalog import Catalog
from nearlight.server.config import LimitsConfig
from nearlight.server.convert.filters import wanted_filter
from nearlight.server.convert.points import Wanted, add_hits, wanted_parts
from nearlight.server.convert.values import enum_name, fitting, page_size_of
from nearlight.server.errors import Abandoned, InvalidInput
from nearlight.store import Collection, DuplicateGroup, Filter, Hit
from nearlight.v1 import point_pb2

DEFAULT_SCORE = 0.97
DEFAULT_BITS = 4
# Searches whose groups are kept for their next pages; 8 bytes for each point in a group.
KEPT = 8


@dataclass(frozen=True, slots=True)
class Search:
    """What was found, of which collection."""

    collection: Collection
    groups: list[DuplicateGroup]


@dataclass(frozen=True, slots=True)
class Wish:
    """How alike the points of a group are: by the bits of their hashes, else by the cosine of vectors."""

    min_score: float
    max_bits: int | None
    filter: Filter | None


class DuplicateDesk:
    """Finds duplicates for callers.

    Args:
        catalog: of the collections.
        limits: of the server.
    """

    def __init__(self, catalog: Catalog, limits: LimitsConfig) -> None:
        self._catalog = catalog
        self._limits = limits
        self._turn = asyncio.Semaphore(1)  # a search takes a core: one at a time leaves the others to serve
        self._kept: OrderedDict[str, Search] = OrderedDict()

    async def find(self, request: point_pb2.FindDuplicatesRequest) -> point_pb2.FindDuplicatesResponse:
        """One page of the groups.

        Raises:
            InvalidInput: a number is out of range, or the token is not one of ours, or no more.
            StoreError: no such collection, or the filter is refused.
        """
        size = page_size_of(request.page_size, default=100, largest=1000, field="page_size")
        token, search, start = await self._search(request)
        wanted = wanted_parts(request.with_payload, with_vectors=False, dtype=0)
        groups = search.groups[start : start + size]
        found = await self._catalog.run(
            lambda: self._catalog.embedded("FindDuplicates").duplicates.hits(search.collection, groups)
        )
        messages = [_group_message(hits, wanted) for hits in found if hits]
        n = fitting(messages, self._limits.max_message_bytes)
        # Groups that went meanwhile leave no message: a page that was cut goes on at its first unsent group.
        present = [i for i, hits in enumerate(found) if hits]
        until = start + (present[n] if n < len(messages) else len(groups))
        is_more = until < len(search.groups)
        return point_pb2.FindDuplicatesResponse(
            groups=messages[:n], next_page_token=f"{token}.{until}" if is_more else ""
        )

    async def _search(self, request: point_pb2.FindDuplicatesRequest) -> tuple[str, Search, int]:
        """The search of a request or of its token, under which it is kept, and where its page begins."""
        collection = self._catalog.embedded_collection(request.collection, "FindDuplicates")
        if request.page_token:
            token, _, start = request.page_token.partition(".")
            search = self._kept.get(token)
            if search is None or search.collection is not collection or not start.isdecimal():
                reason = (
                    f"page_token is {request.page_token[:80]!r}; it is not one this server gave, or no more"
                )
                raise InvalidInput(reason, field="page_token")
            self._kept.move_to_end(token)
            return token, search, int(start)
        search = Search(collection, await self._look(collection, wish_of(request)))
        token = secrets.token_hex(8)
        self._kept[token] = search
        while len(self._kept) > KEPT:
            self._kept.popitem(last=False)
        return token, search, 0

    async def _look(self, collection: Collection, wish: Wish) -> list[DuplicateGroup]:
        nobody_waits = threading.Event()

        def go_on() -> None:
            if nobody_waits.is_set():
                raise Abandoned("the caller went away")

        def look() -> list[DuplicateGroup]:
            duplicates = self._catalog.embedded("FindDuplicates").duplicates
            if wish.max_bits is None:
                return duplicates.by_vector(collection, wish.min_score, wish.filter, go_on)
            return duplicates.by_hash(collection, wish.max_bits, wish.filter, go_on)

        async with self._turn:
            try:
                return await asyncio.to_thread(look)
            finally:
                nobody_waits.set()


def _group_message(hits: list[Hit], wanted: Wanted) -> point_pb2.DuplicateGroup:
    message = point_pb2.DuplicateGroup()
    add_hits(message.points, hits, wanted)
    return message


def wish_of(request: point_pb2.FindDuplicatesRequest) -> Wish:
    """What a request asks for.

    Raises:
        InvalidInput: an unknown method, or a number that is not for it.
    """
    method = enum_name(point_pb2.DuplicateMethod, request.method, "method")
    by_hash = request.method == point_pb2.DUPLICATE_METHOD_PERCEPTUAL
    unused = "min_score" if by_hash and request.min_score else None
    if not by_hash and request.HasField("max_distance_bits"):
        unused = "max_distance_bits"
    if unused:
        raise InvalidInput(f"{unused} has no meaning with method {method}; leave it out", field=unused)
    bits = request.max_distance_bits if request.HasField("max_distance_bits") else DEFAULT_BITS
    score = request.min_score or DEFAULT_SCORE
    return Wish(score, bits if by_hash else None, wanted_filter(request))
