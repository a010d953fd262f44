"""The parts of the CUDA path that run without a GPU: buckets, padding, bound buffers, options, refusal.

`BoundEncoder` runs here on the CPU provider: the same code but for the device its buffers lie on.
"""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest

from nearlight.server.errors import BundleUnusable
from nearlight.server.runtimes.encoder import EngineFacts, Graph
from nearlight.server.runtimes.onnx_cpu import CPU, OnnxEncoder, load_session
from nearlight.server.runtimes.onnx_cuda import (
    CUDA,
    TENSORRT,
    BoundEncoder,
    GpuOptions,
    bucket_sizes,
    gpu_providers,
    has_gpu,
    open_gpu,
)

FACTS = EngineFacts(CPU, "cpu", "onnxruntime", "fp32", 1)


@pytest.fixture(scope="module")
def graph(tiny_bundle: Path) -> Graph:
    return Graph(tiny_bundle / "image.onnx", 16, np.uint8, ((32, 32, 3),))


@pytest.fixture(scope="module")
def bound(graph: Graph) -> BoundEncoder:
    session = load_session(graph.path, [CPU], threads=1)
    return BoundEncoder(session, graph, max_batch=6, facts=FACTS, device="cpu", graphs=True)


def test_batch_sizes() -> None:
    assert bucket_sizes(1) == [1]
    assert bucket_sizes(6) == [1, 2, 4, 6]
    assert bucket_sizes(16) == [1, 2, 4, 8, 16]


@pytest.mark.parametrize("count", [1, 2, 3, 4, 5, 6, 7, 12, 13])
def test_padding_and_parts_leave_vectors_as_they_are(bound: BoundEncoder, graph: Graph, count: int) -> None:
    rng = np.random.default_rng(count)
    expected = OnnxEncoder(graph.path, dim=16, threads=1)
    for _ in range(2):  # the second run finds the first one's rows in the buffers
        rows = rng.integers(0, 256, (count, 32, 32, 3), np.uint8)
        found = bound.encode(rows)
        np.testing.assert_allclose(found, expected.encode(rows), atol=1e-6)
        kept = found.copy()
        bound.encode(rng.integers(0, 256, (count, 32, 32, 3), np.uint8))
        np.testing.assert_array_equal(found, kept)


def test_texts_have_buckets_for_each_length(tiny_bundle: Path) -> None:
    texts = Graph(tiny_bundle / "text.onnx", 16, np.int64, ((8,), (77,)))
    session = load_session(texts.path, [CPU], threads=1)
    encoder = BoundEncoder(session, texts, max_batch=4, facts=FACTS, device="cpu")
    tokens = np.zeros((3, 77), np.int64)
    tokens[:, :5] = [812, 300, 301, 302, 813]
    np.testing.assert_allclose(encoder.encode(tokens[:, :8]), encoder.encode(tokens), atol=1e-6)
    with pytest.raises(ValueError, match=r"\(16,\) are none of those"):
        encoder.encode(tokens[:, :16])


def test_buffers_stay_where_they_are(bound: BoundEncoder) -> None:
    buckets: dict[Any, Any] = bound._buckets

    def addresses() -> list[int]:
        return [value.data_ptr() for b in buckets.values() for value in (b._input, b._output)]

    before = addresses()
    for count in (1, 3, 6):
        bound.encode(np.zeros((count, 32, 32, 3), np.uint8) + 1)
    assert addresses() == before


def test_options_for_cuda(graph: Graph) -> None:
    options = GpuOptions(device=1, memory_mib=512, tf32=True)
    providers: Any = gpu_providers(graph, options, 8)
    (name, cuda), last = providers
    assert (name, last) == (CUDA, CPU)
    assert cuda == {
        "device_id": "1",
        "cudnn_conv_algo_search": "HEURISTIC",
        "arena_extend_strategy": "kSameAsRequested",
        "do_copy_in_default_stream": "1",
        "use_tf32": "1",
        "gpu_mem_limit": str(512 * 1024 * 1024),
        "enable_cuda_graph": "1",
    }


def test_options_for_tensorrt(tiny_bundle: Path, tmp_path: Path) -> None:
    texts = Graph(tiny_bundle / "text.onnx", 16, np.int64, ((8,), (77,)))
    options = GpuOptions(provider="tensorrt", cache=tmp_path)
    providers: Any = gpu_providers(texts, options, 32)
    (name, tensorrt), (second, cuda), _ = providers
    assert (name, second) == (TENSORRT, CUDA)
    assert tensorrt["trt_profile_min_shapes"] == "tokens:1x8"
    assert tensorrt["trt_profile_max_shapes"] == "tokens:32x77"
    assert tensorrt["trt_engine_cache_path"] == str(tmp_path)
    assert "enable_cuda_graph" not in cuda


@pytest.mark.skipif(has_gpu(), reason="this machine has a GPU")
@pytest.mark.parametrize("provider", ["cuda", "tensorrt"])
def test_where_no_gpu_is_it_is_refused_and_not_run_on_the_cpu(graph: Graph, provider: Any) -> None:
    with pytest.raises(
        BundleUnusable, match=f"provider is {provider}, but ONNX Runtime loaded image.onnx on"
    ):
        open_gpu(graph, GpuOptions(provider=provider), max_batch=4)


@pytest.mark.gpu
@pytest.mark.parametrize("graphs", [False, True])
def test_on_a_gpu_vectors_are_those_of_the_cpu(graph: Graph, graphs: bool) -> None:
    encoder = open_gpu(graph, replace(GpuOptions(), graphs=graphs), max_batch=6)
    assert encoder.facts.provider == CUDA
    expected = OnnxEncoder(graph.path, dim=16, threads=1)
    for count in (1, 3, 6, 3, 13):
        rows = np.random.default_rng(count).integers(0, 256, (count, 32, 32, 3), np.uint8)
        np.testing.assert_allclose(encoder.encode(rows), expected.encode(rows), atol=1e-4)


def test_every_option_is_known_to_onnx_runtime() -> None:
    folder = Path(onnxruntime.__file__).parent / "capi"
    library = folder / "libonnxruntime_providers_cuda.so"
    if not library.exists():
        pytest.skip("this ONNX Runtime is built without CUDA")
    content = library.read_bytes()
    providers: Any = gpu_providers(Graph(library, 1, np.uint8, ((1, 1, 3),)), GpuOptions(memory_mib=1), 1)
    for option in providers[0][1]:
        assert option.encode() in content, option
