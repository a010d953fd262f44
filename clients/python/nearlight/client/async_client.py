"""The asyncio client: the same methods as the blocking one, over the same plans."""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator, Iterable, Mapping, Sequence
from types import TracebackType
from typing import Any, Self, Unpack

from nearlight.client import collections as collection_plans
from nearlight.client import embedding as embedding_plans
from nearlight.client import payloads as payload_plans
from nearlight.client import points as point_plans
from nearlight.client import queries as query_plans
from nearlight.client.address import DEFAULT_ADDRESS
from nearlight.client.async_calls import AsyncCaller
from nearlight.client.async_upkeep import AsyncUpkeep
from nearlight.client.classification import Classification, ClassifyOptions
from nearlight.client.index_values import IndexConfig
from nearlight.client.options import QueryOptions
from nearlight.client.point_blocks import BlockKind, PointBlock
from nearlight.client.stream_kinds import EmbedKind, UpsertKind
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


class AsyncClient(AsyncUpkeep):
    """An asyncio client of a Nearlight server. Make it in the running loop; close it, or use ``async with``.

    >>> async with AsyncClient("127.0.0.1:50051") as client:
    ...     vectors = (await client.embed(["a dog", Path("dog.jpg")])).require()  # (2, D)

    Methods, arguments and errors are those of ``Client``; streams take asynchronous iterables too.
    """

    def __init__(self, connection: Connection | str = DEFAULT_ADDRESS) -> None:
        self.connection = Connection(connection) if isinstance(connection, str) else connection
        super().__init__(AsyncCaller(self.connection))

    async def close(self) -> None:
        """Closes the channel; calls under way are cancelled."""
        await self._caller.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    # ---- models, embedding, labels

    async def models(self, *, timeout: float | None = None) -> list[ModelInfo]:
        """Returns the loaded models, ordered by name."""
        return await self._caller.run(embedding_plans.models(self._caller.server), timeout)

    async def model(self, name: str = "", *, timeout: float | None = None) -> ModelInfo:
        """Returns one model by name or alias; "" means the default model."""
        return await self._caller.run(embedding_plans.model(name), timeout)

    async def embed(
        self,
        inputs: Sequence[Input],
        *,
        model: str = "",
        dim: int = 0,
        image_profile: ImageProfile = "",
        timeout: float | None = None,
    ) -> Embeddings:
        """Embeds texts (str) and images (bytes or Path), in order; arguments as of ``Client.embed``."""
        plan = embedding_plans.embed(self._caller.server, inputs, model, dim, image_profile)
        return await self._caller.run(plan, timeout)

    def embed_stream(
        self,
        inputs: Iterable[Input] | AsyncIterable[Input],
        *,
        model: str = "",
        batch_size: int = 32,
        in_flight: int = 4,
        timeout: float | None = None,
    ) -> AsyncIterator[EmbeddedInput]:
        """Yields a vector or an error for each input, in order; arguments as of ``Client.embed_stream``."""
        return self._caller.stream(EmbedKind(model, batch_size), inputs, in_flight, timeout)

    async def classify(
        self, images: Sequence[Image], **options: Unpack[ClassifyOptions]
    ) -> list[Classification]:
        """Labels images (bytes or Path) with any words; see ClassifyOptions."""
        return await self._caller.run(
            embedding_plans.classify(self._caller.server, images, **options), options.get("timeout")
        )

    # ---- collections

    async def create_collection(
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
        return await self._caller.run(plan, timeout)

    async def collection(self, name: str, *, timeout: float | None = None) -> CollectionInfo:
        """Returns one collection by name or alias."""
        return await self._caller.run(collection_plans.collection(name), timeout)

    async def collections(self, *, timeout: float | None = None) -> list[CollectionInfo]:
        """Returns the collections, ordered by name."""
        return await self._caller.run(collection_plans.collections(), timeout)

    async def delete_collection(self, name: str, *, timeout: float | None = None) -> int:
        """Deletes a collection for good; returns how many points went with it."""
        return await self._caller.run(collection_plans.delete_collection(name), timeout)

    # ---- points

    async def upsert(
        self,
        collection: str,
        points: Sequence[Point],
        *,
        terms: UpsertTerms = ANY,
        timeout: float | None = None,
    ) -> UpsertResult:
        """Writes points; they are durable on return, but for those in ``errors``."""
        plan = point_plans.upsert(self._caller.server, collection, points, terms)
        return await self._caller.run(plan, timeout)

    def upsert_stream(
        self,
        collection: str,
        points: Iterable[Point] | AsyncIterable[Point],
        *,
        batch_size: int = 32,
        in_flight: int = 4,
        terms: UpsertTerms = ANY,
        timeout: float | None = None,
    ) -> AsyncIterator[UpsertAck]:
        """Writes points batch after batch; yields an acknowledgement for each batch, in order.

        A broken connection is made anew, what it left open is sent again. Arguments as in embed_stream.
        """
        kind = UpsertKind(collection, terms, batch_size)
        return self._caller.stream(kind, points, in_flight, timeout)

    def upsert_blocks(
        self,
        collection: str,
        blocks: PointBlock | Iterable[PointBlock] | AsyncIterable[PointBlock],
        *,
        block_points: int = 1024,
        in_flight: int = 4,
        terms: UpsertTerms = ANY,
        timeout: float | None = None,
    ) -> AsyncIterator[UpsertAck]:
        """As upsert_stream, of points that come with their vectors as columns: several times as fast.

        A block of any size is sent in parts of at most ``block_points``, each acknowledged by itself.
        """
        kind = BlockKind(collection, terms, block_points)
        given = [blocks] if isinstance(blocks, PointBlock) else blocks
        return self._caller.stream(kind, given, in_flight, timeout)

    async def delete(
        self, collection: str, ids: Sequence[PointId] | FilterLike, *, timeout: float | None = None
    ) -> int:
        """Deletes points by id or by filter; returns how many there were."""
        return await self._caller.run(point_plans.delete(self._caller.server, collection, ids), timeout)

    async def set_payload(
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
        return await self._caller.run(plan, timeout)

    async def delete_payload(
        self,
        collection: str,
        points: Sequence[PointId] | FilterLike,
        keys: Sequence[str] | None = None,
        *,
        timeout: float | None = None,
    ) -> int:
        """Removes keys (dots go into objects), by default all, from payloads; returns how many changed."""
        plan = payload_plans.delete_payload(self._caller.server, collection, points, keys)
        return await self._caller.run(plan, timeout)

    async def get(
        self,
        collection: str,
        ids: Sequence[PointId],
        *,
        with_payload: bool | Sequence[str] = True,
        with_vectors: bool = False,
        timeout: float | None = None,
    ) -> list[Record]:
        """Returns points in the order of their ids; those that do not exist are left out."""
        return await self._caller.run(
            point_plans.get(self._caller.server, collection, ids, with_payload, with_vectors), timeout
        )

    async def scroll(
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
    ) -> AsyncIterator[Record]:
        """Yields every point, page after page: by id, or in the order of a payload key (dots go deeper)."""
        cursor = ""
        while True:
            plan = point_plans.scroll_page(
                collection, cursor, page_size, with_payload, with_vectors, filter, order_by, descending
            )
            records, cursor = await self._caller.run(plan, timeout)
            for record in records:
                yield record
            if not cursor:
                return

    async def count(
        self, collection: str, filter: FilterLike | None = None, *, timeout: float | None = None
    ) -> int:
        """Returns how many points there are, or how many pass the filter."""
        return await self._caller.run(point_plans.count(collection, filter), timeout)

    async def query(self, collection: str, **options: Unpack[QueryOptions]) -> QueryResult:
        """Returns the points nearest to a text, an image, a vector, a point or a mix; see QueryOptions."""
        return await self._caller.run(query_plans.query(collection, **options), options.get("timeout"))

    async def query_batch(
        self, collection: str, queries: Sequence[QueryOptions], *, timeout: float | None = None
    ) -> list[QueryResult | ItemError]:
        """Returns the result of each query, or why it failed; faster than one call for each."""
        plan = query_plans.query_batch(self._caller.server, collection, queries)
        return await self._caller.run(plan, timeout)

    async def query_groups(
        self, collection: str, group_by: str, *, group_size: int = 1, **options: Unpack[QueryOptions]
    ) -> list[HitGroup]:
        """Returns the best hits of each value of a payload key (dots go deeper); limit counts groups."""
        plan = query_plans.query_groups(collection, group_by, group_size, **options)
        return await self._caller.run(plan, options.get("timeout"))
