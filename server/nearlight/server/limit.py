"""What a machine can do with a bundle and no server: the same decoding, engine and threads, nothing else."""

import itertools
import statistics
import time
from collections import defaultdict, deque
from collections.abc import Generator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import numpy as np

from nearlight.bundle.errors import BundleError
from nearlight.bundle.folder import Bundle
from nearlight.bundle.registry import find_bundle
from nearlight.server.call import F32, Input, Prepare, Row, TowerKind
from nearlight.server.config import ServerConfig
from nearlight.server.config_layers import load_config
from nearlight.server.decode import image_preparation
from nearlight.server.errors import BundleUnusable, ServerError
from nearlight.server.models import image_limits
from nearlight.server.runtimes.encoder import Engine
from nearlight.server.tokenise import text_preparation
from nearlight.server.tower_engine import open_tower_engine

# Full batches prepared ahead of the engine.
BATCHES_AHEAD = 2

Raw = str | bytes
Bucket = tuple[TowerKind, tuple[int, ...]]


class InProcessLimit:
    """A bundle in this process. What a server does beyond this is its cost.

    Args:
        bundle: open.
        config: for threads, batch sizes, text lengths and limits.

    Raises:
        BundleUnusable: the engine refuses it.
    """

    def __init__(self, bundle: Bundle, config: ServerConfig) -> None:
        self._bundle = bundle
        self._config = config
        self._pool = ThreadPoolExecutor(config.engine.preparing_threads, thread_name_prefix="limit")
        manifest, image = bundle.manifest, open_tower_engine(bundle, "image", config)
        self._encoders: dict[TowerKind, Engine] = {"image": image.encoder}
        spec, profile = manifest.towers.image.preprocess, config.engine.image_profile
        self._prepare: dict[TowerKind, Prepare] = {
            "image": image_preparation(spec, image_limits(config), profile)
        }
        self._batch = {"image": image.max_batch}
        if bundle.text_path:
            text = open_tower_engine(bundle, "text", config)
            self._encoders["text"], self._batch["text"] = text.encoder, text.max_batch
            self._prepare["text"] = text_preparation(
                bundle.tokenizer(),
                lengths=text.text_lengths,
                max_bytes=config.limits.max_text_bytes,
            )

    def describe(self) -> dict[str, Any]:
        """What runs: for the record beside the figures."""
        facts = self._encoders["image"].facts
        return {
            "bundle": self._bundle.manifest.name,
            "space_id": self._bundle.manifest.space_id,
            "provider": facts.provider,
            "precision": facts.precision,
            "engine_threads": facts.threads,
            "decode_threads": self._config.engine.preparing_threads,
            "batch_images": self._batch["image"],
            "batch_texts": self._batch.get("text", 0),
        }

    def embed(self, inputs: Sequence[Raw]) -> F32:
        """Unit vectors (N, D) of inputs of one shape, in one batch: to compare with a server's."""
        kinds = [_kind(item) for item in inputs]
        rows = np.stack([row for _, row in self._pool.map(self._ready, inputs)])  # (N, …)
        return self._encoders[kinds[0]].encode(rows)

    def throughput(self, inputs: Sequence[Raw], seconds: float) -> float:
        """Inputs per second: decoded ahead in threads, rows of one shape run in full batches."""
        done, elapsed_s = self.run(inputs, seconds)
        return done / elapsed_s

    def run(self, inputs: Sequence[Raw], seconds: float) -> tuple[int, float]:
        """The same, as inputs run and the seconds that took."""
        ready = self._decoded_ahead(inputs)
        waiting: dict[Bucket, list[Row]] = defaultdict(list)
        done, started = 0, time.perf_counter()
        try:
            while (elapsed_s := time.perf_counter() - started) < seconds or not done:
                kind, row = next(ready)
                rows = waiting[kind, row.shape]
                rows.append(row)
                if len(rows) == self._batch[kind]:
                    self._encoders[kind].encode(np.stack(rows))  # (B, …)
                    done += len(rows)
                    rows.clear()
        finally:
            ready.close()
        return done, elapsed_s

    def single_ms(self, inputs: Sequence[Raw], seconds: float) -> float:
        """Median milliseconds of one input after the other: prepared, then run alone."""
        times: list[float] = []
        started = time.perf_counter()
        for item in itertools.cycle(inputs):
            begun = time.perf_counter()
            kind, row = self._ready(item)
            self._encoders[kind].encode(row[np.newaxis])
            now = time.perf_counter()
            times.append(1e3 * (now - begun))
            if now - started > seconds:
                break
        return statistics.median(times)

    def close(self) -> None:
        """End the threads."""
        self._pool.shutdown(cancel_futures=True)

    def _decoded_ahead(self, inputs: Sequence[Raw]) -> Generator[tuple[TowerKind, Row], None, None]:
        """Rows in the order of the inputs, round and round, some batches ahead of whoever takes them."""
        endless = itertools.cycle(inputs)
        n_ahead = BATCHES_AHEAD * max(self._batch.values())
        ahead: deque[Future[tuple[TowerKind, Row]]] = deque()
        try:
            while True:
                while len(ahead) < n_ahead:
                    ahead.append(self._pool.submit(self._ready, next(endless)))
                yield ahead.popleft().result()
        finally:
            for future in ahead:
                if not future.cancel():
                    future.result()

    def _ready(self, item: Raw) -> tuple[TowerKind, Row]:
        kind = _kind(item)
        [prepared] = self._prepare[kind]([Input(kind, item, "input")])
        if isinstance(prepared, ServerError):
            raise prepared
        return kind, prepared.row


def open_limit(bundle: str, *, threads: int = 0, provider: str = "", precision: str = "") -> InProcessLimit:
    """The limit of a bundle, with the settings that a server of this environment would have.

    Args:
        bundle: folder or name.
        threads: of the engine; 0: as a server here would take.
        provider: that the server runs on, as it says; "": as a server here would take.
        precision: of the server's arithmetic; "": likewise.

    Raises:
        BundleUnusable: there is none, or the engine refuses it.
    """
    try:
        opened = Bundle.open(find_bundle(bundle))
    except BundleError as error:
        raise BundleUnusable(str(error)) from error
    engine: dict[str, object] = {"threads": threads} if threads else {}
    if provider and precision:
        # Exactly what the server runs, wherever it had it from.
        runtime = "openvino" if provider == "OpenVINO" else "onnxruntime"
        engine |= {"runtime": runtime, "precision": precision}
    return InProcessLimit(opened, load_config(None, {"engine": engine} if engine else {}))


def _kind(item: Raw) -> TowerKind:
    return "text" if isinstance(item, str) else "image"
