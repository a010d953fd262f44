"""nearlight.v1.MaintenanceService."""

from typing import Any

import grpc
import numpy as np

from nearlight.server.catalog import Catalog
from nearlight.server.convert.collections import check_name, collection_message
from nearlight.server.convert.values import page_size_of
from nearlight.server.errors import InvalidInput
from nearlight.server.relevance import RelevanceDesk
from nearlight.server.upgrade_desk import UpgradeDesk
from nearlight.store import SnapshotInfo
from nearlight.v1 import collection_pb2, maintenance_pb2, maintenance_pb2_grpc

Context = grpc.aio.ServicerContext[Any, Any]

DEFAULT_SAMPLE = 1000
MAX_SAMPLE = 1_000_000
DEFAULT_QUERIES = 200
MAX_QUERIES = 10_000
MAX_RECALL_LIMIT = 1000


class MaintenanceService(maintenance_pb2_grpc.MaintenanceServiceServicer):
    """Keeps collections whole and calibrates them; what is not here the interceptor answers for.

    Args:
        catalog: of the collections.
        relevance: calibrates.
        upgrades: changes their model.
    """

    def __init__(self, catalog: Catalog, relevance: RelevanceDesk, upgrades: UpgradeDesk) -> None:
        self._catalog = catalog
        self._relevance = relevance
        self._upgrades = upgrades

    async def Verify(
        self, request: maintenance_pb2.VerifyRequest, context: Context
    ) -> maintenance_pb2.VerifyResponse:
        """Compare what searches read with what is stored."""
        collection = self._catalog.embedded_collection(request.collection, "Verify")
        if request.sample > MAX_SAMPLE:
            raise InvalidInput(
                f"sample is {request.sample}; the limit is {MAX_SAMPLE}, 0 means {DEFAULT_SAMPLE}",
                field="sample",
            )
        sample = request.sample or DEFAULT_SAMPLE
        report = await self._catalog.run(lambda: collection.verify(sample))
        return maintenance_pb2.VerifyResponse(
            ok=not report.problems,
            problems=[
                maintenance_pb2.Problem(kind=problem.kind, message=problem.message)
                for problem in report.problems
            ],
            points_checked=report.n_points,
        )

    async def MeasureRecall(
        self, request: maintenance_pb2.MeasureRecallRequest, context: Context
    ) -> maintenance_pb2.MeasureRecallResponse:
        """Compare searches with exact ones now, by image and by text."""
        collection = self._catalog.embedded_collection(request.collection, "MeasureRecall")
        n_queries = page_size_of(
            request.queries, default=DEFAULT_QUERIES, largest=MAX_QUERIES, field="queries"
        )
        limit = page_size_of(request.limit, default=10, largest=MAX_RECALL_LIMIT, field="limit")
        bank = await self._relevance.text_bank(collection.info.space_id)
        texts = np.empty((0, collection.info.dim), np.float32) if bank is None else bank
        found = await self._catalog.run(
            lambda: collection.measure_recall(texts, n_queries=n_queries, limit=limit)
        )
        return maintenance_pb2.MeasureRecallResponse(
            recall=found.recall, queries=found.n_queries, image_recall=found.image, text_recall=found.text
        )

    async def CreateSnapshot(
        self, request: maintenance_pb2.CreateSnapshotRequest, context: Context
    ) -> maintenance_pb2.SnapshotInfo:
        """Copy a collection while it serves."""
        self._catalog.collection(request.collection)
        made = await self._catalog.run(lambda: self._catalog.store.snapshots.create(request.collection))
        return snapshot_message(made)

    async def ListSnapshots(
        self, request: maintenance_pb2.ListSnapshotsRequest, context: Context
    ) -> maintenance_pb2.ListSnapshotsResponse:
        """Page through the snapshots, newest first."""
        size = page_size_of(request.page_size, default=100, largest=1000, field="page_size")
        found = await self._catalog.run(self._catalog.store.snapshots.list)
        if request.collection:
            name = self._catalog.store.aliases().get(request.collection, request.collection)
            found = [one for one in found if one.collection == name]
        names = [one.name for one in found]
        start = names.index(request.page_token) + 1 if request.page_token in names else 0
        page = found[start : start + size]
        return maintenance_pb2.ListSnapshotsResponse(
            snapshots=map(snapshot_message, page),
            next_page_token=page[-1].name if start + size < len(found) else "",
        )

    async def DeleteSnapshot(
        self, request: maintenance_pb2.DeleteSnapshotRequest, context: Context
    ) -> maintenance_pb2.DeleteSnapshotResponse:
        """Remove a snapshot."""
        await self._catalog.run(lambda: self._catalog.store.snapshots.delete(request.snapshot))
        return maintenance_pb2.DeleteSnapshotResponse()

    async def RestoreSnapshot(
        self, request: maintenance_pb2.RestoreSnapshotRequest, context: Context
    ) -> collection_pb2.CollectionInfo:
        """Make a collection of a snapshot, once its checksums hold."""
        check_name(request.collection, "collection")
        snapshots = self._catalog.store.snapshots
        made = await self._catalog.run(lambda: snapshots.restore(request.snapshot, request.collection))
        return collection_message(made.info, self._catalog.models)

    async def Calibrate(
        self, request: maintenance_pb2.CalibrateRequest, context: Context
    ) -> maintenance_pb2.CalibrateResponse:
        """Fit the relevance of a collection's hits."""
        return await self._relevance.calibrate(request.collection)

    async def StartUpgrade(
        self, request: maintenance_pb2.StartUpgradeRequest, context: Context
    ) -> maintenance_pb2.UpgradeInfo:
        """Begin to embed a collection anew with another model, or go on with it."""
        return await self._upgrades.start(request)

    async def GetUpgrade(
        self, request: maintenance_pb2.GetUpgradeRequest, context: Context
    ) -> maintenance_pb2.UpgradeInfo:
        """How far an upgrade is."""
        return await self._upgrades.get(request)

    async def ControlUpgrade(
        self, request: maintenance_pb2.ControlUpgradeRequest, context: Context
    ) -> maintenance_pb2.UpgradeInfo:
        """Move an upgrade on."""
        return await self._upgrades.control(request)

    async def ListUpgradeFailures(
        self, request: maintenance_pb2.ListUpgradeFailuresRequest, context: Context
    ) -> maintenance_pb2.ListUpgradeFailuresResponse:
        """Page through the points that could not be embedded."""
        return await self._upgrades.failures(request)

    async def ListUpgradeWanted(
        self, request: maintenance_pb2.ListUpgradeWantedRequest, context: Context
    ) -> maintenance_pb2.ListUpgradeWantedResponse:
        """Page through the points whose original the caller must send."""
        return await self._upgrades.wanted(request)

    async def SendUpgradeSources(
        self, request: maintenance_pb2.SendUpgradeSourcesRequest, context: Context
    ) -> maintenance_pb2.SendUpgradeSourcesResponse:
        """Embed originals for an upgrade."""
        return await self._upgrades.send(request)


def snapshot_message(info: SnapshotInfo) -> maintenance_pb2.SnapshotInfo:
    """A snapshot on the wire."""
    return maintenance_pb2.SnapshotInfo(
        snapshot=info.name,
        collection=info.collection,
        created_unix_ms=info.created_unix_ms,
        size_bytes=info.n_bytes,
        sha256=info.sha256,
        last_seq=info.last_seq,
        count=info.n_points,
        space_id=info.space_id,
    )
