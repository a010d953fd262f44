"""Scopes are derived from names; here they stand written out, so that a new method must be thought about."""

from typing import Any

import pytest

from nearlight.server.security.scopes import SCOPES, Scope, scope_needed
from nearlight.v1 import collection_pb2, embedding_pb2, maintenance_pb2, model_pb2, point_pb2

READ = {
    "Embed",
    "EmbedStream",
    "Classify",
    "GetLabelSet",
    "ListLabelSets",
    "ListModels",
    "GetModel",
    "GetCollection",
    "ListCollections",
    "ListAliases",
    "Get",
    "Scroll",
    "Count",
    "Query",
    "QueryBatch",
    "QueryGroups",
    "FindDuplicates",
}
ADMIN = {"LoadModel", "UnloadModel", "UpdateModelAliases"}
WRITE = {
    "PutLabelSet",
    "DeleteLabelSet",
    "CreateCollection",
    "DeleteCollection",
    "UpdateCollection",
    "UpdateAliases",
    "CreatePayloadIndex",
    "DeletePayloadIndex",
    "Upsert",
    "UpsertStream",
    "Delete",
    "SetPayload",
    "DeletePayload",
}


def test_every_method_of_the_wire_has_the_scope_written_here() -> None:
    files: list[Any] = [embedding_pb2, model_pb2, collection_pb2, point_pb2, maintenance_pb2]
    for file in files:
        for service in file.DESCRIPTOR.services_by_name.values():
            for method in service.methods:
                expected = Scope.READ if method.name in READ else Scope.WRITE
                if service.name == "MaintenanceService" or method.name in ADMIN:
                    expected = Scope.ADMIN
                assert method.name in READ | WRITE or expected is Scope.ADMIN
                assert SCOPES[f"/nearlight.v1.{service.name}/{method.name}"] is expected, method.full_name


def test_what_nobody_knows_needs_the_highest_scope() -> None:
    assert scope_needed("/nearlight.v1.EmbeddingService/Nothing") is Scope.ADMIN
    assert scope_needed("/other.Service/Get") is Scope.ADMIN
    assert scope_needed("/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo") is Scope.READ


def test_each_scope_includes_the_ones_before_it() -> None:
    assert Scope.READ < Scope.WRITE < Scope.ADMIN
    assert Scope.of("write") is Scope.WRITE
    with pytest.raises(ValueError, match="must be one of read, write, admin"):
        Scope.of("owner")
