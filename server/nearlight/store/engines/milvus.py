"""Milvus as the engine: a cluster, one machine, or Milvus Lite in a file."""

import json
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
from pymilvus import MilvusClient

from nearlight.store.aliases import AliasChange, DeleteAlias
from nearlight.store.engines.answering import asked
from nearlight.store.engines.engine import Definition, Limits, NewRow, Page, Parts, Row
from nearlight.store.engines.expressions import EVERYTHING, Expression
from nearlight.store.engines.milvus_calls import (
    MAX_PAYLOAD_BYTES,
    MAX_TOKENS,
    NotLoaded,
    calling,
    schema_of,
)
from nearlight.store.engines.milvus_filters import milvus_filter
from nearlight.store.engines.milvus_names import (
    id_of_key,
    milvus_key,
    milvus_name,
    name_of,
)
from nearlight.store.errors import (
    CollectionExists,
    CollectionNotFound,
    InvalidCollection,
    StoreError,
)
from nearlight.store.points import F32, PointId

_PROPERTY = "nearlight"
_MAX_HITS = 16_384
_MAX_DIM = 32_768
_ROWS = 256
# As pymilvus' own iterator asks: the rows with the smallest keys, in their order.
_BY_KEY: dict[str, Any] = {"iterator": "True", "reduce_stop_for_best": "True"}


class Milvus:
    """Milvus. Reads are strongly consistent: they see every write that was acknowledged before them.

    Args:
        uri: "http://host:19530", or a file "….db" for Milvus Lite.
        token: "user:password" or an API key, "" for none.
        database: "" for the default one.
        prefix: of the names of our collections there: letters, digits and underscores.
        index_type: of vectors: "AUTOINDEX", "HNSW", "FLAT" (finds all), or another that Milvus knows.
        timeout_s: for one call.

    Raises:
        EngineUnavailable: it does not answer.
    """

    name = "milvus"
    limits = Limits(_MAX_HITS, MAX_PAYLOAD_BYTES, MAX_TOKENS, _ROWS)

    def __init__(
        self,
        uri: str,
        *,
        token: str = "",
        database: str = "",
        prefix: str = "nearlight_",
        index_type: str = "AUTOINDEX",
        timeout_s: float = 10.0,
    ) -> None:
        self.index_kind = index_type.lower()
        self._prefix = prefix
        self._index_type = index_type
        self._timeout_s = timeout_s
        self._client: MilvusClient = calling(
            lambda: MilvusClient(uri, token=token, db_name=database, timeout=timeout_s), uri
        )
        self._is_lite = str(self._ask(self._client.get_server_version)).startswith("milvus_lite")

    def definitions(self) -> list[Definition]:
        """Of the collections with our prefix and our property."""
        found = []
        for coded in self._ask(self._client.list_collections):
            if name_of(self._prefix, coded) is None:
                continue
            try:
                described = self._ask(self._client.describe_collection, coded)
            except CollectionNotFound:
                continue  # deleted since
            text = described.get("properties", {}).get(_PROPERTY)
            if text is not None:
                found.append(Definition(**json.loads(text)))
        return found

    def aliases(self) -> dict[str, str]:
        """Alias → name of its collection."""
        found = {}
        for definition in self.definitions():
            coded = self._coded(definition.name)
            try:
                listed = self._ask(self._client.list_aliases, coded)
            except CollectionNotFound:
                continue
            for alias in listed.get("aliases", []):
                name = name_of(self._prefix, alias)
                if name is not None:
                    found[name] = definition.name
        return found

    def create(self, definition: Definition) -> None:
        """Make a collection, its indexes, and load it."""
        if definition.dim > _MAX_DIM:
            raise InvalidCollection("dim", str(definition.dim), f"the limit of milvus is {_MAX_DIM}")
        coded = self._coded(definition.name)
        if self._ask(self._client.has_collection, coded):
            raise CollectionExists(f"collection {definition.name!r} exists already")
        indexes = self._client.prepare_index_params()
        indexes.add_index("vector", index_type=self._index_type, metric_type="COSINE")
        if not self._is_lite:  # which has no index of lists
            indexes.add_index("tokens", index_type="INVERTED")
        try:
            self._ask(
                self._client.create_collection,
                coded,
                schema=schema_of(definition.dim),
                index_params=indexes,
                properties={_PROPERTY: json.dumps(definition.as_dict())},
                consistency_level="Strong",
                tries=1,
            )
        except StoreError:
            self._ask(self._client.drop_collection, coded)  # made, but without its index
            raise

    def drop(self, name: str) -> None:
        """Delete a collection; Milvus wants its aliases gone first."""
        coded = self._coded(name)
        for alias in self._ask(self._client.list_aliases, coded).get("aliases", []):
            self._ask(self._client.drop_alias, alias, tries=1)
        self._ask(self._client.drop_collection, coded)

    def change_aliases(self, changes: Sequence[AliasChange]) -> None:
        """One after the other: Milvus cannot change several at once."""
        existing = self.aliases()
        for change in changes:
            coded = self._coded(change.alias, "alias")
            if isinstance(change, DeleteAlias):
                self._ask(self._client.drop_alias, coded, tries=1)
                existing.pop(change.alias, None)
                continue
            set_alias = self._client.alter_alias if change.alias in existing else self._client.create_alias
            self._ask(set_alias, self._coded(change.collection), coded, tries=1)
            existing[change.alias] = change.collection

    def write(self, name: str, rows: Sequence[NewRow]) -> None:
        """Insert or replace points."""
        data = [
            {
                "key": milvus_key(row.id),
                "vector": row.vector,
                "payload": row.payload,
                "seq": row.seq,
                "tokens": sorted(row.facets.tokens),
                "numbers": row.facets.numbers,
            }
            for row in rows
        ]
        self._ask(self._client.upsert, self._coded(name), data)

    def remove(self, name: str, ids: Sequence[PointId]) -> None:
        """Delete points."""
        self._ask(self._client.delete, self._coded(name), ids=list(map(milvus_key, ids)))

    def rows(self, name: str, ids: Sequence[PointId], parts: Parts) -> Iterable[Row]:
        """Points by id."""
        if not ids:
            return []
        found = self._ask(
            self._client.get, self._coded(name), ids=list(map(milvus_key, ids)), output_fields=_fields(parts)
        )
        return [_row(one["key"], one, parts) for one in found]

    def page(self, name: str, where: Expression, page: Page, parts: Parts) -> list[Row]:
        """The first points behind an id, by key."""
        conditions = [f'key > "{milvus_key(page.after)}"'] if page.after is not None else []
        conditions += [f"({milvus_filter(where)})"] if where != EVERYTHING else []
        found = self._ask(
            self._client.query,
            self._coded(name),
            filter=" and ".join(conditions),
            output_fields=_fields(parts),
            limit=page.limit,
            **_BY_KEY,
        )
        return [_row(one["key"], one, parts) for one in found]

    def count(self, name: str, where: Expression) -> int:
        """How many points there are."""
        found = self._ask(
            self._client.query,
            self._coded(name),
            filter=milvus_filter(where),
            output_fields=["count(*)"],
        )
        return int(found[0]["count(*)"])

    def search(
        self, name: str, queries: F32, where: Expression, limit: int, offset: int, parts: Parts
    ) -> list[list[tuple[Row, float]]]:
        """The nearest points of each query."""
        found = self._ask(
            self._client.search,
            self._coded(name),
            data=list(queries),
            filter=milvus_filter(where),
            limit=limit,
            output_fields=_fields(parts),
            search_params={"metric_type": "COSINE", "offset": offset},
        )
        return [
            [(_row(hit["key"], hit["entity"], parts), float(hit["distance"])) for hit in hits]
            for hits in found
        ]

    def close(self) -> None:
        """Close the connection."""
        self._client.close()

    def _coded(self, name: str, field: str = "name") -> str:
        return milvus_name(self._prefix, name, field)

    def _ask(self, work: Callable[..., Any], *given: Any, tries: int = 3, **named: Any) -> Any:
        what = str(given[0]) if given else ""

        def once() -> Any:
            try:
                return calling(lambda: work(*given, timeout=self._timeout_s, **named), what)
            except NotLoaded:  # Milvus was begun anew, or somebody released it
                calling(lambda: self._client.load_collection(what, timeout=self._timeout_s), what)
                raise

        return asked(once, tries)


def _fields(parts: Parts) -> list[str]:
    return ["key", "seq", *(["payload"] if parts.payload else []), *(["vector"] if parts.vector else [])]


def _row(key: str, found: Any, parts: Parts) -> Row:
    vector = np.array(found["vector"], np.float32) if parts.vector else None
    return Row(id_of_key(key), found["payload"] if parts.payload else "", int(found["seq"]), vector)
