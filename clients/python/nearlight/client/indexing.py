"""Brings a collection up to date with a source of images: sends what is new or changed, removes nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import islice

from nearlight.client.convert import id_for_wire
from nearlight.client.errors import InvalidInput
from nearlight.client.sources import Candidate, Source
from nearlight.client.sync_client import Client
from nearlight.client.terms import UpsertTerms
from nearlight.client.values import Point, PointId, Record

# Ids looked up at once, to see what has not changed.
LOOK_UP = 256


@dataclass(frozen=True, slots=True)
class Failure:
    """An image that was not indexed, and why."""

    id: PointId
    reason: str


@dataclass(slots=True)
class Indexing:
    """One run over a source.

    Attributes:
        client: of the server.
        collection: exists already.
        source: the images.
        on_progress: called with the run itself whenever a number grows.
        indexed: images the server acknowledged: they are durable.
        skipped: images that have not changed.
        failed: images that were not indexed.
        skip_duplicates_bits: an image that looks like one that is there is not written; None: all are.
        duplicates: such images, each with the one it looks like.
    """

    client: Client
    collection: str
    source: Source
    on_progress: Callable[[Indexing], None] = lambda _: None
    indexed: int = 0
    skipped: int = 0
    failed: list[Failure] = field(default_factory=list)
    skip_duplicates_bits: int | None = None
    duplicates: list[Failure] = field(default_factory=list)

    @property
    def done(self) -> int:
        """How many images are dealt with."""
        return self.indexed + self.skipped + len(self.failed) + len(self.duplicates)

    def run(self, *, batch_size: int = 32, in_flight: int = 4) -> None:
        """Indexes the source. Interrupted anywhere, it loses nothing it counted; run it again to go on."""
        acks = self.client.upsert_stream(
            self.collection,
            self._changed(),
            batch_size=batch_size,
            in_flight=in_flight,
            terms=UpsertTerms(skip_duplicates_bits=self.skip_duplicates_bits),
        )
        for ack in acks:
            self.indexed += ack.upserted
            for error in ack.errors:
                told = self.duplicates if error.code == "ALREADY_EXISTS" else self.failed
                told.append(Failure(ack.ids[error.index - ack.first_index], error.message))
            self.on_progress(self)

    def _changed(self) -> Iterator[Point]:
        """Yields a point for each image that is new or has changed."""
        candidates = iter(self.source)
        while chunk := list(islice(candidates, LOOK_UP)):
            usable = [candidate for candidate in chunk if self._has_usable_id(candidate)]
            stored = self._stored([candidate.id for candidate in usable])
            for candidate in usable:
                point = self._point(candidate, stored.get(candidate.id))
                if point is not None:
                    yield point

    def _has_usable_id(self, candidate: Candidate) -> bool:
        try:
            id_for_wire(candidate.id)
        except InvalidInput as error:
            self._fail(candidate, str(error))
            return False
        return True

    def _stored(self, ids: list[PointId]) -> dict[PointId, Record]:
        if not ids:
            return {}
        return {record.id: record for record in self.client.get(self.collection, ids)}

    def _point(self, candidate: Candidate, stored: Record | None) -> Point | None:
        """Returns the point to write; None where there is nothing to write."""
        if stored is not None and candidate.is_unchanged(stored.payload):
            self._skip()
            return None
        try:
            image, payload = candidate.read()
        except OSError as error:
            self._fail(candidate, error.strerror or str(error))
            return None
        same = ("size", "sha256")
        if (
            stored is not None
            and "mtime_ns" in payload
            and all(stored.payload.get(k) == payload[k] for k in same)
        ):
            self._skip()  # touched or copied, but the same picture
            return None
        return Point(id=candidate.id, image=image, payload=payload)

    def _skip(self) -> None:
        self.skipped += 1
        self.on_progress(self)

    def _fail(self, candidate: Candidate, reason: str) -> None:
        self.failed.append(Failure(candidate.id, reason))
        self.on_progress(self)
