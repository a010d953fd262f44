"""nearlight.v1.CollectionService."""

from typing import Any

import grpc

from nearlight.server.catalog import Catalog
from nearlight.server.convert.collections import (
    alias_changes,
    check_name,
    collection_message,
    metadata_of,
    payload_kind_of,
    space_of,
)
from nearlight.server.convert.indexes import index_settings_of
from nearlight.server.convert.points import path_of
from nearlight.server.convert.terms import durability_of
from nearlight.server.convert.values import page_after, page_size_of
from nearlight.v1 import collection_pb2, collection_pb2_grpc

Context = grpc.aio.ServicerContext[Any, Any]


class CollectionService(collection_pb2_grpc.CollectionServiceServicer):
    """Collections: points of one space under one name."""

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog

    async def CreateCollection(
        self, request: collection_pb2.CreateCollectionRequest, context: Context
    ) -> collection_pb2.CollectionInfo:
        """Make an empty collection, bound to a space for good."""
        check_name(request.name)
        space_id, dim = space_of(request, self._catalog.models)
        metadata, durability = metadata_of(request.metadata_json), durability_of(request.durability)
        index = index_settings_of(request.index_config)
        collection = await self._catalog.run(
            lambda: self._catalog.store.create_collection(
                request.name,
                space_id=space_id,
                dim=dim,
                metadata=metadata,
                index=index,
                durability=durability or "full",
                keeps_originals=request.store_images,
            )
        )
        return collection_message(collection.info, self._catalog.models)

    async def GetCollection(
        self, request: collection_pb2.GetCollectionRequest, context: Context
    ) -> collection_pb2.CollectionInfo:
        """One collection by name or alias."""
        return collection_message(await self._catalog.info(request.name, "name"), self._catalog.models)

    async def ListCollections(
        self, request: collection_pb2.ListCollectionsRequest, context: Context
    ) -> collection_pb2.ListCollectionsResponse:
        """Page through the collections."""
        size = page_size_of(request.page_size, default=100, largest=1000, field="page_size")
        infos = {info.name: info for info in await self._catalog.run(self._catalog.store.collections)}
        page, token = page_after(sorted(infos), request.page_token, size)
        return collection_pb2.ListCollectionsResponse(
            collections=[collection_message(infos[name], self._catalog.models) for name in page],
            next_page_token=token,
        )

    async def DeleteCollection(
        self, request: collection_pb2.DeleteCollectionRequest, context: Context
    ) -> collection_pb2.DeleteCollectionResponse:
        """Delete a collection, its points and its aliases."""
        count = (await self._catalog.info(request.name, "name")).count
        await self._catalog.run(lambda: self._catalog.store.delete_collection(request.name))
        return collection_pb2.DeleteCollectionResponse(deleted=count)

    async def UpdateCollection(
        self, request: collection_pb2.UpdateCollectionRequest, context: Context
    ) -> collection_pb2.CollectionInfo:
        """Change metadata, durability or index."""
        collection = self._catalog.collection(request.name, "name")
        metadata = metadata_of(request.metadata_json) if request.HasField("metadata_json") else None
        durability = durability_of(request.durability)
        index = index_settings_of(request.index_config) if request.HasField("index_config") else None
        await self._catalog.run(
            lambda: collection.update(metadata=metadata, durability=durability, index=index)
        )
        return collection_message(collection.info, self._catalog.models)

    async def UpdateAliases(
        self, request: collection_pb2.UpdateAliasesRequest, context: Context
    ) -> collection_pb2.UpdateAliasesResponse:
        """Make, move and remove aliases: all in one step, or none."""
        changes = alias_changes(request)
        await self._catalog.run(lambda: self._catalog.store.update_aliases(changes))
        return collection_pb2.UpdateAliasesResponse()

    async def ListAliases(
        self, request: collection_pb2.ListAliasesRequest, context: Context
    ) -> collection_pb2.ListAliasesResponse:
        """Page through the aliases, of all collections or of one."""
        size = page_size_of(request.page_size, default=100, largest=1000, field="page_size")
        aliases = self._catalog.store.aliases()
        if request.collection:
            name = self._catalog.collection(request.collection).info.name
            aliases = {alias: collection for alias, collection in aliases.items() if collection == name}
        page, token = page_after(list(aliases), request.page_token, size)
        return collection_pb2.ListAliasesResponse(
            aliases=[collection_pb2.Alias(alias=alias, collection=aliases[alias]) for alias in page],
            next_page_token=token,
        )

    async def CreatePayloadIndex(
        self, request: collection_pb2.CreatePayloadIndexRequest, context: Context
    ) -> collection_pb2.CollectionInfo:
        """Make filters on a payload key fast."""
        collection = self._catalog.collection(request.collection)
        path, kind = path_of(request.key, "key"), payload_kind_of(request.type)
        await self._catalog.run(lambda: collection.create_payload_index(path, kind))
        return collection_message(collection.info, self._catalog.models)

    async def DeletePayloadIndex(
        self, request: collection_pb2.DeletePayloadIndexRequest, context: Context
    ) -> collection_pb2.CollectionInfo:
        """Remove the index of a payload key."""
        collection = self._catalog.collection(request.collection)
        path = path_of(request.key, "key")
        await self._catalog.run(lambda: collection.delete_payload_index(path))
        return collection_message(collection.info, self._catalog.models)
