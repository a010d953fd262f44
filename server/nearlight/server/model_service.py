"""nearlight.v1.ModelService."""

from importlib.metadata import version
from typing import Any

import grpc

from nearlight.server.config import LimitsConfig
from nearlight.server.convert.models import limits_message, model_message
from nearlight.server.convert.values import page_after, page_size_of
from nearlight.server.model_loader import ModelLoader, check_model_name
from nearlight.server.models import LoadedModel, Models
from nearlight.v1 import model_pb2, model_pb2_grpc

Context = grpc.aio.ServicerContext[Any, Any]


class ModelService(model_pb2_grpc.ModelServiceServicer):
    """The models a server has loaded, and its limits."""

    def __init__(self, models: Models, limits: LimitsConfig, loader: ModelLoader) -> None:
        self._models = models
        self._limits = limits
        self._loader = loader

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
            default_model=self._models.names.default,
            limits=limits_message(self._limits),
            server_version=version("nearlight"),
        )

    async def GetModel(self, request: model_pb2.GetModelRequest, context: Context) -> model_pb2.ModelInfo:
        """One model by name."""
        return self._message(self._models.get(request.name))

    async def LoadModel(self, request: model_pb2.LoadModelRequest, context: Context) -> model_pb2.ModelInfo:
        """Put a bundle into service."""
        model = await self._loader.load(
            request.bundle, request.name, list(request.aliases), make_default=request.make_default
        )
        return self._message(model)

    async def UnloadModel(
        self, request: model_pb2.UnloadModelRequest, context: Context
    ) -> model_pb2.UnloadModelResponse:
        """Take a model out of service."""
        await self._loader.unload(request.name)
        return model_pb2.UnloadModelResponse()

    async def UpdateModelAliases(
        self, request: model_pb2.UpdateModelAliasesRequest, context: Context
    ) -> model_pb2.UpdateModelAliasesResponse:
        """Change aliases and the default in one step."""
        for alias in request.aliases:
            check_model_name(alias, "aliases")
        names = self._models.names
        names.update(request.aliases, list(request.deleted), request.default_model)
        return model_pb2.UpdateModelAliasesResponse(aliases=names.aliases)

    def _message(self, model: LoadedModel) -> model_pb2.ModelInfo:
        names = self._models.names
        is_default = model.name == names.default
        return model_message(model, self._limits, is_default=is_default, aliases=names.aliases_of(model.name))
