"""Qdrant as the engine: a server or a cluster; its local mode, in a folder, for tests and small trials."""

import threading
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, TypeVar

import httpx
import numpy as np
from qdrant_client import QdrantClient, models
from qdrant_client.http.exceptions import ResponseHandlingException, UnexpectedResponse

from nearlight.store.aliases import AliasChange, DeleteAlias
from nearlight.store.engines.answering import asked
from nearlight.store.engines.engine import Definition, Limits, NewRow, Page, Parts, Row
from nearlight.store.engines.expressions import Expression
from nearlight.store.engines.qdrant_filters import qdrant_filter, qdrant_id
from nearlight.store.errors import CollectionExists, CollectionNotFound, EngineFailed, EngineUnavailable
from nearlight.store.points import F32, PointId

T = TypeVar("T")
_MARK = "nearlight"
_MAX_PAYLOAD_BYTES = 262_144
_MAX_TOKENS = 65_536
_MAX_HITS = 16_384
_ROWS = 64  # of the largest payloads and vectors they stay below the 32 MB that Qdrant takes at once
_NOT_FOUND, _CONFLICT, _BUSY = 404, 409, (429, 502, 503, 504)


class Qdrant:
    """Qdrant. A write is acknowledged when it can be searched.

    Args:
        url: "http://host:6333", or a folder (or ":memory:") for the local mode.
        api_key: "" for none.
        prefix: of the names of our collections there.
        timeout_s: for one call.

    Raises:
        EngineUnavailable: it does not answer.
    """

    name = "qdrant"
    limits = Limits(_MAX_HITS, _MAX_PAYLOAD_BYTES, _MAX_TOKENS, _ROWS)

    def __init__(
        self, url: str, *, api_key: str = "", prefix: str = "nearlight_", timeout_s: float = 10.0
    ) -> None:
        self._prefix = prefix
        self._is_local = not url.startswith(("http://", "https://"))
        self.index_kind = "flat" if self._is_local else "hnsw"
        # The local mode is not made for threads.
        self._turn: AbstractContextManager[Any] = threading.Lock() if self._is_local else nullcontext()
        self._client = _calling(lambda: _client(url, api_key, timeout_s), url)

    def definitions(self) -> list[Definition]:
        """Of the collections with our prefix and our metadata."""
        found = []
        for one in self._ask(self._client.get_collections).collections:
            if not one.name.startswith(self._prefix):
                continue
            try:
                config = self._ask(self._client.get_collection, one.name).config
            except CollectionNotFound:
                continue  # deleted since
            mark = (config.metadata or {}).get(_MARK)
            if mark is not None:
                found.append(Definition(**mark))
        return found

    def aliases(self) -> dict[str, str]:
        """Alias → name of its collection."""
        n = len(self._prefix)
        return {
            one.alias_name[n:]: one.collection_name[n:]
            for one in self._ask(self._client.get_aliases).aliases
            if one.alias_name.startswith(self._prefix) and one.collection_name.startswith(self._prefix)
        }

    def create(self, definition: Definition) -> None:
        """Make a collection and the index of its facts."""
        coded = self._coded(definition.name)
        if self._ask(self._client.collection_exists, coded):
            raise CollectionExists(f"collection {definition.name!r} exists already")
        self._ask(
            self._client.create_collection,
            coded,
            vectors_config=models.VectorParams(size=definition.dim, distance=models.Distance.COSINE),
            metadata={_MARK: definition.as_dict()},
            tries=1,
        )
        if not self._is_local:  # there it would have no effect
            keyword = models.PayloadSchemaType.KEYWORD
            self._ask(self._client.create_payload_index, coded, field_name="tokens", field_schema=keyword)

    def drop(self, name: str) -> None:
        """Delete a collection with its aliases."""
        self._ask(self._client.delete_collection, self._coded(name))

    def change_aliases(self, changes: Sequence[AliasChange]) -> None:
        """All in one step, or none."""
        operations: list[models.AliasOperations] = []
        existing = self.aliases()
        for change in changes:
            alias = self._coded(change.alias)
            if change.alias in existing:
                gone = models.DeleteAlias(alias_name=alias)
                operations.append(models.DeleteAliasOperation(delete_alias=gone))
                del existing[change.alias]
            if not isinstance(change, DeleteAlias):
                made = models.CreateAlias(collection_name=self._coded(change.collection), alias_name=alias)
                operations.append(models.CreateAliasOperation(create_alias=made))
                existing[change.alias] = change.collection
        self._ask(self._client.update_collection_aliases, operations, tries=1)

    def write(self, name: str, rows: Sequence[NewRow]) -> None:
        """Insert or replace points."""
        points = [
            models.PointStruct(
                id=qdrant_id(row.id),
                vector=row.vector.tolist(),
                payload={
                    "id": row.id if isinstance(row.id, str) else None,
                    "payload": row.payload,
                    "seq": row.seq,
                    "tokens": sorted(row.facets.tokens),
                    "numbers": row.facets.numbers,
                },
            )
            for row in rows
        ]
        self._ask(self._client.upsert, self._coded(name), points=points, wait=True)

    def remove(self, name: str, ids: Sequence[PointId]) -> None:
        """Delete points."""
        some = models.PointIdsList(points=[qdrant_id(point_id) for point_id in ids])
        self._ask(self._client.delete, self._coded(name), points_selector=some, wait=True)

    def rows(self, name: str, ids: Sequence[PointId], parts: Parts) -> Iterable[Row]:
        """Points by id."""
        wanted = [qdrant_id(point_id) for point_id in ids]
        found = self._ask(self._client.retrieve, self._coded(name), ids=wanted, **_reading(parts))
        return [_row(one, parts) for one in found]

    def page(self, name: str, where: Expression, page: Page, parts: Parts) -> list[Row]:
        """The first points behind an id: integers, then strings in the order of their UUIDs."""
        after = None if page.after is None else qdrant_id(page.after)
        found, _ = self._ask(
            self._client.scroll,
            self._coded(name),
            scroll_filter=qdrant_filter(where),
            limit=page.limit if after is None else page.limit + 1,
            offset=after,  # itself included
            **_reading(parts),
        )
        return [_row(one, parts) for one in found if one.id != after][: page.limit]

    def count(self, name: str, where: Expression) -> int:
        """How many points there are."""
        counting = self._client.count
        found = self._ask(counting, self._coded(name), count_filter=qdrant_filter(where), exact=True)
        return int(found.count)

    def search(
        self, name: str, queries: F32, where: Expression, limit: int, offset: int, parts: Parts
    ) -> list[list[tuple[Row, float]]]:
        """The nearest points of each query."""
        wanted = _reading(parts)
        requests = [
            models.QueryRequest(
                query=query.tolist(),
                filter=qdrant_filter(where),
                limit=limit,
                offset=offset,
                with_payload=wanted["with_payload"],
                with_vector=wanted["with_vectors"],
            )
            for query in queries
        ]
        found = self._ask(self._client.query_batch_points, self._coded(name), requests=requests)
        return [[(_row(hit, parts), float(hit.score)) for hit in one.points] for one in found]

    def close(self) -> None:
        """Close the connection."""
        self._client.close()

    def _coded(self, name: str) -> str:
        return self._prefix + name

    def _ask(self, work: Callable[..., Any], *given: Any, tries: int = 3, **named: Any) -> Any:
        what = str(given[0]) if given else ""

        def once() -> Any:
            with self._turn:
                return _calling(lambda: work(*given, **named), what)

        return asked(once, tries)


def _client(url: str, api_key: str, timeout_s: float) -> QdrantClient:
    if url == ":memory:":
        return QdrantClient(":memory:")
    if not url.startswith(("http://", "https://")):
        return QdrantClient(path=url, force_disable_check_same_thread=True)
    client = QdrantClient(
        url=url, api_key=api_key or None, timeout=max(1, round(timeout_s)), check_compatibility=False
    )
    client.get_collections()  # so that a wrong address is noticed now
    return client


def _reading(parts: Parts) -> dict[str, Any]:
    fields = ["id", "seq", *(["payload"] if parts.payload else [])]
    return {"with_payload": fields, "with_vectors": parts.vector}


def _row(found: Any, parts: Parts) -> Row:
    kept = found.payload
    point_id = found.id if isinstance(found.id, int) else kept["id"]
    vector = np.array(found.vector, np.float32) if parts.vector else None
    return Row(point_id, kept["payload"] if parts.payload else "", kept["seq"], vector)


def _calling(work: Callable[[], T], what: str) -> T:
    """Does work; what Qdrant raises becomes an error of the store's tree."""
    try:
        return work()
    except UnexpectedResponse as error:
        if error.status_code == _NOT_FOUND:
            raise CollectionNotFound(f"qdrant has no collection {what!r}") from error
        if error.status_code == _CONFLICT:
            raise CollectionExists(f"qdrant has {what!r} already") from error
        if error.status_code in _BUSY:
            raise EngineUnavailable(f"qdrant does not answer: {error.status_code}") from error
        raise EngineFailed(f"qdrant failed: {str(error)[:500]}") from error
    except (ResponseHandlingException, httpx.HTTPError, ConnectionError, TimeoutError) as error:
        raise EngineUnavailable(f"qdrant does not answer: {error}") from error
    except ValueError as error:  # of the local mode
        if "not found" in str(error):
            raise CollectionNotFound(f"qdrant has no collection {what!r}") from error
        raise EngineFailed(f"qdrant failed: {error}") from error
