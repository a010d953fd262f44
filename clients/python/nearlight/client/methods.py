"""The RPCs the client uses, each with its path and its reply's type."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Generic, TypeVar

from google.protobuf.message import Message

from nearlight.v1 import collection_pb2, embedding_pb2, maintenance_pb2, model_pb2, point_pb2, query_pb2

Request = TypeVar("Request", bound=Message)
Reply = TypeVar("Reply", bound=Message)


@dataclass(frozen=True, slots=True)
class Method(Generic[Request, Reply]):
    """An RPC.

    Attributes:
        path: "/package.Service/Method".
        request: its type.
        reply: its type.
        repeatable: done twice it is the same as done once, so a call whose fate is unknown may be sent again.
    """

    path: str
    request: type[Request]
    reply: type[Reply]
    repeatable: bool = True

    def __call__(self, request: Request) -> Call[Reply]:
        """Returns the call of this RPC with a request, not yet made."""
        return Call(self, request)


@dataclass(frozen=True, slots=True)
class Call(Generic[Reply]):
    """A request on its way to an RPC."""

    method: Method[Any, Reply]
    request: Message


_E, _M = "/nearlight.v1.EmbeddingService/", "/nearlight.v1.ModelService/"
_C, _P = "/nearlight.v1.CollectionService/", "/nearlight.v1.PointService/"
_K = "/nearlight.v1.MaintenanceService/"

EMBED = Method(_E + "Embed", embedding_pb2.EmbedRequest, embedding_pb2.EmbedResponse)
EMBED_STREAM = Method(_E + "EmbedStream", embedding_pb2.EmbedStreamRequest, embedding_pb2.EmbedStreamResponse)
CLASSIFY = Method(_E + "Classify", embedding_pb2.ClassifyRequest, embedding_pb2.ClassifyResponse)
PUT_LABEL_SET = Method(_E + "PutLabelSet", embedding_pb2.PutLabelSetRequest, embedding_pb2.LabelSet)
PUT_NEW_LABEL_SET = replace(PUT_LABEL_SET, repeatable=False)  # only_if_absent
GET_LABEL_SET = Method(_E + "GetLabelSet", embedding_pb2.GetLabelSetRequest, embedding_pb2.LabelSet)
LIST_LABEL_SETS = Method(
    _E + "ListLabelSets", embedding_pb2.ListLabelSetsRequest, embedding_pb2.ListLabelSetsResponse
)
DELETE_LABEL_SET = Method(
    _E + "DeleteLabelSet",
    embedding_pb2.DeleteLabelSetRequest,
    embedding_pb2.DeleteLabelSetResponse,
    repeatable=False,
)

LIST_MODELS = Method(_M + "ListModels", model_pb2.ListModelsRequest, model_pb2.ListModelsResponse)
GET_MODEL = Method(_M + "GetModel", model_pb2.GetModelRequest, model_pb2.ModelInfo)
LOAD_MODEL = Method(_M + "LoadModel", model_pb2.LoadModelRequest, model_pb2.ModelInfo, repeatable=False)
UNLOAD_MODEL = Method(
    _M + "UnloadModel", model_pb2.UnloadModelRequest, model_pb2.UnloadModelResponse, repeatable=False
)
UPDATE_MODEL_ALIASES = Method(
    _M + "UpdateModelAliases",
    model_pb2.UpdateModelAliasesRequest,
    model_pb2.UpdateModelAliasesResponse,
    repeatable=False,
)

CREATE_COLLECTION = Method(
    _C + "CreateCollection",
    collection_pb2.CreateCollectionRequest,
    collection_pb2.CollectionInfo,
    repeatable=False,
)
GET_COLLECTION = Method(
    _C + "GetCollection", collection_pb2.GetCollectionRequest, collection_pb2.CollectionInfo
)
LIST_COLLECTIONS = Method(
    _C + "ListCollections", collection_pb2.ListCollectionsRequest, collection_pb2.ListCollectionsResponse
)
DELETE_COLLECTION = Method(
    _C + "DeleteCollection",
    collection_pb2.DeleteCollectionRequest,
    collection_pb2.DeleteCollectionResponse,
    repeatable=False,
)
UPDATE_COLLECTION = Method(
    _C + "UpdateCollection", collection_pb2.UpdateCollectionRequest, collection_pb2.CollectionInfo
)
UPDATE_ALIASES = Method(
    _C + "UpdateAliases",
    collection_pb2.UpdateAliasesRequest,
    collection_pb2.UpdateAliasesResponse,
    repeatable=False,
)
LIST_ALIASES = Method(
    _C + "ListAliases", collection_pb2.ListAliasesRequest, collection_pb2.ListAliasesResponse
)
CREATE_PAYLOAD_INDEX = Method(
    _C + "CreatePayloadIndex", collection_pb2.CreatePayloadIndexRequest, collection_pb2.CollectionInfo
)
DELETE_PAYLOAD_INDEX = Method(
    _C + "DeletePayloadIndex",
    collection_pb2.DeletePayloadIndexRequest,
    collection_pb2.CollectionInfo,
    repeatable=False,
)

UPSERT = Method(_P + "Upsert", point_pb2.UpsertRequest, point_pb2.UpsertResponse)
INSERT = replace(UPSERT, repeatable=False)  # said twice it refuses what it has just written
UPSERT_STREAM = Method(_P + "UpsertStream", point_pb2.UpsertStreamRequest, point_pb2.UpsertStreamResponse)
DELETE = Method(_P + "Delete", point_pb2.DeleteRequest, point_pb2.DeleteResponse)
SET_PAYLOAD = Method(_P + "SetPayload", point_pb2.SetPayloadRequest, point_pb2.PayloadResponse)
DELETE_PAYLOAD = Method(_P + "DeletePayload", point_pb2.DeletePayloadRequest, point_pb2.PayloadResponse)
GET = Method(_P + "Get", point_pb2.GetRequest, point_pb2.GetResponse)
SCROLL = Method(_P + "Scroll", point_pb2.ScrollRequest, point_pb2.ScrollResponse)
COUNT = Method(_P + "Count", point_pb2.CountRequest, point_pb2.CountResponse)
QUERY = Method(_P + "Query", query_pb2.QueryRequest, query_pb2.QueryResponse)
QUERY_BATCH = Method(_P + "QueryBatch", query_pb2.QueryBatchRequest, query_pb2.QueryBatchResponse)
QUERY_GROUPS = Method(_P + "QueryGroups", query_pb2.QueryGroupsRequest, query_pb2.QueryGroupsResponse)
FIND_DUPLICATES = Method(
    _P + "FindDuplicates", point_pb2.FindDuplicatesRequest, point_pb2.FindDuplicatesResponse
)

VERIFY = Method(_K + "Verify", maintenance_pb2.VerifyRequest, maintenance_pb2.VerifyResponse)
MEASURE_RECALL = Method(
    _K + "MeasureRecall", maintenance_pb2.MeasureRecallRequest, maintenance_pb2.MeasureRecallResponse
)
CREATE_SNAPSHOT = Method(
    _K + "CreateSnapshot",
    maintenance_pb2.CreateSnapshotRequest,
    maintenance_pb2.SnapshotInfo,
    repeatable=False,
)
LIST_SNAPSHOTS = Method(
    _K + "ListSnapshots", maintenance_pb2.ListSnapshotsRequest, maintenance_pb2.ListSnapshotsResponse
)
DELETE_SNAPSHOT = Method(
    _K + "DeleteSnapshot",
    maintenance_pb2.DeleteSnapshotRequest,
    maintenance_pb2.DeleteSnapshotResponse,
    repeatable=False,
)
RESTORE_SNAPSHOT = Method(
    _K + "RestoreSnapshot",
    maintenance_pb2.RestoreSnapshotRequest,
    collection_pb2.CollectionInfo,
    repeatable=False,
)
CALIBRATE = Method(_K + "Calibrate", maintenance_pb2.CalibrateRequest, maintenance_pb2.CalibrateResponse)

START_UPGRADE = Method(_K + "StartUpgrade", maintenance_pb2.StartUpgradeRequest, maintenance_pb2.UpgradeInfo)
GET_UPGRADE = Method(_K + "GetUpgrade", maintenance_pb2.GetUpgradeRequest, maintenance_pb2.UpgradeInfo)
CONTROL_UPGRADE = Method(
    _K + "ControlUpgrade",
    maintenance_pb2.ControlUpgradeRequest,
    maintenance_pb2.UpgradeInfo,
    repeatable=False,
)
LIST_UPGRADE_FAILURES = Method(
    _K + "ListUpgradeFailures",
    maintenance_pb2.ListUpgradeFailuresRequest,
    maintenance_pb2.ListUpgradeFailuresResponse,
)
LIST_UPGRADE_WANTED = Method(
    _K + "ListUpgradeWanted",
    maintenance_pb2.ListUpgradeWantedRequest,
    maintenance_pb2.ListUpgradeWantedResponse,
)
SEND_UPGRADE_SOURCES = Method(
    _K + "SendUpgradeSources",
    maintenance_pb2.SendUpgradeSourcesRequest,
    maintenance_pb2.SendUpgradeSourcesResponse,
)
