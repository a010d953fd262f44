"""Collections: from the wire and back."""

import json
import re
from typing import Any

from nearlight.server.convert.indexes import index_config_message, index_state_message, state_number
from nearlight.server.convert.points import key_of_path
from nearlight.server.convert.terms import durability_message
from nearlight.server.convert.values import check_count, json_bytes
from nearlight.server.errors import InvalidInput
from nearlight.server.models import Models
from nearlight.store import AliasChange, CollectionInfo, DeleteAlias, PayloadKind, SetAlias
from nearlight.v1 import collection_pb2

MAX_METADATA_BYTES = 64 * 1024
MAX_SPACE_ID_BYTES = 512
MAX_DIM = 65_536
MAX_NAME_CHARS = 128

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}")

MAX_ALIAS_CHANGES = 1000

_PAYLOAD_KINDS: dict[collection_pb2.PayloadType, PayloadKind] = {
    collection_pb2.PAYLOAD_TYPE_KEYWORD: "keyword",
    collection_pb2.PAYLOAD_TYPE_INTEGER: "integer",
    collection_pb2.PAYLOAD_TYPE_NUMBER: "number",
    collection_pb2.PAYLOAD_TYPE_BOOL: "bool",
    collection_pb2.PAYLOAD_TYPE_DATETIME: "datetime",
    collection_pb2.PAYLOAD_TYPE_GEO: "geo",
}
_PAYLOAD_TYPES = {kind: number for number, kind in _PAYLOAD_KINDS.items()}


def check_name(name: str, field: str = "name") -> None:
    """Check the name of a collection or an alias to make.

    Raises:
        InvalidInput: not 1 to 128 of A-Z a-z 0-9 . _ -, or begins with . or -.
    """
    if not _NAME.fullmatch(name):
        shown = f"{len(name)} characters long" if len(name) > MAX_NAME_CHARS else repr(name)
        reason = (
            f"{field} is {shown}; the limit is 1 to {MAX_NAME_CHARS} of A-Z a-z 0-9 . _ -, not . or - first"
        )
        raise InvalidInput(reason, field=field)


def space_of(request: collection_pb2.CreateCollectionRequest, models: Models) -> tuple[str, int]:
    """The space_id and dim of a collection to make.

    Raises:
        InvalidInput: a custom space without a name, or with a dim out of range.
        NotFound: the model is not loaded.
    """
    if request.WhichOneof("space") != "custom_space":
        model = models.get(request.model)
        return model.space_id, model.manifest.dim
    space = request.custom_space
    n_bytes = len(space.space_id.encode())
    if not 1 <= n_bytes <= MAX_SPACE_ID_BYTES:
        reason = f"custom_space.space_id has {n_bytes} bytes; the limit is 1 to {MAX_SPACE_ID_BYTES}"
        raise InvalidInput(reason, field="custom_space.space_id")
    if not 1 <= space.dim <= MAX_DIM:
        reason = f"custom_space.dim is {space.dim}; the limit is 1 to {MAX_DIM}"
        raise InvalidInput(reason, field="custom_space.dim")
    return space.space_id, space.dim


def metadata_of(data: bytes) -> dict[str, Any]:
    """The caller's own object.

    Raises:
        InvalidInput: too large, or not a JSON object.
    """
    field = "metadata_json"
    if len(data) > MAX_METADATA_BYTES:
        raise InvalidInput(f"{field} has {len(data)} bytes; the limit is {MAX_METADATA_BYTES}", field=field)
    try:
        metadata = json.loads(data) if data else {}
    except (ValueError, RecursionError) as error:
        raise InvalidInput(f"{field} is not JSON: {error}", field=field) from None
    if not isinstance(metadata, dict):
        raise InvalidInput(f"{field} is a JSON {type(metadata).__name__}; it must be an object", field=field)
    return metadata


def alias_changes(request: collection_pb2.UpdateAliasesRequest) -> list[AliasChange]:
    """What an UpdateAliases asks, checked.

    Raises:
        InvalidInput: none or too many changes, an empty one, or a bad name.
    """
    check_count(len(request.changes), MAX_ALIAS_CHANGES, "changes")
    changes: list[AliasChange] = []
    for i, change in enumerate(request.changes):
        which = change.WhichOneof("change")
        if which is None:
            field = f"changes[{i}]"
            raise InvalidInput(f"{field} is empty; it must hold exactly one of set, delete", field=field)
        if which == "delete":
            changes.append(DeleteAlias(change.delete))
        else:
            check_name(change.set.alias, f"changes[{i}].set.alias")
            changes.append(SetAlias(change.set.alias, change.set.collection))
    return changes


def payload_kind_of(payload_type: collection_pb2.PayloadType) -> PayloadKind:
    """The kind of a payload index to make.

    Raises:
        InvalidInput: none, or an unknown one.
    """
    if payload_type not in _PAYLOAD_KINDS:
        names = ", ".join(collection_pb2.PayloadType.Name(number) for number in _PAYLOAD_KINDS)
        raise InvalidInput(f"type is {payload_type}; it must be one of {names}", field="type")
    return _PAYLOAD_KINDS[payload_type]


def _state(info: CollectionInfo) -> collection_pb2.CollectionState:
    if info.other_space_id:
        return collection_pb2.COLLECTION_STATE_UPGRADING
    return state_number(info.index)


def collection_message(info: CollectionInfo, models: Models) -> collection_pb2.CollectionInfo:
    """A collection on the wire."""
    model = models.of_space(info.space_id)
    return collection_pb2.CollectionInfo(
        name=info.name,
        space_id=info.space_id,
        dim=info.dim,
        count=info.count,
        last_seq=info.last_seq,
        created_unix_ms=info.created_unix_ms,
        metadata_json=json_bytes(info.metadata),
        model=model.name if model else "",
        state=_state(info),
        durability=durability_message(info.durability),
        index_config=index_config_message(info.index_settings),
        index=index_state_message(info.index),
        payload_indexes=[
            collection_pb2.PayloadIndex(
                key=key_of_path(index.path),
                type=_PAYLOAD_TYPES[index.kind],
                created_unix_ms=index.created_unix_ms,
            )
            for index in info.payload_indexes
        ],
        aliases=info.aliases,
        store_images=info.keeps_originals,
    )
