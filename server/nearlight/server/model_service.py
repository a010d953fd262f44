"""nearlight.v1.ModelService."""

from importlib.metadata import version
from typing import Any

import grpc

from nearlight.server.config import LimitsConfig
from nearlight.server.convert.models import limits_message, model_message
from nearlight.server.convert.values import page_after, page_size_of
from nearlight.server.models import LoadedModel, Models
from nearlight.v1 import model_pb2, model_pb2_grpc

Context = grpc.aio.ServicerContext[Any, Any]


class ModelService(model_pb2_grpc.ModelServiceServicer):
    """The models a server has loaded, and its limits."""

    def __init__(self, models: Models, limits: LimitsConfig) -> None:
        self._models = models
        self._limits = limits

    async def ListModels(
        self, request: model_pb2.ListModelsRequest, context: Context
    ) -> model_pb2.ListModelsResponse:
        """Page through the models."""
        size = page_size_of(request.page_size, default=100, largest=1000, field="page_size")
        names = [model.name for model in self._models.all()]
        page, token = page_after(names, request.page_token, size)
        return model_pb2.ListModelsResponse(
            models=[self._message(self._models.get(name)) for name in page],
            next_page_token=token,
            default_model=self._models.default.name,
            limits=limits_message(self._limits),
            server_version=version("nearlight"),
        )

    async def GetModel(self, request: model_pb2.GetModelRequest, context: Context) -> model_pb2.ModelInfo:
        """One model by name."""
        return self._message(self._models.get(request.name))

    def _message(self, model: LoadedModel) -> model_pb2.ModelInfo:
        return model_message(model, self._limits, is_default=model is self._models.default)
