"""Measuring every way to run a bundle on this machine, and picking the best of each tower.

Speed is that of the engine alone, by the fastest of a few runs: other work only ever adds time.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from nearlight.bundle.folder import Bundle
from nearlight.server.call import Row, TowerKind
from nearlight.server.errors import BundleUnusable
from nearlight.server.profile_cost import ProfileCost, profile_cost
from nearlight.server.runtimes.encoder import Engine, EngineChoice, Graph
from nearlight.server.runtimes.parity import Parity, Probes, parity_of
from nearlight.server.runtimes.selection import WORTHWHILE, candidates, open_engine, rows_per_second
from nearlight.server.threads import cpu_budget
from nearlight.server.tower_engine import check_golden, tower_graph, tower_probes
from nearlight.server.tuning import TowerTuning, Tuning, library_versions, machine, now

# A batch is large enough when it reaches this share of the fastest: larger ones only add latency. In smaller
# ones than the least, the work around a run would weigh too much; it is not measured here.
NEARLY = 0.95
LEAST_BATCH = 4
# A text length is kept when it is this much faster than the next longer one.
LENGTH_GAIN = 1.08

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Plan:
    """What is measured.

    Args:
        batches: sizes of one run.
        threads: inside one run; the largest first.
        lengths: of texts, where they may be trimmed.
        seconds: for each measurement, at least.
        min_cosine: an engine below it is only shown.
        images: encoded, for what fast decoding costs; none: generated ones.
    """

    batches: tuple[int, ...] = (1, 4, 8, 16, 32)
    threads: tuple[int, ...] = ()
    lengths: tuple[int, ...] = (8, 16, 24, 32, 48, 77)
    seconds: float = 0.5
    min_cosine: float = 0.999
    images: tuple[bytes, ...] = ()


@dataclass(frozen=True, slots=True)
class Measured:
    """One engine of one tower.

    Args:
        tower: "image" or "text".
        choice: the engine.
        parity: to ONNX Runtime in float32; None where it did not run.
        rows_per_s: by batch size; empty where it must not be used.
        problem: why it must not be used; "" for none.
    """

    tower: TowerKind
    choice: EngineChoice
    parity: Parity | None
    rows_per_s: dict[int, float]
    problem: str = ""

    @property
    def best(self) -> float:
        """Rows per second at the fastest batch size; 0 where it must not be used."""
        return max(self.rows_per_s.values(), default=0.0)


@dataclass(frozen=True, slots=True)
class Report:
    """All that was found.

    Args:
        tuning: what `serve` will use.
        engines: every one that was measured, in order.
        lengths: texts per second of the chosen engine by length; empty without a text tower to trim.
        profile: what fast decoding of images gains and costs.
    """

    tuning: Tuning
    engines: list[Measured]
    lengths: dict[int, float]
    profile: ProfileCost


def tune_bundle(bundle: Bundle, plan: Plan, say: Say = lambda line: None) -> Report:
    """Measure both towers of a bundle. Takes a minute or two for a ViT-B/32 on two cores.

    Raises:
        BundleUnusable: no engine gives its vectors, or none of the images can be read.
    """
    image, engines, _ = _tune_tower(bundle, "image", plan, say)
    text, lengths = None, dict[int, float]()
    if bundle.manifest.towers.text is not None:
        text, more, lengths = _tune_tower(bundle, "text", plan, say)
        engines += more
    tuning = Tuning(
        space_id=bundle.manifest.space_id,
        bundle=bundle.manifest.name,
        machine=machine(),
        versions=library_versions(),
        measured=now(),
        image=image,
        text=text,
    )
    return Report(tuning, engines, lengths, profile_cost(bundle, plan.images, cpu_budget()))


def _tune_tower(
    bundle: Bundle, kind: TowerKind, plan: Plan, say: Say
) -> tuple[TowerTuning, list[Measured], dict[int, float]]:
    graph = tower_graph(bundle, kind, plan.lengths)
    most = max(plan.threads or (cpu_budget(),))
    probes = tower_probes(bundle, graph, most)
    found: list[Measured] = []
    for choice in candidates("auto", "auto", most):
        found.append(_measured(bundle, kind, graph, choice, probes, plan))
        say(_line(found[-1]))
    usable = [engine for engine in found if not engine.problem]
    if not usable:
        reasons = "; ".join(f"{engine.choice}: {engine.problem}" for engine in found)
        raise BundleUnusable(f"no engine gives the vectors of the {kind} tower: {reasons}")
    # The first is ONNX Runtime in float32: what another one gains must be worth its last digits.
    best = max(usable, key=lambda engine: engine.best * (WORTHWHILE if engine is usable[0] else 1))
    for count in sorted(set(plan.threads or _fewer(most)) - {most}, reverse=True):
        fewer = EngineChoice(best.choice.runtime, best.choice.precision, count)
        found.append(_measured(bundle, kind, graph, fewer, probes, plan))
        say(_line(found[-1]))
        best = max(best, found[-1], key=lambda engine: engine.best)
    lengths = _by_length(graph, best, probes, plan) if kind == "text" else {}
    assert best.parity is not None
    batch = chosen_batch(best.rows_per_s)
    tuning = TowerTuning(
        runtime=best.choice.runtime,
        precision=best.choice.precision,
        threads=best.choice.threads,
        max_batch=batch,
        text_lengths=worthwhile_lengths(lengths),
        cosine=best.parity.cosine,
        rows_per_s=best.rows_per_s[batch],
        speedup=best.best / found[0].best if found[0].best else 1.0,
    )
    return tuning, found, lengths


def _fewer(most: int) -> tuple[int, ...]:
    """Thread counts worth trying besides all of them."""
    return (max(1, most // 2),)


def _measured(
    bundle: Bundle, kind: TowerKind, graph: Graph, choice: EngineChoice, probes: Probes, plan: Plan
) -> Measured:
    try:
        engine = open_engine(graph, choice)
        parity = parity_of(engine, probes)
        check_golden(bundle, kind, engine, plan.min_cosine)
    except Exception as error:  # each runtime has errors of its own: what it cannot do is a result
        return Measured(kind, choice, None, {}, str(error))
    problem = parity.problem(plan.min_cosine)
    speeds = {} if problem else {size: _speed(engine, probes.timed, size, plan) for size in plan.batches}
    return Measured(kind, choice, parity, speeds, problem)


def _speed(engine: Engine, rows: Row, size: int, plan: Plan) -> float:
    batch = np.ascontiguousarray(np.resize(rows, (size, *rows.shape[1:])))  # repeats them
    return rows_per_second(engine, batch, seconds=plan.seconds, least_runs=2)


def _by_length(graph: Graph, best: Measured, probes: Probes, plan: Plan) -> dict[int, float]:
    """Texts per second at each length, of the best engine at its best batch size."""
    if len(graph.row_shapes) < 2:
        return {}
    engine = open_engine(graph, best.choice)
    size = max(best.rows_per_s, key=lambda size: best.rows_per_s[size])
    return {
        width: _speed(engine, np.ascontiguousarray(probes.rows[:, :width]), size, plan)
        for (width,) in graph.row_shapes
    }


def chosen_batch(speeds: dict[int, float]) -> int:
    """The smallest batch size that is nearly as fast as the fastest, of those measured that are not tiny."""
    sizes = [size for size in sorted(speeds) if size >= LEAST_BATCH] or [max(speeds)]
    fastest = max(speeds[size] for size in sizes)
    return next(size for size in sizes if speeds[size] >= NEARLY * fastest)


def worthwhile_lengths(speeds: dict[int, float]) -> tuple[int, ...]:
    """The longest length, and each shorter one that is clearly faster than the next longer one kept."""
    kept: list[int] = []
    for length in sorted(speeds, reverse=True):
        if not kept or speeds[length] >= LENGTH_GAIN * speeds[kept[-1]]:
            kept.append(length)
    return tuple(reversed(kept))


def _line(engine: Measured) -> str:
    """One line of progress."""
    name = f"{engine.tower} {engine.choice} {engine.choice.threads} threads"
    if engine.problem:
        return f"{name}: not used, {engine.problem}"
    assert engine.parity is not None
    return f"{name}: {engine.best:.1f}/s, cosine {engine.parity.cosine:.6f}"
