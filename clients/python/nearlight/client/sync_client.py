"""The blocking client."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from types import TracebackType
from typing import Any, Self, Unpack

from nearlight.client import collections as collection_plans
from nearlight.client import embedding as embedding_plans
from nearlight.client import payloads as payload_plans
from nearlight.client import points as point_plans
from nearlight.client import queries as query_plans
from nearlight.client.address import DEFAULT_ADDRESS
from nearlight.client.classification import Classification, ClassifyOptions
from nearlight.client.index_values import IndexConfig
from nearlight.client.options import QueryOptions
from nearlight.client.point_blocks import BlockKind, PointBlock
from nearlight.client.stream_kinds import EmbedKind, UpsertKind
from nearlight.client.sync_calls import Caller
from nearlight.client.sync_upkeep import Upkeep
from nearlight.client.terms import ANY, Durability, UpsertTerms
from nearlight.client.transport import Connection
from nearlight.client.values import (
    CollectionInfo,
    EmbeddedInput,
    Embeddings,
    FilterLike,
    HitGroup,
    Image,
    ImageProfile,
    Input,
    ItemError,
    ModelInfo,
    Point,
    PointId,
    QueryResult,
    Record,
    UpsertAck,
    UpsertResult,
)


class Client(Upkeep):
    """A blocking client of a Nearlight server. Thread-safe; close it, or use it as a context manager.

    >>> with Client("127.0.0.1:50051") as client:
    ...     vectors = client.embed(["a dog", Path("dog.jpg")]).require()  # (2, D)

    Every method raises the errors of ``nearlight.client.errors``; ``timeout`` is seconds for each RPC, its
    retries included, and defaults to the connection's.
    """

    def __init__(self, connection: Connection | str = DEFAULT_ADDRESS) -> None:
        self.connection = Connection(connection) if isinstance(connection, str) else connection
        super().__init__(Caller(self.connection))

    def close(self) -> None:
        """Closes the channel; calls under way are cancelled."""
        self._caller.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    # ---- models, embedding, labels

    def models(self, *, timeout: float | None = None) -> list[ModelInfo]:
        """Returns the loaded models, ordered by name."""
        return self._caller.run(embedding_plans.models(self._caller.server), timeout)

    def model(self, name: str = "", *, timeout: float | None = None) -> ModelInfo:
        """Returns one model by name or alias; "" means the default model."""
        return self._caller.run(embedding_plans.model(name), timeout)

    def embed(
        self,
        inputs: Sequence[Input],
        *,
        model: str = "",
        dim: int = 0,
        image_profile: ImageProfile = "",
        timeout: float | None = None,
    ) -> Embeddings:
        """Embeds texts (str) and images (bytes or Path), in order; a bad input fails alone.

        dim: keeps the first numbers of each vector, for models that allow it; 0: all.
        image_profile: "exact", "fast" (large JPEGs are decoded smaller), or "": as the server is configured.
        """
        plan = embedding_plans.embed(self._caller.server, inputs, model, dim, image_profile)
        return self._caller.run(plan, timeout)

    def embed_stream(
        self,
        inputs: Iterable[Input],
        *,
        model: str = "",
        batch_size: int = 32,
        in_flight: int = 4,
        timeout: float | None = None,
    ) -> Iterator[EmbeddedInput]:
        """Yields a vector or an error for each input, in order, with bounded memory.

        Args:
            inputs: read as far ahead as ``batch_size * in_flight``.
            model: name or alias; "" means the default model.
            batch_size: most inputs of a message, >= 1; less where the server's limits ask for it.
            in_flight: most messages not yet answered, >= 1.
            timeout: seconds for each message.
        """
        return self._caller.stream(EmbedKind(model, batch_size), inputs, in_flight, timeout)

    def classify(self, images: Sequence[Image], **options: Unpack[ClassifyOptions]) -> list[Classification]:
        """Labels images (bytes or Path) with any words; see ClassifyOptions."""
        return self._caller.run(
            embedding_plans.classify(self._caller.server, images, **options), options.get("timeout")
        )

    # ---- collections

    def create_collection(
        self,
        name: str,
        *,
        model: str = "",
        space: tuple[str, int] | None = None,
        metadata: Mapping[str, Any] | None = None,
        index: IndexConfig | None = None,
        durability: Durability | None = None,
        exist_ok: bool = False,
        store_images: bool = False,
        timeout: float | None = None,
    ) -> CollectionInfo:
        """Creates a collection for a model, or for one's own space (space_id, dim), or for the default model.

        With ``exist_ok`` a collection of this name is returned as it is. With ``store_images`` it keeps the
        images and texts of its points, so that a change of model needs nothing else.
        """
        plan = collection_plans.create_collection(
            name,
            model=model,
            space=space,
            metadata=metadata,
            index=index,
            durability=durability,
            exist_ok=exist_ok,
            store_images=store_images,
        )
        return self._caller.run(plan, timeout)

    def collection(self, name: str, *, timeout: float | None = None) -> CollectionInfo:
        """Returns one collection by name or alias."""
        return self._caller.run(collection_plans.collection(name), timeout)

    def collections(self, *, timeout: float | None = None) -> list[CollectionInfo]:
        """Returns the collections, ordered by name."""
        return self._caller.run(collection_plans.collections(), timeout)

    def delete_collection(self, name: str, *, timeout: float | None = None) -> int:
        """Deletes a collection for good; returns how many points went with it."""
        return self._caller.run(collection_plans.delete_collection(name), timeout)

    # ---- points

    def upsert(
        self,
        collection: str,
        points: Sequence[Point],
        *,
        terms: UpsertTerms = ANY,
        timeout: float | None = None,
    ) -> UpsertResult:
        """Writes points; they are durable on return, but for those in ``errors``."""
        plan = point_plans.upsert(self._caller.server, collection, points, terms)
        return self._caller.run(plan, timeout)

    def upsert_stream(
        self,
        collection: str,
        points: Iterable[Point],
        *,
        batch_size: int = 32,
        in_flight: int = 4,
        terms: UpsertTerms = ANY,
        timeout: float | None = None,
    ) -> Iterator[UpsertAck]:
        """Writes points batch after batch; yields an acknowledgement for each batch, in order.

        A broken connection is made anew, what it left open is sent again. Arguments as in embed_stream.
        """
        kind = UpsertKind(collection, terms, batch_size)
        return self._caller.stream(kind, points, in_flight, timeout)

    def upsert_blocks(
        self,
        collection: str,
        blocks: PointBlock | Iterable[PointBlock],
        *,
        block_points: int = 1024,
        in_flight: int = 4,
        terms: UpsertTerms = ANY,
        timeout: float | None = None,
    ) -> Iterator[UpsertAck]:
        """As upsert_stream, of points that come with their vectors as columns: several times as fast.

        A block of any size is sent in parts of at most ``block_points``, each acknowledged by itself.
        """
        kind = BlockKind(collection, terms, block_points)
        given = [blocks] if isinstance(blocks, PointBlock) else blocks
        return self._caller.stream(kind, given, in_flight, timeout)

    def delete(
        self, collection: str, ids: Sequence[PointId] | FilterLike, *, timeout: float | None = None
    ) -> int:
        """Deletes points by id or by filter; returns how many there were."""
        return self._caller.run(point_plans.delete(self._caller.server, collection, ids), timeout)

    def set_payload(
        self,
        collection: str,
        points: Sequence[PointId] | FilterLike,
        payload: Mapping[str, Any],
        *,
        key: str = "",
        replace: bool = False,
        timeout: float | None = None,
    ) -> int:
        """Sets keys in the payload of points, by id or by filter; returns how many points changed.

        Args:
            collection: its name.
            points: ids that do not exist are no error.
            payload: keys and values; keys not given stay.
            key: the object in the payload to set them in, dots go deeper; "": the payload itself.
            replace: that object becomes ``payload``, nothing stays.
            timeout: seconds for each RPC.
        """
        plan = payload_plans.set_payload(self._caller.server, collection, points, payload, key, replace)
        return self._caller.run(plan, timeout)

    def delete_payload(
        self,
        collection: str,
        points: Sequence[PointId] | FilterLike,
        keys: Sequence[str] | None = None,
        *,
        timeout: float | None = None,
    ) -> int:
        """Removes keys (dots go into objects), by default all, from payloads; returns how many changed."""
        plan = payload_plans.delete_payload(self._caller.server, collection, points, keys)
        return self._caller.run(plan, timeout)

    def get(
        self,
        collection: str,
        ids: Sequence[PointId],
        *,
        with_payload: bool | Sequence[str] = True,
        with_vectors: bool = False,
        timeout: float | None = None,
    ) -> list[Record]:
        """Returns points in the order of their ids; those that do not exist are left out."""
        return self._caller.run(
            point_plans.get(self._caller.server, collection, ids, with_payload, with_vectors), timeout
        )

    def scroll(
        self,
        collection: str,
        *,
        page_size: int = 100,
        with_payload: bool | Sequence[str] = True,
        with_vectors: bool = False,
        filter: FilterLike | None = None,
        order_by: str | None = None,
        descending: bool = False,
        timeout: float | None = None,
    ) -> Iterator[Record]:
        """Yields every point, page after page: by id, or in the order of a payload key (dots go deeper)."""
        cursor = ""
        while True:
            plan = point_plans.scroll_page(
                collection, cursor, page_size, with_payload, with_vectors, filter, order_by, descending
            )
            records, cursor = self._caller.run(plan, timeout)
            yield from records
            if not cursor:
                return

    def count(
        self, collection: str, filter: FilterLike | None = None, *, timeout: float | None = None
    ) -> int:
        """Returns how many points there are, or how many pass the filter."""
        return self._caller.run(point_plans.count(collection, filter), timeout)

    def query(self, collection: str, **options: Unpack[QueryOptions]) -> QueryResult:
        """Returns the points nearest to a text, an image, a vector, a point or a mix; see QueryOptions."""
        return self._caller.run(query_plans.query(collection, **options), options.get("timeout"))

    def query_batch(
        self, collection: str, queries: Sequence[QueryOptions], *, timeout: float | None = None
    ) -> list[QueryResult | ItemError]:
        """Returns the result of each query, or why it failed; faster than one call for each."""
        plan = query_plans.query_batch(self._caller.server, collection, queries)
        return self._caller.run(plan, timeout)

    def query_groups(
        self, collection: str, group_by: str, *, group_size: int = 1, **options: Unpack[QueryOptions]
    ) -> list[HitGroup]:
        """Returns the best hits of each value of a payload key (dots go deeper); limit counts groups."""
        plan = query_plans.query_groups(collection, group_by, group_size, **options)
        return self._caller.run(plan, options.get("timeout"))
