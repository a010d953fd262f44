from pathlib import Path

import numpy as np
import pytest

from nearlight.server.call import F32, Row
from nearlight.server.engine import OnnxEncoder, warm_up
from nearlight.server.errors import BundleUnusable


@pytest.fixture(scope="module")
def encoder(tiny_bundle: Path) -> OnnxEncoder:
    return OnnxEncoder(tiny_bundle / "image.onnx", dim=16, provider="cpu", threads=1)


def test_a_vector_does_not_depend_on_its_batch_mates(encoder: OnnxEncoder) -> None:
    rows = np.random.default_rng(0).integers(0, 256, (33, 32, 32, 3), np.uint8)
    together = encoder.encode(rows)
    alone = np.concatenate([encoder.encode(rows[i : i + 1]) for i in range(33)])
    np.testing.assert_allclose(together, alone, atol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(together, axis=1), 1, atol=1e-6)


def test_a_text_gives_the_same_vector_at_every_length(tiny_bundle: Path) -> None:
    encoder = OnnxEncoder(tiny_bundle / "text.onnx", dim=16, provider="cpu", threads=1)
    tokens = np.zeros((1, 77), np.int64)
    tokens[0, :5] = [812, 300, 301, 302, 813]
    for length in (8, 16, 48, 77):
        np.testing.assert_allclose(encoder.encode(tokens[:, :length]), encoder.encode(tokens), atol=1e-6)


def test_the_provider_asked_for_is_the_one_in_use(tiny_bundle: Path, encoder: OnnxEncoder) -> None:
    assert encoder.provider == "CPUExecutionProvider"
    if Path("/dev/nvidiactl").exists():
        pytest.skip("this machine has a GPU")
    with pytest.raises(BundleUnusable, match="provider is cuda, but ONNX Runtime loaded"):
        OnnxEncoder(tiny_bundle / "image.onnx", dim=16, provider="cuda", threads=1)


def test_auto_takes_the_cpu_where_there_is_no_gpu(tiny_bundle: Path) -> None:
    if Path("/dev/nvidiactl").exists():
        pytest.skip("this machine has a GPU")
    encoder = OnnxEncoder(tiny_bundle / "image.onnx", dim=16, provider="auto", threads=1)
    assert encoder.provider == "CPUExecutionProvider"


def test_a_graph_that_is_none_or_of_another_dim_is_refused(tiny_bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "x.onnx").write_bytes(b"not a graph")
    with pytest.raises(BundleUnusable, match="cannot load"):
        OnnxEncoder(tmp_path / "x.onnx", dim=16, provider="cpu", threads=1)
    with pytest.raises(BundleUnusable, match="the manifest says dim 17"):
        OnnxEncoder(tiny_bundle / "image.onnx", dim=17, provider="cpu", threads=1)


class Wrong:
    dim = 16

    def encode(self, rows: Row) -> F32:
        return np.full((len(rows), 16), np.nan, np.float32)


def test_a_warm_up_that_goes_wrong_keeps_the_server_from_starting(encoder: OnnxEncoder) -> None:
    warm_up(encoder, [(1, 32, 32, 3), (4, 32, 32, 3)], np.uint8)
    with pytest.raises(BundleUnusable, match="failed on rows of shape"):
        warm_up(encoder, [(1, 7)], np.uint8)
    with pytest.raises(BundleUnusable, match="expected finite"):
        warm_up(Wrong(), [(1, 32, 32, 3)], np.uint8)
