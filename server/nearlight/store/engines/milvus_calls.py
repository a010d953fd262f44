"""What Milvus keeps of a point, and what its errors mean."""

import logging
from collections.abc import Callable
from typing import Any, TypeVar

from pymilvus import DataType, MilvusClient, MilvusException
from pymilvus.exceptions import ErrorCode

from nearlight.store.engines.milvus_names import MAX_KEY_CHARS
from nearlight.store.errors import CollectionNotFound, EngineFailed, EngineUnavailable

T = TypeVar("T")
MAX_PAYLOAD_BYTES = 65_535  # of a VARCHAR
MAX_TOKENS = 4096  # of an ARRAY
_NOT_LOADED = 101
_UNREACHABLE_WORDS = ("UNAVAILABLE", "DEADLINE_EXCEEDED", "Retry timeout", "Fail connecting", "not ready")

logging.getLogger("pymilvus").setLevel(logging.CRITICAL)  # it logs with a traceback what it raises


class NotLoaded(EngineUnavailable):
    """A collection must be loaded before it can be read."""


def schema_of(dim: int) -> Any:
    """The fields of a point with a vector of so many dimensions."""
    schema = MilvusClient.create_schema(auto_id=False, enable_dynamic_field=False)
    schema.add_field("key", DataType.VARCHAR, is_primary=True, max_length=MAX_KEY_CHARS)
    schema.add_field("vector", DataType.FLOAT_VECTOR, dim=dim)
    schema.add_field("payload", DataType.VARCHAR, max_length=MAX_PAYLOAD_BYTES)
    schema.add_field("seq", DataType.INT64)
    texts = {"element_type": DataType.VARCHAR, "max_capacity": MAX_TOKENS, "max_length": 16}
    schema.add_field("tokens", DataType.ARRAY, **texts)
    schema.add_field("numbers", DataType.JSON)
    return schema


def calling(work: Callable[[], T], what: str) -> T:
    """Does work; what Milvus raises becomes an error of the store's tree."""
    try:
        return work()
    except MilvusException as error:
        message = str(error.message or error)
        if error.code == ErrorCode.COLLECTION_NOT_FOUND:
            raise CollectionNotFound(f"milvus has no collection {what!r}: {message}") from error
        if error.code == _NOT_LOADED or "not loaded" in message:
            raise NotLoaded(f"milvus has not loaded collection {what!r}") from error
        if error.code == ErrorCode.RATE_LIMIT or any(word in message for word in _UNREACHABLE_WORDS):
            raise EngineUnavailable(f"milvus does not answer: {message[:200]}") from error
        raise EngineFailed(f"milvus failed: {message[:500]}") from error
    except (ConnectionError, TimeoutError) as error:
        raise EngineUnavailable(f"milvus does not answer: {error}") from error
