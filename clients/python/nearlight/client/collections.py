"""Plans of collections."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, get_args

from nearlight.client import convert
from nearlight.client.errors import AlreadyExists, InvalidInput
from nearlight.client.index_values import IndexConfig, config_for_wire
from nearlight.client.methods import (
    CREATE_COLLECTION,
    CREATE_PAYLOAD_INDEX,
    DELETE_COLLECTION,
    DELETE_PAYLOAD_INDEX,
    GET_COLLECTION,
    LIST_ALIASES,
    LIST_COLLECTIONS,
    UPDATE_ALIASES,
    UPDATE_COLLECTION,
)
from nearlight.client.plan import Plan, ask
from nearlight.client.terms import Durability, durability_for_wire
from nearlight.client.values import CollectionInfo, PayloadKind
from nearlight.v1 import collection_pb2


def create_collection(
    name: str,
    *,
    model: str,
    space: tuple[str, int] | None,
    metadata: Mapping[str, Any] | None,
    index: IndexConfig | None,
    durability: Durability | None = None,
    exist_ok: bool,
    store_images: bool,
) -> Plan[CollectionInfo]:
    """Creates a collection for a model, for one's own space (space_id, dim), or for the default model."""
    if model and space:
        raise InvalidInput("a collection is for a model or for a space, not for both")
    request = collection_pb2.CreateCollectionRequest(
        name=convert.text_for_wire(name), store_images=store_images
    )
    if model:
        request.model = model
    if space:
        request.custom_space.space_id, request.custom_space.dim = space
    if metadata is not None:
        request.metadata_json = convert.json_for_wire(metadata, "metadata")
    if index is not None:
        request.index_config.CopyFrom(config_for_wire(index))
    request.durability = durability_for_wire(durability)
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


def update_collection(
    name: str, metadata: Mapping[str, Any] | None, durability: Durability | None
) -> Plan[CollectionInfo]:
    """Changes metadata or durability; what is None stays."""
    request = collection_pb2.UpdateCollectionRequest(
        name=convert.text_for_wire(name), durability=durability_for_wire(durability)
    )
    if metadata is not None:
        request.metadata_json = convert.json_for_wire(metadata, "metadata")
    return convert.collection_from_wire((yield from ask(UPDATE_COLLECTION(request))))


def delete_collection(name: str) -> Plan[int]:
    """Deletes a collection; returns how many points went with it."""
    request = collection_pb2.DeleteCollectionRequest(name=convert.text_for_wire(name))
    return int((yield from ask(DELETE_COLLECTION(request))).deleted)


def aliases() -> Plan[dict[str, str]]:
    """Lists the aliases, over all pages, each with its collection."""
    found: dict[str, str] = {}
    token = ""
    while True:
        page = yield from ask(LIST_ALIASES(collection_pb2.ListAliasesRequest(page_token=token)))
        found |= {one.alias: one.collection for one in page.aliases}
        token = page.next_page_token
        if not token:
            return found


def update_aliases(set: Mapping[str, str], delete: Sequence[str]) -> Plan[None]:
    """Removes aliases, then makes or moves others, in one step."""
    if isinstance(delete, str):
        raise InvalidInput(f"delete is one string, {delete!r:.60}; it must be a list of aliases")
    changes = [collection_pb2.AliasChange(delete=convert.text_for_wire(alias)) for alias in delete]
    for alias, name in set.items():
        wanted = collection_pb2.Alias(
            alias=convert.text_for_wire(alias), collection=convert.text_for_wire(name)
        )
        changes.append(collection_pb2.AliasChange(set=wanted))
    yield from ask(UPDATE_ALIASES(collection_pb2.UpdateAliasesRequest(changes=changes)))


def create_payload_index(name: str, key: str, kind: PayloadKind) -> Plan[CollectionInfo]:
    """Makes filters on a payload key fast."""
    if kind not in get_args(PayloadKind):
        raise InvalidInput(f"kind is {kind!r:.60}; it must be one of {', '.join(get_args(PayloadKind))}")
    request = collection_pb2.CreatePayloadIndexRequest(
        collection=convert.text_for_wire(name),
        key=convert.text_for_wire(key),
        type=f"PAYLOAD_TYPE_{kind}".upper(),
    )
    return convert.collection_from_wire((yield from ask(CREATE_PAYLOAD_INDEX(request))))


def delete_payload_index(name: str, key: str) -> Plan[CollectionInfo]:
    """Removes the index of a payload key."""
    request = collection_pb2.DeletePayloadIndexRequest(
        collection=convert.text_for_wire(name), key=convert.text_for_wire(key)
    )
    return convert.collection_from_wire((yield from ask(DELETE_PAYLOAD_INDEX(request))))
