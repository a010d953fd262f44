"""The store that the configuration asks for."""

from collections.abc import Callable

from pydantic import SecretStr

from nearlight.server.config import MIB, ServerConfig
from nearlight.server.config_store import StoreConfig
from nearlight.server.errors import ConfigError, DataFolderUnusable, EngineUnusable
from nearlight.server.log import get_logger
from nearlight.store import Store, StoreError, VectorStore
from nearlight.store.engines.engine import Engine

log = get_logger(__name__)


def open_store(config: ServerConfig, on_state: Callable[[bool], None]) -> VectorStore:
    """The store of a server.

    Args:
        config: of the server.
        on_state: told whether the engine answers, when that changes.

    Raises:
        DataFolderUnusable: it cannot be read or written, is corrupt, or another process holds it.
        EngineUnusable: the engine does not answer.
        ConfigError: the package of the engine is not installed.
    """
    try:
        local = Store.open(config.data_folder)
    except StoreError as error:
        raise DataFolderUnusable(str(error)) from error
    if config.store.engine == "embedded":
        local.row_cache.max_bytes = config.store.row_cache_mib * MIB
        return local
    from nearlight.store.engines.store import EngineStore

    left_behind = [info.name for info in local.collections()]
    if left_behind:
        log.warning(
            "collections of the data folder are not served: the engine's are",
            engine=config.store.engine,
            collections=left_behind,
        )
    try:
        engine = open_engine(config.store)
        return EngineStore(engine, local, refresh_seconds=config.store.refresh_seconds, on_state=on_state)
    except BaseException as error:
        local.close()
        if isinstance(error, StoreError):
            raise EngineUnusable(f"cannot use {config.store.engine}: {error}") from error
        raise


def open_engine(config: StoreConfig) -> Engine:
    """The engine that is asked for; its package is imported only now.

    Raises:
        ConfigError: the package is not installed.
        StoreError: it does not answer.
    """
    try:
        if config.engine == "milvus":
            from nearlight.store.engines.milvus import Milvus

            return Milvus(
                config.milvus_uri,
                token=_shown(config.milvus_token),
                database=config.milvus_database,
                prefix=config.prefix,
                index_type=config.milvus_index,
                timeout_s=config.timeout_seconds,
            )
        from nearlight.store.engines.qdrant import Qdrant

        return Qdrant(
            config.qdrant_url,
            api_key=_shown(config.qdrant_api_key),
            prefix=config.prefix,
            timeout_s=config.timeout_seconds,
        )
    except ImportError as error:
        reason = f"--store {config.engine} needs a package that is not installed ({error.name})"
        raise ConfigError(f"{reason}: pip install 'nearlight[{config.engine}]'") from error


def _shown(secret: SecretStr | None) -> str:
    return secret.get_secret_value() if secret else ""
