"""Even channels: the same function, far better in 8 bits where some stand out."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from nearlight.export.calibration import calibrate, observe
from nearlight.export.equalise import equalised
from nearlight.export.onnx_file import open_runner
from nearlight.export.quantise import named, quantised

RNG = np.random.default_rng(2)
ROWS = [RNG.normal(size=(16, 4, 32)).astype(np.float32) for _ in range(4)]


def normed(*, elsewhere: bool = False) -> onnx.ModelProto:
    """A LayerNorm of which two channels are 200 times as large, two layers on it that make up for that."""
    scale = RNG.uniform(0.5, 1.5, 32).astype(np.float32)
    scale[[3, 17]] *= 200
    shift = RNG.normal(size=32).astype(np.float32)
    first = (RNG.normal(size=(24, 32)) / np.maximum(scale / 2, 1) / 6).astype(np.float32)  # (N, K), transB
    second = (RNG.normal(size=(32, 24)) / np.maximum(scale / 2, 1)[:, None] / 6).astype(np.float32)
    weights = {"scale": scale, "shift": shift, "first": first, "second": second}
    weights |= {"b": RNG.normal(size=24).astype(np.float32), "flat": np.array([-1, 32], np.int64)}
    nodes = [
        helper.make_node("LayerNormalization", ["rows", "scale", "shift"], ["n"], axis=-1),
        helper.make_node("Reshape", ["n", "flat"], ["m"]),
        helper.make_node("Gemm", ["m", "first", "b"], ["one"], transB=1),
        helper.make_node("MatMul", ["m", "second"], ["two"]),
        helper.make_node("Add", ["one", "two"], ["sum"]),
    ]
    if elsewhere:
        nodes.append(helper.make_node("ReduceMean", ["n"], ["mean"], keepdims=0))
        nodes.append(helper.make_node("Mul", ["sum", "mean"], ["product"]))
    last = "product" if elsewhere else "sum"
    nodes.append(helper.make_node("LpNormalization", [last], ["vectors"], axis=1, p=2))
    given = helper.make_tensor_value_info("rows", TensorProto.FLOAT, ["batch", 4, 32])
    out = helper.make_tensor_value_info("vectors", TensorProto.FLOAT, ["rows", 24])
    stored = [numpy_helper.from_array(values, name) for name, values in weights.items()]
    graph = helper.make_graph(nodes, "normed", [given], [out], stored)
    return named(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9))


def test_nothing_changes_in_float32() -> None:
    model = normed()
    even, _ = equalised(model, observe(model, "rows", ROWS))
    found, expected = (open_runner(graph, "rows")(ROWS[1]) for graph in (even, model))
    np.testing.assert_allclose(found, expected, atol=2e-6)
    assert "scale" in {weight.name for weight in model.graph.initializer}  # the one given is left as it was


def test_what_calibration_would_see_is_told() -> None:
    model = normed()
    even, told = equalised(model, observe(model, "rows", ROWS))
    seen = observe(even, "rows", ROWS)
    for tensor in seen.lows:
        np.testing.assert_allclose(told.lows[tensor], seen.lows[tensor], rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(told.highs[tensor], seen.highs[tensor], rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(told.rows[tensor], seen.rows[tensor], rtol=1e-3, atol=1e-4)


def test_8_bits_then_lose_far_less() -> None:
    model = normed()
    expected = open_runner(model, "rows")(ROWS[2])
    cosines = []
    for graph, seen in (
        (model, observe(model, "rows", ROWS)),
        equalised(model, observe(model, "rows", ROWS)),
    ):
        done = quantised(graph, calibrate(graph, seen).ranges)
        cosines.append(float((open_runner(done, "rows")(ROWS[2]) * expected).sum(axis=1).min()))
    plain, even = cosines
    assert even > 0.999
    assert (1 - plain) > 10 * (1 - even)


@pytest.mark.parametrize("elsewhere", [True, False])
def test_a_norm_that_is_read_elsewhere_stays(elsewhere: bool) -> None:
    model = normed(elsewhere=elsewhere)
    even, _ = equalised(model, observe(model, "rows", ROWS))
    norm = next(node for node in even.graph.node if node.op_type == "LayerNormalization")
    assert (norm.input[1] == "scale") == elsewhere
