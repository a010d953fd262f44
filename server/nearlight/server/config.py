"""What can be set about a server: defaults < TOML file < environment < flags.

In the environment a key is NEARLIGHT_SERVE_<KEY>, and NEARLIGHT_SERVE_<SECTION>__<KEY> inside a section:
`NEARLIGHT_SERVE_LISTEN=127.0.0.1:0`, `NEARLIGHT_SERVE_BATCHING__MAX_IMAGES=8`.
"""

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from nearlight.bundle.image import ImageProfile
from nearlight.server.config_metrics import MetricsConfig
from nearlight.server.config_section import Count, check_host_and_port, is_loopback, split_commas
from nearlight.server.config_section import Section as _Section
from nearlight.server.config_security import CallersConfig, SecurityConfig
from nearlight.server.config_store import StoreConfig
from nearlight.server.config_tracing import TracingConfig
from nearlight.server.threads import cpu_budget

ENV_PREFIX = "NEARLIGHT_SERVE_"
ENV_NESTING = "__"
MIB = 1024 * 1024

PositiveSeconds = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Seconds = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Device = Annotated[str, Field(pattern=r"^(cpu|cuda:\d{1,3})$")]


class LimitsConfig(_Section):
    """What a request may ask for. Beyond it: INVALID_ARGUMENT with field, value and limit.

    Args:
        max_message_bytes: one gRPC message; a larger one is RESOURCE_EXHAUSTED from gRPC itself.
        max_batch_inputs: inputs of one Embed, images of one Classify, points of one Upsert, ids of one Get.
        max_block_points: points of one PointBlock.
        max_image_bytes: one encoded image.
        max_image_pixels: width x height, read from the header before decoding.
        max_text_bytes: one text in UTF-8; tokens past the model's context are cut.
        max_payload_bytes: one point's payload.
        max_query_limit: `limit` + `offset` of a Query.
        max_batch_queries: queries of one QueryBatch.
        max_labels: labels of one Classify.
        max_templates: templates of one Classify.
        max_stream_in_flight: batches of one stream worked on at once.
        max_concurrent_calls: calls of all callers together.
        queue_inputs: inputs of calls inside one tower's pipeline, waiting ones included; more are Overloaded.
            As many again may be of bulk calls, and of streams, which wait for room instead.
    """

    max_message_bytes: Count = 64 * MIB
    max_batch_inputs: Count = 256
    max_block_points: Count = 10_000
    max_image_bytes: Count = 32 * MIB
    max_image_pixels: Count = 64_000_000
    max_text_bytes: Count = 32 * 1024
    max_payload_bytes: Count = 64 * 1024
    max_query_limit: Count = 10_000
    max_batch_queries: Count = 64
    max_labels: Count = 10_000
    max_templates: Count = 256
    max_stream_in_flight: Count = 8
    max_concurrent_calls: Count = 1024
    queue_inputs: Count = 1024

    @model_validator(mode="after")
    def _a_full_call_fits_the_queue(self) -> "LimitsConfig":
        if self.queue_inputs < self.max_batch_inputs:
            raise ValueError(
                f"queue_inputs is {self.queue_inputs}, less than max_batch_inputs {self.max_batch_inputs}: "
                "a full call could never be let in"
            )
        return self


class BatchingConfig(_Section):
    """How inputs share a run of the engine. There is no waiting time: an idle engine starts at once.

    Args:
        max_images: images of one batch. Where it is neither set nor tuned, half of it on the CPU.
        max_texts: texts of one batch; likewise.
        text_lengths: token lengths a text is padded to, where the model allows trimming; the model's context
            length always joins them.
        interactive_weight: engine time of interactive calls over that of bulk work when both wait.
    """

    max_images: Count = 16
    max_texts: Count = 32
    text_lengths: tuple[Count, ...] = (8, 16, 24, 32, 48, 77)
    interactive_weight: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 8.0


class EngineConfig(_Section):
    """What runs the models.

    Args:
        provider: "auto" takes CUDA where it works, else the CPU; "cuda" and "tensorrt" refuse to start
            without it.
        runtime: on the CPU. "tuned": what `nearlight tune` found for the bundle on this machine, ONNX Runtime
            in float32 where it was not asked. "auto": likewise, but where it was not asked every engine is
            tried at the start, for seconds, and the fastest whose vectors hold runs.
        precision: on the CPU; "auto": whatever the runtime is best at.
        min_cosine: least cosine of a vector to ONNX Runtime's in float32, for engines of less precision.
        devices: "cpu", or GPUs as "cuda:0"; several GPUs share the work, each with sessions of its own. None:
            by `provider`, on the first GPU.
        sessions: engines of each tower on each device; a batch goes to the next that is free. On a CPU they
            share the cores out. Each holds the weights once more; one that dies leaves the others serving.
        threads: per session; 0: all cores of this process's cgroup and affinity, shared between sessions.
        memory_arena: ONNX Runtime keeps freed memory for the next batch: faster; without it memory ebbs.
        cuda_memory_mib: most GPU memory of one tower; 0: as much as there is.
        cuda_graphs: capture a CUDA graph for each batch size.
        cuda_tf32: multiply in TF32 on the GPU: faster, less exact.
        tensorrt_cache: folder of TensorRT's engines, which take minutes to build.
        image_profile: "fast" decodes a JPEG at 1/2, 1/4 or 1/8 of its size where that leaves enough pixels;
            vectors change a little (`nearlight tune --images FOLDER` says by how much). A call may choose for
            itself.
        decode_threads: for decoding images and tokenising texts; 0: one for each core, 2 at least: one that
            hangs must not keep the others. More than cores wait for each other and for the engine.
        prototype_cache_entries: label lists whose vectors are kept for Classify.
        call_limit_seconds: one run of the engine, or the decoding of one input, may take so long; then its
            inputs fail and the stage is begun anew. Set it well above what a full batch takes.
        restart_seconds: before a stage that died or hung is begun anew; doubled while it keeps falling.
    """

    provider: Literal["auto", "cpu", "cuda", "tensorrt"] = "auto"
    runtime: Literal["tuned", "auto", "onnxruntime", "openvino"] = "tuned"
    precision: Literal["auto", "fp32", "bf16", "int8"] = "auto"
    min_cosine: Annotated[float, Field(gt=0, le=1)] = 0.999
    devices: Annotated[tuple[Device, ...], NoDecode] = ()
    sessions: Annotated[int, Field(ge=1, le=64)] = 1
    memory_arena: bool = True
    cuda_memory_mib: Annotated[int, Field(ge=0)] = 0
    cuda_graphs: bool = True
    cuda_tf32: bool = False
    tensorrt_cache: Path | None = None
    threads: Annotated[int, Field(ge=0)] = 0
    image_profile: ImageProfile = "exact"
    decode_threads: Annotated[int, Field(ge=0)] = 0
    prototype_cache_entries: Count = 64
    call_limit_seconds: PositiveSeconds = 60.0
    restart_seconds: Seconds = 1.0

    @field_validator("devices", mode="before")
    @classmethod
    def _split_devices(cls, value: Any) -> Any:
        return split_commas(value)

    @model_validator(mode="after")
    def _devices_are_of_one_kind(self) -> "EngineConfig":
        kinds = {device.partition(":")[0] for device in self.devices}
        if len(kinds) > 1 or len(set(self.devices)) < len(self.devices):
            raise ValueError(
                f"devices are {', '.join(self.devices)}; they must be of one kind, each named once "
                "(`sessions` sets how many engines each has)"
            )
        if (kinds == {"cuda"} and self.provider == "cpu") or (
            kinds == {"cpu"} and self.provider not in ("cpu", "auto")
        ):
            raise ValueError(f"devices are {', '.join(self.devices)}, but provider is {self.provider}")
        return self

    @property
    def wants_gpu(self) -> bool:
        """Whether a GPU was asked for: without it there is no start."""
        return self.provider in ("cuda", "tensorrt") or "cuda" in "".join(self.devices)

    @property
    def gpu_indexes(self) -> list[int]:
        """Of the GPUs to use; the first where none was named."""
        return [int(device.partition(":")[2]) for device in self.devices] or [0]

    @property
    def session_threads(self) -> int:
        """Threads of one session."""
        return self.threads or max(1, cpu_budget() // self.sessions)

    @property
    def preparing_threads(self) -> int:
        """Threads that decode and tokenise."""
        return self.decode_threads or max(2, cpu_budget())


class CacheConfig(_Section):
    """Vectors of late, kept in memory by the content they were made of.

    Args:
        max_bytes: of all vectors kept; 0 switches the cache off.
    """

    max_bytes: Annotated[int, Field(ge=0)] = 64 * MIB


class IndexesConfig(_Section):
    """How the indexes of large collections are built and watched.

    Args:
        build_memory_mib: memory that building one may take; 0: half of the machine's, or of the container's.
        build_threads: for building, at the lowest priority; 0: all cores of this process.
        recall_share: of the searches through an index, which are searched again exactly for the figures.
    """

    build_memory_mib: Annotated[int, Field(ge=0)] = 0
    build_threads: Annotated[int, Field(ge=0)] = 0
    recall_share: Annotated[float, Field(ge=0, le=1)] = 0.001


class LogConfig(_Section):
    """What is logged to stderr. At `debug` every call has a line with its timings."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    format: Literal["console", "json"] = "console"


class ServerConfig(BaseSettings):
    """Everything that can be set about a server.

    Args:
        listen: host:port; port 0 picks a free one. An absolute path after "unix:" is a socket file.
        data_folder: where collections live; made if missing.
        bundles: folders or names of models to serve, the first is the default; none: the bundle shipped with
            Nearlight.
        model_folders: LoadModel may load bundles from inside these, besides those named in `bundles` and
            those shipped with Nearlight.
        drain_seconds: how long work in flight may go on after SIGTERM, or after its model is unloaded.
        store_threads: threads that read and write collections.
    """

    model_config = SettingsConfigDict(
        frozen=True, extra="forbid", env_prefix=ENV_PREFIX, env_nested_delimiter=ENV_NESTING
    )

    listen: str = "127.0.0.1:50051"
    data_folder: Path = Path("nearlight-data")
    bundles: Annotated[tuple[str, ...], NoDecode] = ()
    model_folders: Annotated[tuple[Path, ...], NoDecode] = ()
    drain_seconds: Seconds = 30.0
    store_threads: Count = 4
    store: StoreConfig = StoreConfig()
    limits: LimitsConfig = LimitsConfig()
    batching: BatchingConfig = BatchingConfig()
    engine: EngineConfig = EngineConfig()
    cache: CacheConfig = CacheConfig()
    indexes: IndexesConfig = IndexesConfig()
    security: SecurityConfig = SecurityConfig()
    callers: CallersConfig = CallersConfig()
    metrics: MetricsConfig = MetricsConfig()
    tracing: TracingConfig = TracingConfig()
    log: LogConfig = LogConfig()

    @field_validator("bundles", "model_folders", mode="before")
    @classmethod
    def _split_bundles(cls, value: Any) -> Any:
        return split_commas(value)

    @field_validator("listen")
    @classmethod
    def _has_host_and_port(cls, value: str) -> str:
        return value if value.startswith("unix:/") else check_host_and_port(value)

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine can connect."""
        return is_loopback(self.listen)
