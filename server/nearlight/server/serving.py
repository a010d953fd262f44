"""One running server: put together, started, drained, taken apart."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
from grpc_health.v1 import health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from nearlight.bundle.folder import Bundle
from nearlight.server.cache import VectorCache
from nearlight.server.catalog import Catalog
from nearlight.server.classifier import PrototypeCache
from nearlight.server.collection_service import CollectionService
from nearlight.server.config import ServerConfig
from nearlight.server.decode import DecodePool
from nearlight.server.embedder import Embedder
from nearlight.server.embedding_service import EmbeddingService
from nearlight.server.errors import AddressUnusable, ConfigError
from nearlight.server.health import Health, Phase
from nearlight.server.interceptor import CallInterceptor
from nearlight.server.label_sets import LabelSetDesk
from nearlight.server.log import get_logger
from nearlight.server.maintenance_service import MaintenanceService
from nearlight.server.metrics.endpoint import MetricsEndpoint
from nearlight.server.metrics.state import State
from nearlight.server.model_loader import ModelLoader
from nearlight.server.model_service import ModelService
from nearlight.server.models import Models, load_model, open_bundles
from nearlight.server.point_service import PointService
from nearlight.server.querier import Querier
from nearlight.server.relevance import RelevanceDesk
from nearlight.server.security.access import Access
from nearlight.server.security.callers import CallerLimits
from nearlight.server.security.tls import ServerTls
from nearlight.server.security.tokens import Tokens
from nearlight.server.stores import open_store
from nearlight.server.supervisor import Supervisor
from nearlight.server.tracing import NoTracing, Tracing, open_tracing
from nearlight.server.upserter import Upserter
from nearlight.store import VectorStore
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
        self._pool: DecodePool | None = None
        self._catalog: Catalog | None = None
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
            self._pool = DecodePool(
                self._config.engine.preparing_threads,
                self._supervisor,
                self._config.batching.interactive_weight,
            )
            self._tracing = open_tracing(self._config.tracing)
            server = _grpc_server(self._config, self._health, self._tracing)
            self._add_services(server, self._catalog, Embedder(self._pool, vector_cache(self._config)))
            self.address = _bind(server, self._config)
            self._show_metrics(store)
            await self._health.enter(Phase.LOADING)
            await server.start()
            self._grpc = server
            await asyncio.to_thread(self._load, bundles)
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

    def _loader(self) -> ModelLoader:
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
        upserter, querier = Upserter(catalog, embedder, limits), Querier(catalog, embedder, limits)
        prototypes = PrototypeCache(embedder, self._config.engine.prototype_cache_entries)
        label_sets = LabelSetDesk(catalog, limits)
        embedding = EmbeddingService(models, embedder, prototypes, label_sets, limits, self._health)
        relevance = RelevanceDesk(catalog, embedder, limits)
        points = PointService(catalog, upserter, querier, relevance, limits, self._health)
        maintenance = MaintenanceService(catalog, relevance)
        # Typed here: the generated functions are not.
        services: list[tuple[Callable[[Any, grpc.aio.Server], None], Any]] = [
            (embedding_pb2_grpc.add_EmbeddingServiceServicer_to_server, embedding),
            (model_pb2_grpc.add_ModelServiceServicer_to_server, ModelService(models, limits, self._loader())),
            (collection_pb2_grpc.add_CollectionServiceServicer_to_server, CollectionService(catalog)),
            (point_pb2_grpc.add_PointServiceServicer_to_server, points),
            (maintenance_pb2_grpc.add_MaintenanceServiceServicer_to_server, maintenance),
            (health_pb2_grpc.add_HealthServicer_to_server, self._health.servicer),
        ]
        for add, servicer in services:
            add(servicer, server)
        if self._config.security.reflection:
            names = (*SERVICES, HEALTH_SERVICE, reflection.SERVICE_NAME)
            reflection.enable_server_reflection(names, server)

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
            state = State(self._models, self._health, store, config.data_folder)
            self._metrics = MetricsEndpoint(address, state)
            self.metrics_address = self._metrics.address
        except AddressUnusable as error:
            if config.metrics.listen != "auto":
                raise
            log.warning("without metrics", reason=str(error))

    async def _close(self, grace_s: float) -> None:
        if self._grpc:
            await self._grpc.stop(grace_s)
        await asyncio.to_thread(self._close_stages)

    def _close_stages(self) -> None:
        self._tracing.close()
        if self._metrics:
            self._metrics.close()
        if self._pool:
            self._pool.close()
        self._models.close()
        self._supervisor.close()
        if self._catalog:
            self._catalog.close()


def vector_cache(config: ServerConfig) -> VectorCache | None:
    """The cache, None where it is switched off."""
    return VectorCache(config.cache.max_bytes) if config.cache.max_bytes else None


def refuse_if_open(config: ServerConfig) -> None:
    """Strangers may read the wire, or call, only where that was asked for in so many words.

    Raises:
        ConfigError: the server would listen beyond this machine without TLS, or let everyone call.
    """
    if config.is_loopback:
        return
    security, missing = config.security, []
    if not security.has_tls and not security.allow_plaintext:
        missing.append(
            "without TLS everyone on the way can read it: give --tls-cert and --tls-key, "
            "or say --allow-plaintext"
        )
    if not security.knows_callers and not security.allow_anonymous:
        missing.append(
            "without tokens everyone may call: give --tokens-file (see `nearlight token new`) "
            "or --tls-client-ca, or say --allow-anonymous"
        )
    if missing:
        raise ConfigError(f"{config.listen} is open to other machines; " + "; ".join(missing))
    if not security.has_tls:
        log.warning("listening beyond this machine WITHOUT TLS", listen=config.listen)
    if not security.knows_callers:
        log.warning("listening beyond this machine WITHOUT tokens: everyone may call", listen=config.listen)


def _grpc_server(config: ServerConfig, health: Health, tracing: Tracing) -> grpc.aio.Server:
    """A gRPC server without services yet.

    Raises:
        ConfigError: the file of tokens is wrong.
    """
    security = config.security
    tokens = Tokens([token.get_secret_value() for token in security.tokens], security.tokens_file)
    return grpc.aio.server(
        interceptors=[CallInterceptor(health, Access(tokens), CallerLimits(config.callers), tracing)],
        options=[
            ("grpc.max_receive_message_length", config.limits.max_message_bytes),
            ("grpc.max_send_message_length", config.limits.max_message_bytes),
            # Two servers on one port would share its calls without a word.
            ("grpc.so_reuseport", 0),
        ],
    )


def _bind(server: grpc.aio.Server, config: ServerConfig) -> str:
    """Bind the address; returns it with the port that was picked."""
    tls = ServerTls(config.security) if config.security.has_tls else None
    try:
        if tls:
            port = server.add_secure_port(config.listen, tls.credentials())
        else:
            port = server.add_insecure_port(config.listen)
    except RuntimeError:
        port = 0
    if config.listen.startswith("unix:"):
        return config.listen
    if not port:
        raise AddressUnusable(
            f"cannot listen on {config.listen}: the port is in use, or the address is not this machine's; "
            "choose another with --listen (port 0 picks a free one)"
        )
    return f"{config.listen.rpartition(':')[0]}:{port}"
