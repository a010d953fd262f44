"""nearlight.v1.MaintenanceService. Calls that are not here are not built; the interceptor says so."""

from typing import Any

import grpc

from nearlight.server.relevance import RelevanceDesk
from nearlight.v1 import maintenance_pb2, maintenance_pb2_grpc

Context = grpc.aio.ServicerContext[Any, Any]


class MaintenanceService(maintenance_pb2_grpc.MaintenanceServiceServicer):
    """Keeps collections whole.

    Args:
        relevance: calibrates.
    """

    def __init__(self, relevance: RelevanceDesk) -> None:
        self._relevance = relevance

    async def Calibrate(
        self, request: maintenance_pb2.CalibrateRequest, context: Context
    ) -> maintenance_pb2.CalibrateResponse:
        """Fit the relevance of a collection's hits."""
        return await self._relevance.calibrate(request.collection)
