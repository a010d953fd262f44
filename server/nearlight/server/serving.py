"""One running server: put together, started, drained, taken apart."""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import grpc
from grpc_reflection.v1alpha import reflection

from nearlight.bundle.folder import Bundle
from nearlight.server.cache import VectorCache
from nearlight.server.call import F32
from nearlight.server.catalog import Catalog
from nearlight.server.classifier import PrototypeCache
from nearlight.server.collection_service import CollectionService
from nearlight.server.config import MIB, ServerConfig
from nearlight.server.duplicate_desk import DuplicateDesk
from nearlight.server.embedder import Embedder
from nearlight.server.embedding_service import EmbeddingService
from nearlight.server.errors import AddressUnusable
from nearlight.server.health import Health, Phase
from nearlight.server.health_calls import add_health
from nearlight.server.label_sets import LabelSetDesk
from nearlight.server.listening import bind, grpc_server, refuse_if_open
from nearlight.server.log import get_logger
from nearlight.server.maintenance_service import MaintenanceService
from nearlight.server.metrics import observe
from nearlight.server.metrics.endpoint import MetricsEndpoint
from nearlight.server.metrics.state import State
from nearlight.server.model_loader import ModelLoader
from nearlight.server.model_service import ModelService
from nearlight.server.models import Models, load_model, open_bundles
from nearlight.server.point_service import PointService
from nearlight.server.preparation import Preparation
from nearlight.server.querier import Querier
from nearlight.server.relevance import RelevanceDesk
from nearlight.server.routes import Routes
from nearlight.server.stores import open_store
from nearlight.server.supervisor import Supervisor
from nearlight.server.tracing import NoTracing, Tracing, open_tracing
from nearlight.server.upgrade_counts import UpgradeCounts
from nearlight.server.upgrade_desk import UpgradeDesk
from nearlight.server.upgrade_evaluation import UpgradeEvaluation
from nearlight.server.upgraded_models import load_upgraded
from nearlight.server.upgrader import Upgrader
from nearlight.server.upserter import Upserter
from nearlight.store import Store, VectorStore
from nearlight.v1 import (
    collection_pb2_grpc,
    embedding_pb2_grpc,
    maintenance_pb2_grpc,
    model_pb2_grpc,
    point_pb2_grpc,
)

log = get_logger(__name__)

SERVICES = (
    "nearlight.v1.EmbeddingService",
    "nearlight.v1.ModelService",
    "nearlight.v1.CollectionService",
    "nearlight.v1.PointService",
    "nearlight.v1.MaintenanceService",
)
HEALTH_SERVICE = "grpc.health.v1.Health"
BANK_LOOK_SECONDS = 0.5
# After the last call has ended its reply may still be on its way.
LAST_REPLY_SECONDS = 0.5


class Server:
    """A server that has been started; `stop` drains it.

    Args:
        config: as it runs.
    """

    def __init__(self, config: ServerConfig) -> None:
        self.address = ""
        self._config = config
        self._models = Models()
        self._health = Health(SERVICES, config.limits.max_concurrent_calls)
        self._grpc: grpc.aio.Server | None = None
        self._preparation: Preparation | None = None
        self._catalog: Catalog | None = None
        self._upgrader: Upgrader | None = None
        self._upgrade_counts = UpgradeCounts()
        self._loader = self._make_loader()
        self._metrics: MetricsEndpoint | None = None
        self._tracing: Tracing = NoTracing()
        self.metrics_address = ""
        self._supervisor = Supervisor(
            self._health.stage_died,
            self._health.stage_recovered,
            call_limit_s=config.engine.call_limit_seconds,
            restart_after_s=config.engine.restart_seconds,
        )

    async def start(self) -> None:
        """Take calls; returns when every model is warm.

        While the models load the port is open already and health says NOT_SERVING.

        Raises:
            StartError: one line that says what is wrong.
        """
        refuse_if_open(self._config)
        try:
            bundles = await asyncio.to_thread(open_bundles, self._config.bundles)
            store = await asyncio.to_thread(open_store, self._config, self._store_answers)
            self._catalog = Catalog(store, self._models, self._config.store_threads, self._health.stage_died)
            self._preparation = Preparation(
                self._config.engine.preparing_threads,
                self._supervisor,
                self._config.batching.interactive_weight,
            )
            self._tracing = open_tracing(self._config.tracing)
            server = grpc_server(self._config, self._health, self._tracing)
            self._add_services(server, self._catalog, Embedder(self._preparation, vector_cache(self._config)))
            self.address = bind(server, self._config)
            self._show_metrics(store)
            await self._health.enter(Phase.LOADING)
            await server.start()
            self._grpc = server
            await asyncio.to_thread(self._load, bundles)
            if self._upgrader and isinstance(store, Store):
                await load_upgraded(store, self._models, self._loader)
                await self._upgrader.begin()
        except BaseException:
            await self._close(grace_s=0)
            raise
        await self._health.enter(Phase.SERVING)
        names = [model.name for model in self._models.all()]
        log.info("serving", address=self.address, metrics=self.metrics_address or "off", models=names)

    async def stop(self) -> None:
        """Drain: say NOT_SERVING, refuse new calls, let those in flight finish, end."""
        await self._health.enter(Phase.DRAINING)
        await self._health.wait_idle(self._config.drain_seconds)
        await self._health.wait_quiet()
        await self._close(grace_s=LAST_REPLY_SECONDS)
        log.info("stopped")

    @property
    def model_names(self) -> list[str]:
        """Names of the models in service."""
        return [model.name for model in self._models.all()]

    def _make_loader(self) -> ModelLoader:
        """Loads models while the server runs, from the folders that the configuration names."""
        config = self._config
        folders = [*config.model_folders, *(Path(bundle) for bundle in config.bundles)]
        return ModelLoader(
            self._models,
            lambda bundle: load_model(bundle, config, self._supervisor),
            folders,
            config.drain_seconds,
        )

    def _load(self, bundles: list[Bundle]) -> None:
        for bundle in bundles:
            self._models.add(load_model(bundle, self._config, self._supervisor))

    def _add_services(self, server: grpc.aio.Server, catalog: Catalog, embedder: Embedder) -> None:
        limits, models = self._config.limits, self._models
        upserter = Upserter(catalog, embedder, limits)
        querier = Querier(catalog, embedder, limits, lambda: self._health.n_calls)
        prototypes = PrototypeCache(embedder, self._config.engine.prototype_cache_entries)
        label_sets = LabelSetDesk(catalog, limits)
        embedding = EmbeddingService(models, embedder, prototypes, label_sets, limits, self._health)
        relevance = RelevanceDesk(catalog, embedder, limits)
        if isinstance(catalog.store, Store):
            self._watch_indexes(catalog.store, relevance)
        points = PointService(
            catalog, upserter, querier, relevance, limits, self._health, DuplicateDesk(catalog, limits)
        )
        evaluation = UpgradeEvaluation(catalog, embedder, relevance)
        self._upgrader = Upgrader(catalog, embedder, evaluation.evaluate)
        upgrades = UpgradeDesk(catalog, self._upgrader, evaluation, limits, self._upgrade_counts)
        maintenance = MaintenanceService(catalog, relevance, upgrades)
        # Typed here: the generated functions are not.
        services: list[tuple[Callable[[Any, Any], None], Any]] = [
            (embedding_pb2_grpc.add_EmbeddingServiceServicer_to_server, embedding),
            (model_pb2_grpc.add_ModelServiceServicer_to_server, ModelService(models, limits, self._loader)),
            (collection_pb2_grpc.add_CollectionServiceServicer_to_server, CollectionService(catalog)),
            (point_pb2_grpc.add_PointServiceServicer_to_server, points),
            (maintenance_pb2_grpc.add_MaintenanceServiceServicer_to_server, maintenance),
            (add_health, self._health.servicer),
        ]
        routes = Routes(server)
        for add, servicer in services:
            add(servicer, routes)
        if self._config.security.reflection:
            names = (*SERVICES, HEALTH_SERVICE, reflection.SERVICE_NAME)
            reflection.enable_server_reflection(names, server)

    def _watch_indexes(self, store: Store, relevance: RelevanceDesk) -> None:
        """Set how indexes are built, with texts that they are tuned on, and where recall is counted."""
        config, loop = self._config.indexes, asyncio.get_running_loop()

        def texts_of(space_id: str) -> F32 | None:
            making = asyncio.run_coroutine_threadsafe(relevance.text_bank(space_id), loop)
            while not store.indexes.is_closing:
                with suppress(TimeoutError):
                    return making.result(BANK_LOOK_SECONDS)
            making.cancel()
            return None

        store.indexes.ask_texts = texts_of
        if config.build_memory_mib:
            store.indexes.budget_bytes = config.build_memory_mib * MIB
        store.indexes.n_threads = config.build_threads or store.indexes.n_threads
        store.sampler.share = config.recall_share
        store.sampler.on_sample = observe.recall

    def _store_answers(self, answers: bool) -> None:
        if answers:
            self._health.stage_recovered("store")
        else:
            self._health.stage_died("store")

    def _show_metrics(self, store: VectorStore) -> None:
        """Open the metrics port.

        Raises:
            AddressUnusable: it was asked for and cannot be opened. One that nobody asked for is done without.
        """
        config = self._config
        address = config.metrics.address(picks_port=config.listen.endswith(":0"))
        if address is None:
            return
        try:
            folder, counts = config.data_folder, self._upgrade_counts
            state = State(self._models, self._health, store, folder, counts)
            self._metrics = MetricsEndpoint(address, state)
            self.metrics_address = self._metrics.address
        except AddressUnusable as error:
            if config.metrics.listen != "auto":
                raise
            log.warning("without metrics", reason=str(error))

    async def _close(self, grace_s: float) -> None:
        if self._upgrader:
            await self._upgrader.close()
        if self._grpc:
            await self._grpc.stop(grace_s)
        await asyncio.to_thread(self._close_stages)

    def _close_stages(self) -> None:
        self._tracing.close()
        if self._metrics:
            self._metrics.close()
        if self._preparation:
            self._preparation.close()
        self._models.close()
        self._supervisor.close()
        if self._catalog:
            self._catalog.close()


def vector_cache(config: ServerConfig) -> VectorCache | None:
    """The cache, None where it is switched off."""
    return VectorCache(config.cache.max_bytes) if config.cache.max_bytes else None
