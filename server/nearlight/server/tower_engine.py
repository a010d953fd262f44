"""From a bundle's tower to a warm engine: chosen, loaded, and checked against the bundle's golden vectors."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from nearlight.bundle.errors import BundleError
from nearlight.bundle.folder import Bundle
from nearlight.bundle.golden import MIN_COSINE, Golden, least_cosine, load_golden
from nearlight.server.call import TowerKind
from nearlight.server.config import EngineConfig, ServerConfig
from nearlight.server.errors import BundleUnusable
from nearlight.server.log import get_logger
from nearlight.server.probes import image_probes, text_probes
from nearlight.server.runtimes.encoder import Engine, EngineChoice, Graph, warm_up
from nearlight.server.runtimes.onnx_cuda import GpuOptions, bucket_sizes, has_gpu, open_gpu
from nearlight.server.runtimes.parity import Probes
from nearlight.server.runtimes.selection import candidates, fastest, open_engine
from nearlight.server.tokenise import text_widths
from nearlight.server.tuning import TowerTuning, find_tuning

log = get_logger(__name__)

Open = Callable[[], Engine]

# Largest batches of a CPU, unless tuned or set: larger ones are hardly faster there, but keep single calls
# waiting for longer, and leave the engine idle while those who were answered together ask again.
CPU_BATCH: dict[TowerKind, int] = {"image": 8, "text": 16}


@dataclass(frozen=True, slots=True)
class TowerEngine:
    """The engines of one tower, ready for service.

    Args:
        encoders: warm, one for each session, all of one kind.
        graph: what they run, and the shapes of its rows.
        max_batch: most rows of one run.
        text_lengths: row lengths that texts are padded to; () for images.
        reopen: loads the engine of the session of that number once more.
    """

    encoders: tuple[Engine, ...]
    graph: Graph
    max_batch: int
    text_lengths: tuple[int, ...]
    reopen: Callable[[int], Engine]

    @property
    def encoder(self) -> Engine:
        """The first of them."""
        return self.encoders[0]


def open_tower_engine(bundle: Bundle, kind: TowerKind, config: ServerConfig) -> TowerEngine:
    """Load and warm the engines of one tower. Takes seconds; with runtime "auto" some more.

    Raises:
        BundleUnusable: no engine may run it, or it does not give the bundle's golden vectors.
    """
    tuned = _tuned(bundle, kind, config)
    max_batch, lengths = _batching(bundle, kind, config, tuned)
    graph = tower_graph(bundle, kind, lengths)
    first, opens = _opened(bundle, graph, config.engine, tuned, max_batch)
    if first.facts.shares_cores and tuned is None and not _is_set(kind, config):
        max_batch = min(max_batch, CPU_BATCH[kind])
    encoders = (first, *(reopen() for reopen in opens[1:]))
    for encoder in encoders:
        _make_ready(bundle, kind, encoder, graph, max_batch, config.engine.min_cosine)
    return TowerEngine(encoders, graph, max_batch, lengths, lambda number: opens[number]())


def _make_ready(
    bundle: Bundle, kind: TowerKind, encoder: Engine, graph: Graph, max_batch: int, min_cosine: float
) -> None:
    # A GPU has buffers for a few sizes, and each is slow the first time; a CPU takes every size as it comes.
    sizes = [1, max_batch] if encoder.facts.device == "cpu" else bucket_sizes(max_batch)
    for size in sorted(set(sizes)):
        warm_up(encoder, [(size, *shape) for shape in graph.row_shapes], graph.dtype)
    check_golden(bundle, kind, encoder, min_cosine)
    log.info("engine ready", graph=graph.path.name, model=bundle.manifest.name, engine=_described(encoder))


def tower_graph(bundle: Bundle, kind: TowerKind, lengths: tuple[int, ...] = ()) -> Graph:
    """The graph of one tower and the shapes of its rows."""
    manifest = bundle.manifest
    if kind == "image":
        side = manifest.towers.image.preprocess.size_px
        return Graph(bundle.image_path, manifest.dim, np.uint8, ((side, side, 3),))
    tower, path = manifest.towers.text, bundle.text_path
    assert tower is not None
    assert path is not None
    shapes = tuple((width,) for width in text_widths(tower, lengths))
    return Graph(path, manifest.dim, np.int64, shapes)


def tower_probes(bundle: Bundle, graph: Graph, threads: int) -> Probes:
    """Generated inputs of a tower with their reference vectors."""
    return image_probes(graph, threads) if graph.dtype is np.uint8 else text_probes(bundle, graph, threads)


def check_golden(bundle: Bundle, kind: TowerKind, encoder: Engine, min_cosine: float) -> None:
    """Compare an engine with the vectors that were written when the bundle was made, where it has any.

    Raises:
        BundleUnusable: another vector, or golden vectors that cannot be read.
    """
    try:
        golden = load_golden(bundle)
    except BundleError as error:
        raise BundleUnusable(f"{bundle.path}: {error}") from error
    if golden is None:
        return
    cosine = _golden_cosine(golden, kind, encoder)
    limit = MIN_COSINE if encoder.facts.precision == "fp32" else min_cosine
    if not cosine >= limit:
        raise BundleUnusable(
            f"{bundle.path}: the {kind} tower does not give the bundle's golden vectors on "
            f"{_described(encoder)}: the least cosine is {cosine:.6f}, the limit {limit}"
        )


def _golden_cosine(golden: Golden, kind: TowerKind, encoder: Engine) -> float:
    if kind == "image":
        return least_cosine(golden.image_vectors, encoder.encode(golden.pixels))
    assert golden.tokens is not None
    assert golden.text_vectors is not None
    return least_cosine(golden.text_vectors, encoder.encode(golden.tokens))


def _tuned(bundle: Bundle, kind: TowerKind, config: ServerConfig) -> TowerTuning | None:
    """What was found for this tower, unless the user asked for another engine or nearer vectors."""
    if config.engine.runtime not in ("tuned", "auto") or config.engine.precision != "auto":
        return None
    tuning = find_tuning(config.data_folder, bundle.manifest.space_id)
    if tuning is None:
        return None
    found = tuning.image if kind == "image" else tuning.text
    return found if found and found.cosine >= config.engine.min_cosine else None


def _batching(
    bundle: Bundle, kind: TowerKind, config: ServerConfig, tuned: TowerTuning | None
) -> tuple[int, tuple[int, ...]]:
    """Most rows of a run, and the lengths of texts: as set by the user, else as tuned, else the defaults."""
    batching = config.batching
    max_batch = batching.max_images if kind == "image" else batching.max_texts
    if tuned and not _is_set(kind, config):
        max_batch = tuned.max_batch
    tower = bundle.manifest.towers.text
    if kind == "image" or tower is None:
        return max_batch, ()
    lengths = batching.text_lengths
    if tuned and tuned.text_lengths and "text_lengths" not in batching.model_fields_set:
        lengths = tuned.text_lengths
    return max_batch, tuple(text_widths(tower, lengths))


def _is_set(kind: TowerKind, config: ServerConfig) -> bool:
    """Whether the user says how large batches of this tower may be."""
    return ("max_images" if kind == "image" else "max_texts") in config.batching.model_fields_set


def _opened(
    bundle: Bundle, graph: Graph, engine: EngineConfig, tuned: TowerTuning | None, max_batch: int
) -> tuple[Engine, Sequence[Open]]:
    """The engine of the first session, and how to open that of each session."""
    if engine.wants_gpu or (engine.provider == "auto" and not engine.devices and has_gpu()):
        try:
            gpus = [
                partial(open_gpu, graph, options, max_batch=max_batch)
                for options in _gpu_options(engine)
                for _ in range(engine.sessions)
            ]
            return gpus[0](), gpus
        except BundleUnusable as error:
            if engine.wants_gpu:
                raise
            log.warning("a GPU is here but cannot be used; serving from the CPU", reason=str(error))
    encoder, reopen = _opened_on_cpu(bundle, graph, engine, tuned)
    return encoder, [reopen] * engine.sessions


def _opened_on_cpu(
    bundle: Bundle, graph: Graph, engine: EngineConfig, tuned: TowerTuning | None
) -> tuple[Engine, Open]:
    if tuned:
        threads = engine.threads or min(tuned.threads, engine.session_threads)
        return _open_choice(graph, EngineChoice(tuned.runtime, tuned.precision, threads), engine)
    runtime, precision = engine.runtime, engine.precision
    if runtime == "tuned":
        runtime, precision = ("onnxruntime", "fp32") if precision == "auto" else ("auto", precision)
    choices = candidates(runtime, precision, engine.session_threads)
    if choices == [EngineChoice("onnxruntime", "fp32", engine.session_threads)]:
        return _open_choice(graph, choices[0], engine)
    probes = tower_probes(bundle, graph, engine.session_threads)
    best, encoder = fastest(graph, choices, probes, engine.min_cosine)
    return encoder, partial(open_engine, graph, best, arena=engine.memory_arena)


def _open_choice(graph: Graph, choice: EngineChoice, engine: EngineConfig) -> tuple[Engine, Open]:
    reopen: Open = partial(open_engine, graph, choice, arena=engine.memory_arena)
    return reopen(), reopen


def _gpu_options(engine: EngineConfig) -> list[GpuOptions]:
    """Of each device."""
    options = GpuOptions(
        provider="tensorrt" if engine.provider == "tensorrt" else "cuda",
        memory_mib=engine.cuda_memory_mib,
        graphs=engine.cuda_graphs,
        tf32=engine.cuda_tf32,
        cache=engine.tensorrt_cache,
    )
    return [replace(options, device=device) for device in engine.gpu_indexes]


def _described(encoder: Engine) -> str:
    facts = encoder.facts
    return f"{facts.version} {facts.precision}, {facts.provider} on {facts.device}, {facts.threads} threads"
