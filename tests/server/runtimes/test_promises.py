"""What every engine of this machine promises at each precision: the same vectors, whatever is beside."""

from pathlib import Path

import numpy as np
import pytest

from nearlight.bundle.golden import least_cosine
from nearlight.server.call import Row
from nearlight.server.errors import BundleUnusable
from nearlight.server.runtimes.encoder import Engine, EngineChoice, Graph
from nearlight.server.runtimes.onnx_cpu import OnnxEncoder
from nearlight.server.runtimes.parity import Probes, parity_of
from nearlight.server.runtimes.selection import candidates, fastest, open_engine

CHOICES = candidates("auto", "auto", 1)
LEAST_COSINE = {"fp32": 0.999999, "bf16": 0.999, "int8": 0.999}


@pytest.fixture(params=CHOICES, ids=str)
def choice(request: pytest.FixtureRequest) -> EngineChoice:
    found = request.param
    assert isinstance(found, EngineChoice)
    return found


def graphs(bundle: Path) -> tuple[Graph, Graph]:
    image = Graph(bundle / "image.onnx", 16, np.uint8, ((32, 32, 3),))
    return image, Graph(bundle / "text.onnx", 16, np.int64, ((8,), (16,), (77,)))


def pixels_of(count: int) -> Row:
    return np.random.default_rng(0).integers(0, 256, (count, 32, 32, 3), np.uint8)


def test_vectors_are_those_of_the_reference(tiny_bundle: Path, choice: EngineChoice) -> None:
    for graph, rows in zip(graphs(tiny_bundle), (pixels_of(9), tokens_of(9)), strict=True):
        expected = OnnxEncoder(graph.path, dim=16, threads=1).encode(rows)
        found = open_engine(graph, choice).encode(rows)
        assert (found.shape, found.dtype) == (expected.shape, expected.dtype)
        assert least_cosine(expected, found) >= LEAST_COSINE[choice.precision]
        np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, atol=5e-3)


def test_a_vector_does_not_depend_on_its_batch_mates(tiny_bundle: Path, choice: EngineChoice) -> None:
    engine = open_engine(graphs(tiny_bundle)[0], choice)
    rows = pixels_of(33)
    rows[1:4] = 255  # neighbours far larger than the others: a scale for the whole batch would show
    together = engine.encode(rows)
    for size in (1, 2, 7):
        parts = np.concatenate([engine.encode(rows[i : i + size]) for i in range(0, 33, size)])
        np.testing.assert_allclose(together, parts, atol=1e-6)


def test_a_vector_is_not_overwritten_by_the_next_run(tiny_bundle: Path, choice: EngineChoice) -> None:
    engine = open_engine(graphs(tiny_bundle)[0], choice)
    rows = pixels_of(4)
    first = engine.encode(rows[:2])
    kept = first.copy()
    engine.encode(rows[2:])
    np.testing.assert_array_equal(first, kept)


def tokens_of(count: int) -> Row:
    tokens = np.zeros((count, 77), np.int64)
    tokens[:, :5] = [812, 300, 301, 302, 813]
    tokens[:, 1] = np.arange(300, 300 + count)
    return tokens


def test_a_text_gives_the_same_vector_at_every_length(tiny_bundle: Path, choice: EngineChoice) -> None:
    engine = open_engine(graphs(tiny_bundle)[1], choice)
    tokens = tokens_of(3)
    for length in (5, 8, 16, 24, 32, 48, 77):
        np.testing.assert_allclose(engine.encode(tokens[:, :length]), engine.encode(tokens), atol=1e-6)


def test_an_engine_says_what_it_runs_on(tiny_bundle: Path, choice: EngineChoice) -> None:
    facts = open_engine(graphs(tiny_bundle)[0], choice).facts
    assert (facts.precision, facts.threads, facts.device) == (choice.precision, 1, "cpu")
    assert facts.provider == {"onnxruntime": "CPUExecutionProvider", "openvino": "OpenVINO"}[choice.runtime]
    assert facts.version.startswith(
        {"onnxruntime": "onnxruntime 1.", "openvino": "openvino 20"}[choice.runtime]
    )


def test_a_graph_that_is_none_or_of_another_dim_is_refused(
    tiny_bundle: Path, tmp_path: Path, choice: EngineChoice
) -> None:
    (tmp_path / "x.onnx").write_bytes(b"not a graph")
    with pytest.raises(BundleUnusable, match="cannot load"):
        open_engine(Graph(tmp_path / "x.onnx", 16, np.uint8, ()), choice)
    with pytest.raises(BundleUnusable, match="the manifest says dim 17"):
        open_engine(Graph(tiny_bundle / "image.onnx", 17, np.uint8, ()), choice)


def probes_of(graph: Graph, *, turned: bool = False) -> Probes:
    rows = pixels_of(6)
    vectors = OnnxEncoder(graph.path, dim=16, threads=1).encode(rows)
    return Probes(rows, vectors[::-1] if turned else vectors, rows)


class Leaky:
    """An engine whose vectors lean towards the mean of the batch."""

    def __init__(self, engine: Engine) -> None:
        self.dim, self.facts, self._engine = engine.dim, engine.facts, engine

    def encode(self, rows: Row) -> np.ndarray:
        vectors = self._engine.encode(rows)
        return np.asarray(vectors + 0.01 * vectors.mean(axis=0), np.float32)


def test_what_parity_finds(tiny_bundle: Path) -> None:
    graph = graphs(tiny_bundle)[0]
    engine = OnnxEncoder(graph.path, dim=16, threads=1)
    good = parity_of(engine, probes_of(graph))
    assert good.problem(0.999) == ""
    assert good.cosine > 0.999999
    assert good.centred_cosine > 0.999999
    assert "cosine" in parity_of(engine, probes_of(graph, turned=True)).problem(0.999)
    assert "changes by" in parity_of(Leaky(engine), probes_of(graph)).problem(0.999)


def test_padding_that_shows_is_found(tiny_bundle: Path) -> None:
    graph = graphs(tiny_bundle)[1]
    engine = OnnxEncoder(graph.path, dim=16, threads=1)
    tokens = tokens_of(3)
    tokens[:, 60] = 400  # behind what is said to be the end
    vectors = engine.encode(tokens)
    assert parity_of(engine, Probes(tokens, vectors, tokens)).problem(0.999) == ""
    assert "padding" in parity_of(engine, Probes(tokens, vectors, tokens, used=(8, 8, 8))).problem(0.999)


def test_only_an_engine_whose_vectors_hold_is_chosen(tiny_bundle: Path) -> None:
    graph = graphs(tiny_bundle)[0]
    choice, engine = fastest(graph, CHOICES, probes_of(graph), 0.999)
    assert choice in CHOICES
    assert engine.facts.precision == choice.precision
    exact, _ = fastest(graph, CHOICES, probes_of(graph), 0.9999999)
    assert exact.precision == "fp32"
    with pytest.raises(BundleUnusable, match="onnxruntime fp32: cosine"):
        fastest(graph, CHOICES, probes_of(graph, turned=True), 0.999)


def test_what_was_asked_for_is_all_that_is_tried() -> None:
    assert candidates("onnxruntime", "auto", 2) == [EngineChoice("onnxruntime", "fp32", 2)]
    assert {choice.runtime for choice in candidates("openvino", "auto", 2)} == {"openvino"}
    with pytest.raises(BundleUnusable, match="no engine with runtime onnxruntime and precision bf16"):
        candidates("onnxruntime", "bf16", 2)
