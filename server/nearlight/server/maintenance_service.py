"""nearlight.v1.MaintenanceService."""

from typing import Any

import grpc

from nearlight.server.catalog import Catalog
from nearlight.server.errors import InvalidInput
from nearlight.v1 import maintenance_pb2, maintenance_pb2_grpc

Context = grpc.aio.ServicerContext[Any, Any]

DEFAULT_SAMPLE = 1000
MAX_SAMPLE = 1_000_000


class MaintenanceService(maintenance_pb2_grpc.MaintenanceServiceServicer):
    """Keeping collections whole; what is not here the interceptor answers for."""

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog

    async def Verify(
        self, request: maintenance_pb2.VerifyRequest, context: Context
    ) -> maintenance_pb2.VerifyResponse:
        """Compare what searches read with what is stored."""
        collection = self._catalog.collection(request.collection)
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
