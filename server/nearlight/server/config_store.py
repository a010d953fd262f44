"""Where collections are kept."""

from typing import Annotated, Literal

from pydantic import Field, SecretStr, model_validator

from nearlight.server.config_section import Section

Seconds = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class StoreConfig(Section):
    """Where collections are kept. Label sets are in the data folder, whatever keeps the collections.

    Args:
        engine: "embedded": in the data folder, by this process alone. "milvus" and "qdrant": in a database of
            their own, which several servers may share.
        milvus_uri: "http://host:19530", or a file "….db" for Milvus Lite.
        milvus_token: "user:password" or an API key. The environment (NEARLIGHT_SERVE_STORE__MILVUS_TOKEN)
            hides it from other users of the machine; a flag does not.
        milvus_database: "": the default one.
        milvus_index: of the vectors of collections made from now on: "FLAT" compares all; "AUTOINDEX", "HNSW"
            and others of Milvus find nearly all.
        qdrant_url: "http://host:6333", or a folder for the local mode, which is for trials.
        qdrant_api_key: of the service; better in the environment (NEARLIGHT_SERVE_STORE__QDRANT_API_KEY).
        prefix: of the names of our collections in the engine.
        timeout_seconds: one call of the engine may take so long; it is tried three times.
        refresh_seconds: until a collection that another server made or deleted is noticed, or an engine that
            does not answer.
        row_cache_mib: memory of the embedded store for ids and payloads that queries found of late; 0: none.
            What is in there is found again without a look at the disk.
    """

    engine: Literal["embedded", "milvus", "qdrant"] = "embedded"
    milvus_uri: str = ""
    milvus_token: SecretStr | None = None
    milvus_database: str = ""
    milvus_index: str = "AUTOINDEX"
    qdrant_url: str = ""
    qdrant_api_key: SecretStr | None = None
    prefix: Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,31}$")] = "nearlight_"
    timeout_seconds: Seconds = 10.0
    refresh_seconds: Seconds = 5.0
    row_cache_mib: Annotated[int, Field(ge=0)] = 64

    @model_validator(mode="after")
    def _has_an_address(self) -> "StoreConfig":
        if self.engine == "milvus" and not self.milvus_uri:
            raise ValueError("engine is 'milvus' and milvus_uri is empty: say where it is (--milvus-uri)")
        if self.engine == "qdrant" and not self.qdrant_url:
            raise ValueError("engine is 'qdrant' and qdrant_url is empty: say where it is (--qdrant-url)")
        return self
