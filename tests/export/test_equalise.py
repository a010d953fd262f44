"""Even channels: the same function, far better in 8 bits where some stand out or lie far from zero."""

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


def normed(*, elsewhere: bool = False, far: bool = False, picked: bool = False) -> onnx.ModelProto:
    """A LayerNorm of which two channels are 200 times as large, two layers on it that make up for that.

    With `far` no channel is large, but all lie far from zero, and both layers can hold a bias; with `picked`
    the second layer takes only the first of each four rows.
    """
    scale = RNG.uniform(0.5, 1.5, 32).astype(np.float32)
    scale[[3, 17]] *= 1 if far else 200
    shift = RNG.normal(size=32).astype(np.float32) * (100 if far else 1)
    first = (RNG.normal(size=(24, 32)) / np.maximum(scale / 2, 1) / 6).astype(np.float32)  # (N, K), transB
    second = (RNG.normal(size=(32, 24)) / np.maximum(scale / 2, 1)[:, None] / 6).astype(np.float32)
    weights = {"scale": scale, "shift": shift, "first": first, "second": second}
    weights |= {"b": RNG.normal(size=24).astype(np.float32), "flat": np.array([-1, 32], np.int64)}
    nodes = [
        helper.make_node("LayerNormalization", ["rows", "scale", "shift"], ["n"], axis=-1),
        helper.make_node("Reshape", ["n", "flat"], ["m"]),
        helper.make_node("Gemm", ["m", "first", "b"], ["one"], transB=1),
        helper.make_node("Slice", ["n", "zero", "one_row", "axis"], ["first_rows"]),
        helper.make_node("Reshape", ["first_rows", "flat"], ["picked"]),
        helper.make_node("Gemm" if far else "MatMul", ["picked" if picked else "m", "second"], ["two"]),
        helper.make_node("ReduceMean", ["one"], ["mean_of_one"], keepdims=1),
        helper.make_node("Add", ["mean_of_one" if picked else "one", "two"], ["sum"]),
    ]
    weights |= {"zero": np.array([0], np.int64), "one_row": np.array([1], np.int64)}
    weights["axis"] = np.array([1], np.int64)
    if not picked:
        nodes = [node for node in nodes if node.output[0] not in ("first_rows", "picked", "mean_of_one")]
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


@pytest.mark.parametrize("far", [False, True])
@pytest.mark.parametrize("picked", [False, True])
def test_nothing_changes_in_float32(far: bool, picked: bool) -> None:
    model = normed(far=far, picked=picked)
    even, _ = equalised(model, observe(model, "rows", ROWS))
    found, expected = (open_runner(graph, "rows")(ROWS[1]) for graph in (even, model))
    np.testing.assert_allclose(found, expected, atol=1e-5 if far else 2e-6)
    norm = next(node for node in even.graph.node if node.op_type == "LayerNormalization")
    assert norm.input[1] != "scale"  # all that it goes into was found
    assert "scale" in {weight.name for weight in model.graph.initializer}  # the one given is left as it was


@pytest.mark.parametrize("far", [False, True])
def test_what_calibration_would_see_is_told(far: bool) -> None:
    model = normed(far=far)
    even, told = equalised(model, observe(model, "rows", ROWS))
    seen = observe(even, "rows", ROWS)
    for tensor in seen.lows:
        np.testing.assert_allclose(told.lows[tensor], seen.lows[tensor], rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(told.highs[tensor], seen.highs[tensor], rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(told.rows[tensor], seen.rows[tensor], rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("far", [False, True])
def test_8_bits_then_lose_far_less(far: bool) -> None:
    model = normed(far=far)
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
