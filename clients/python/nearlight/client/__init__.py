"""Python client for a Nearlight server, and the `nearlight` command.

The names below are imported when they are first used: `nearlight --help` lives in this package too and has no
use for gRPC and numpy, which take most of a second to load.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from nearlight.client.async_client import AsyncClient as AsyncClient
    from nearlight.client.classification import Classification as Classification
    from nearlight.client.classification import ScoredLabel as ScoredLabel
    from nearlight.client.errors import AlreadyExists as AlreadyExists
    from nearlight.client.errors import Cancelled as Cancelled
    from nearlight.client.errors import Forbidden as Forbidden
    from nearlight.client.errors import InvalidInput as InvalidInput
    from nearlight.client.errors import ItemsFailed as ItemsFailed
    from nearlight.client.errors import MessageTooLarge as MessageTooLarge
    from nearlight.client.errors import NearlightError as NearlightError
    from nearlight.client.errors import NotFound as NotFound
    from nearlight.client.errors import NotReady as NotReady
    from nearlight.client.errors import Overloaded as Overloaded
    from nearlight.client.errors import ServerFailure as ServerFailure
    from nearlight.client.errors import TooLate as TooLate
    from nearlight.client.errors import TransferFailed as TransferFailed
    from nearlight.client.errors import Unauthenticated as Unauthenticated
    from nearlight.client.errors import Unsupported as Unsupported
    from nearlight.client.errors import WrongSpace as WrongSpace
    from nearlight.client.index_values import IndexConfig as IndexConfig
    from nearlight.client.index_values import IndexState as IndexState
    from nearlight.client.index_values import Recall as Recall
    from nearlight.client.index_values import SearchInfo as SearchInfo
    from nearlight.client.label_sets import Calibration as Calibration
    from nearlight.client.label_sets import LabelSet as LabelSet
    from nearlight.client.options import Example as Example
    from nearlight.client.point_blocks import PointBlock as PointBlock
    from nearlight.client.relevance import CollectionCalibration as CollectionCalibration
    from nearlight.client.retry import RetryPolicy as RetryPolicy
    from nearlight.client.sync_client import Client as Client
    from nearlight.client.terms import UpsertTerms as UpsertTerms
    from nearlight.client.transport import Connection as Connection
    from nearlight.client.transport import Tls as Tls
    from nearlight.client.values import CollectionInfo as CollectionInfo
    from nearlight.client.values import EmbeddedInput as EmbeddedInput
    from nearlight.client.values import Embeddings as Embeddings
    from nearlight.client.values import Hit as Hit
    from nearlight.client.values import HitGroup as HitGroup
    from nearlight.client.values import ItemError as ItemError
    from nearlight.client.values import Limits as Limits
    from nearlight.client.values import ModelInfo as ModelInfo
    from nearlight.client.values import Point as Point
    from nearlight.client.values import QueryResult as QueryResult
    from nearlight.client.values import Record as Record
    from nearlight.client.values import UpsertAck as UpsertAck
    from nearlight.client.values import UpsertResult as UpsertResult

_HOMES = {
    "AlreadyExists": "errors",
    "AsyncClient": "async_client",
    "Calibration": "label_sets",
    "Cancelled": "errors",
    "Classification": "classification",
    "Client": "sync_client",
    "CollectionCalibration": "relevance",
    "CollectionInfo": "values",
    "Connection": "transport",
    "EmbeddedInput": "values",
    "Embeddings": "values",
    "Example": "options",
    "Forbidden": "errors",
    "Hit": "values",
    "HitGroup": "values",
    "InvalidInput": "errors",
    "ItemError": "values",
    "ItemsFailed": "errors",
    "LabelSet": "label_sets",
    "Limits": "values",
    "MessageTooLarge": "errors",
    "ModelInfo": "values",
    "NearlightError": "errors",
    "NotFound": "errors",
    "NotReady": "errors",
    "Overloaded": "errors",
    "Point": "values",
    "PointBlock": "point_blocks",
    "QueryResult": "values",
    "Record": "values",
    "RetryPolicy": "retry",
    "ScoredLabel": "classification",
    "SearchInfo": "index_values",
    "IndexConfig": "index_values",
    "IndexState": "index_values",
    "Recall": "index_values",
    "ServerFailure": "errors",
    "Tls": "transport",
    "TooLate": "errors",
    "TransferFailed": "errors",
    "Unauthenticated": "errors",
    "Unsupported": "errors",
    "UpsertAck": "values",
    "UpsertResult": "values",
    "UpsertTerms": "terms",
    "WrongSpace": "errors",
}

__all__ = sorted(_HOMES)


if not TYPE_CHECKING:  # where mypy sees it, it would take any misspelt name for good

    def __getattr__(name: str) -> object:
        """Imports a name from its module, once."""
        if name not in _HOMES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        value = getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
        globals()[name] = value
        return value


def __dir__() -> list[str]:
    return [*globals(), *_HOMES]
