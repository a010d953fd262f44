"""Which engine runs a tower: the one asked for, or the fastest whose vectors are those of the reference."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from nearlight.server.call import Row
from nearlight.server.errors import BundleUnusable
from nearlight.server.log import get_logger
from nearlight.server.runtimes import openvino_cpu
from nearlight.server.runtimes.encoder import Encoder, Engine, EngineChoice, Graph, Precision, RuntimeName
from nearlight.server.runtimes.onnx_cpu import OnnxEncoder
from nearlight.server.runtimes.openvino_cpu import OpenVinoEncoder
from nearlight.server.runtimes.parity import Parity, Probes, parity_of

log = get_logger(__name__)

# Another engine must beat the reference by this factor: below it, exactness is worth more than speed.
WORTHWHILE = 1.1


@dataclass(frozen=True, slots=True)
class Trial:
    """What came out when one choice was tried on the probes.

    Args:
        choice: the engine.
        parity: against the reference; None where it did not run.
        rows_per_s: on a batch of the probes; 0 where it did not run.
        problem: why it must not be used; "" for none.
    """

    choice: EngineChoice
    parity: Parity | None
    rows_per_s: float
    problem: str


def candidates(
    runtime: RuntimeName | Literal["auto"], precision: Precision | Literal["auto"], threads: int
) -> list[EngineChoice]:
    """Every engine of this machine that fits what was asked for, the reference first where it fits.

    Raises:
        BundleUnusable: none fits; says what there is.
    """
    here: list[EngineChoice] = [EngineChoice("onnxruntime", "fp32", threads)]
    if runtime != "onnxruntime":  # it is not imported where it is not asked for
        here += [EngineChoice("openvino", name, threads) for name in openvino_cpu.precisions()]
    fitting = [
        choice
        for choice in here
        if runtime in ("auto", choice.runtime) and precision in ("auto", choice.precision)
    ]
    if fitting:
        return fitting
    hint = "" if openvino_cpu.is_installed() else "; OpenVINO comes with pip install 'nearlight[openvino]'"
    raise BundleUnusable(
        f"no engine with runtime {runtime} and precision {precision} on this machine, which has "
        f"{', '.join(map(str, here))}{hint}"
    )


def open_engine(graph: Graph, choice: EngineChoice, *, arena: bool = True) -> Engine:
    """Load a graph as chosen.

    Raises:
        BundleUnusable: the engine refuses it.
    """
    if choice.runtime == "openvino":
        return OpenVinoEncoder(graph.path, dim=graph.dim, threads=choice.threads, precision=choice.precision)
    return OnnxEncoder(graph.path, dim=graph.dim, threads=choice.threads, arena=arena)


def try_choice(
    graph: Graph, choice: EngineChoice, probes: Probes, min_cosine: float
) -> tuple[Trial, Engine | None]:
    """Load one choice, compare its vectors, measure it. An engine that fails is a result, not an error."""
    try:
        engine = open_engine(graph, choice)
        parity = parity_of(engine, probes)
    except Exception as error:  # each runtime has errors of its own
        return Trial(choice, None, 0.0, str(error)), None
    problem = parity.problem(min_cosine)
    speed = 0.0 if problem else rows_per_second(engine, probes.timed)
    return Trial(choice, parity, speed, problem), engine


def fastest(
    graph: Graph, choices: Sequence[EngineChoice], probes: Probes, min_cosine: float
) -> tuple[EngineChoice, Engine]:
    """The fastest engine whose parity holds.

    One engine is kept beside the one on trial, so memory holds two at most.

    Raises:
        BundleUnusable: none of them may be used; says why of each.
    """
    trials: list[Trial] = []
    kept: tuple[float, EngineChoice, Engine] | None = None
    for choice in choices:
        trial, engine = try_choice(graph, choice, probes, min_cosine)
        trials.append(trial)
        log.info(
            "engine tried",
            graph=graph.path.name,
            engine=str(choice),
            rows_per_s=round(trial.rows_per_s, 1),
            cosine=trial.parity and round(trial.parity.cosine, 6),
            problem=trial.problem,
        )
        if engine is None or trial.problem:
            continue
        if kept is None or trial.rows_per_s > kept[0]:
            # The bar of the first is raised: it is the reference, or what comes closest to it.
            kept = (trial.rows_per_s * (1.0 if kept else WORTHWHILE), choice, engine)
    if kept is None:
        reasons = "; ".join(f"{trial.choice}: {trial.problem}" for trial in trials)
        raise BundleUnusable(f"no engine gives the vectors of {graph.path}: {reasons}")
    return kept[1:]


def rows_per_second(encoder: Encoder, rows: Row, *, seconds: float = 0.5, least_runs: int = 3) -> float:
    """Rows per second of one batch, by its fastest run: other work on the machine only ever slows it down."""
    encoder.encode(rows)
    best, spent, runs = float("inf"), 0.0, 0
    while runs < least_runs or spent < seconds:
        started = time.perf_counter()
        encoder.encode(rows)
        took = time.perf_counter() - started
        best, spent, runs = min(best, took), spent + took, runs + 1
    return len(rows) / best
