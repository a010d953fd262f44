"""Plans of collections."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from nearlight.client import convert
from nearlight.client.errors import AlreadyExists, InvalidInput
from nearlight.client.methods import (
    CREATE_COLLECTION,
    DELETE_COLLECTION,
    GET_COLLECTION,
    LIST_COLLECTIONS,
)
from nearlight.client.plan import Plan, ask
from nearlight.client.values import CollectionInfo
from nearlight.v1 import collection_pb2


def create_collection(
    name: str,
    *,
    model: str,
    space: tuple[str, int] | None,
    metadata: Mapping[str, Any] | None,
    exist_ok: bool,
) -> Plan[CollectionInfo]:
    """Creates a collection for a model, for one's own space (space_id, dim), or for the default model."""
    if model and space:
        raise InvalidInput("a collection is for a model or for a space, not for both")
    request = collection_pb2.CreateCollectionRequest(name=convert.text_for_wire(name))
    if model:
        request.model = model
    if space:
        request.custom_space.space_id, request.custom_space.dim = space
    if metadata is not None:
        request.metadata_json = convert.json_for_wire(metadata, "metadata")
    try:
        return convert.collection_from_wire((yield from ask(CREATE_COLLECTION(request))))
    except AlreadyExists:
        if not exist_ok:
            raise
        return (yield from collection(name))


def collection(name: str) -> Plan[CollectionInfo]:
    """Gets one collection by name or alias."""
    request = collection_pb2.GetCollectionRequest(name=convert.text_for_wire(name))
    return convert.collection_from_wire((yield from ask(GET_COLLECTION(request))))


def collections() -> Plan[list[CollectionInfo]]:
    """Lists the collections, over all pages."""
    found: list[CollectionInfo] = []
    token = ""
    while True:
        request = collection_pb2.ListCollectionsRequest(page_token=token)
        page = yield from ask(LIST_COLLECTIONS(request))
        found += [convert.collection_from_wire(one) for one in page.collections]
        token = page.next_page_token
        if not token:
            return found


def delete_collection(name: str) -> Plan[int]:
    """Deletes a collection; returns how many points went with it."""
    request = collection_pb2.DeleteCollectionRequest(name=convert.text_for_wire(name))
    return int((yield from ask(DELETE_COLLECTION(request))).deleted)
