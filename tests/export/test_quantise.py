"""Products in 8 bits: right by hand, the same in any company, left out where they do harm, or refused."""

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from nearlight.bundle.folder import Bundle
from nearlight.export.calibration import calibrate, observe
from nearlight.export.candidates import DriftTarget, _counts, int8_tower
from nearlight.export.errors import GraphError, ParityError
from nearlight.export.exporter import ExportOptions, export_subject
from nearlight.export.onnx_file import open_runner, open_session
from nearlight.export.quantise import named, products, quantised
from nearlight.export.retrieval import neighbour_overlap
from nearlight.export.subject import Subject
from tests.export.conftest import runner

RNG = np.random.default_rng(0)
ROWS = [RNG.normal(size=(8, 32)).astype(np.float32) for _ in range(12)]


def layered(*, outlier: float = 1.0, layers: int = 3) -> onnx.ModelProto:
    """32 numbers through matrix products (every other one a Gemm with a bias) and Tanh, then unit length.

    `outlier` stretches one number that goes into the second product, as trained towers have them.
    """
    rng = np.random.default_rng(1)
    stretch = np.ones(32, np.float32)
    stretch[5] = outlier
    weights = [numpy_helper.from_array(stretch, "stretch")]
    nodes, at = [], "rows"
    for layer in range(layers):
        values = rng.normal(size=(32, 32)).astype(np.float32) / 6
        if layer == 1:
            nodes.append(helper.make_node("Mul", [at, "stretch"], ["stretched"]))
            at = "stretched"
            values[5] /= outlier
        weights.append(numpy_helper.from_array(values.T if layer % 2 else values, f"w{layer}"))
        weights.append(numpy_helper.from_array(rng.normal(size=32).astype(np.float32), f"b{layer}"))
        if layer % 2:
            nodes.append(
                helper.make_node("Gemm", [at, f"w{layer}", f"b{layer}"], [f"y{layer}"], f"g{layer}", transB=1)
            )
        else:
            nodes.append(helper.make_node("MatMul", [at, f"w{layer}"], [f"y{layer}"], f"m{layer}"))
        nodes.append(helper.make_node("Tanh", [f"y{layer}"], [f"t{layer}"]))
        at = f"t{layer}"
    nodes += [
        helper.make_node("ReduceL2", [at, "axis"], ["length"], keepdims=1),
        helper.make_node("Div", [at, "length"], ["vectors"]),
    ]
    weights.append(numpy_helper.from_array(np.array([-1], np.int64), "axis"))
    given = helper.make_tensor_value_info("rows", TensorProto.FLOAT, ["batch", 32])
    out = helper.make_tensor_value_info("vectors", TensorProto.FLOAT, ["batch", 32])
    graph = helper.make_graph(nodes, "layers", [given], [out], weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)


def run(model: onnx.ModelProto, rows: np.ndarray) -> np.ndarray:
    return open_runner(model, "rows")(rows)


def test_products_are_found() -> None:
    found = products(named(layered()))
    assert [(p.node, p.given, p.weight, p.axis, p.bias) for p in found] == [
        ("m0", "rows", "w0", 1, ""),
        ("g1", "stretched", "w1", 0, "b1"),
        ("m2", "t1", "w2", 1, ""),
    ]


def test_ranges_are_those_of_the_inputs() -> None:
    model = named(layered())
    ranges = calibrate(model, observe(model, "rows", ROWS)).ranges
    every = np.concatenate(ROWS)
    assert ranges["rows"] == (float(every.min()), float(every.max()))
    assert set(ranges) == {"rows", "stretched", "t1"}


def test_one_product_by_hand() -> None:
    """Round and clip as 8 bits do, multiply in float64, compare."""
    model = named(layered(layers=1))
    calibration = calibrate(model, observe(model, "rows", ROWS))
    content = quantised(model, calibration.ranges)
    weights = {w.name: numpy_helper.to_array(w).astype(np.float64) for w in model.graph.initializer}
    low, high = calibration.ranges["rows"]
    scale = np.float32((high - low) / 255)
    zero = round(-low / float(scale))
    rows = ROWS[3] * 1.7  # some beyond the calibrated range: they are clipped
    coarse = (np.clip(np.round(rows / scale) + zero, 0, 255) - zero) * scale
    column_scales = np.abs(weights["w0"]).max(axis=0) / 127
    rough = np.round(weights["w0"] / column_scales) * column_scales
    expected = np.tanh(coarse @ rough)
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    np.testing.assert_allclose(run(content, rows), expected, atol=2e-6)


def test_weights_are_stored_in_8_bits() -> None:
    model = named(layered())
    done = quantised(model, calibrate(model, observe(model, "rows", ROWS)).ranges)
    kinds = {w.name: w.data_type for w in done.graph.initializer}
    assert not {"w0", "w1", "w2"} & kinds.keys()
    whole = [kinds[f"{node}.weight.whole"] for node in ("m0", "g1", "m2")]
    assert whole == [TensorProto.INT8] * 3
    assert kinds["g1.bias.whole"] == TensorProto.INT32


@pytest.mark.parametrize("empty", [False, True])
def test_a_layer_with_a_bias_by_hand(empty: bool, tmp_path: Path) -> None:
    """All of it in 8 bits, the bias with it; a column of zeros leaves its bias as it was."""
    rng = np.random.default_rng(6)
    weight, bias = (rng.normal(size=shape).astype(np.float32) for shape in ((32, 24), (24,)))
    if empty:
        weight[:, 3] = 0
    nodes = [
        helper.make_node("Gemm", ["rows", "w", "b"], ["y"], "g"),
        helper.make_node("LpNormalization", ["y"], ["vectors"], axis=1, p=2),
    ]
    given, out = (
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", width])
        for name, width in (("rows", 32), ("vectors", 24))
    )
    weights = [numpy_helper.from_array(weight, "w"), numpy_helper.from_array(bias, "b")]
    graph = helper.make_graph(nodes, "layer", [given], [out], weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    done = quantised(model, calibrate(model, observe(model, "rows", ROWS)).ranges)
    found = run(done, ROWS[0])
    expected = ROWS[0] @ weight + bias
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    assert (found * expected).sum(axis=1).min() > 0.9995
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "optimised.onnx")
    options.log_severity_level = 4
    open_session(done, options)
    kinds = [node.op_type for node in onnx.load(tmp_path / "optimised.onnx").graph.node]
    assert "QGemm" in kinds  # and not Gemm: a float32 product would be no faster
    assert "Gemm" not in kinds


def test_a_vector_does_not_depend_on_its_batch_mates() -> None:
    """What dynamic quantisation breaks: a loud neighbour coarsens the scale."""
    content, _ = int8_tower("image", layered(), "rows", ROWS, DriftTarget(0.9, 0.5))
    alone = run(content, ROWS[0][:1])
    loud = RNG.normal(size=(7, 32)).astype(np.float32) * 100
    np.testing.assert_array_equal(run(content, np.concatenate([ROWS[0][:1], loud]))[:1], alone)


def test_the_layer_that_does_harm_is_left_out() -> None:
    content = layered(outlier=300.0)
    model = named(content)
    errors = calibrate(model, observe(model, "rows", ROWS)).errors
    assert max(errors, key=lambda node: errors[node]) == "g1"
    _, report = int8_tower("image", content, "rows", ROWS, DriftTarget(0.995, 0.8))
    assert report["left_out"] == ["g1"]
    tried = report["tried"]
    assert isinstance(tried, list)
    assert [candidate["left_out"] for candidate in tried] == [0, 1]  # type: ignore[call-overload, index]
    assert tried[0]["min_cosine"] < 0.995 <= tried[1]["min_cosine"]  # type: ignore[call-overload, index, operator]


def test_no_candidate_is_a_refusal() -> None:
    with pytest.raises(
        ParityError, match=r"no int8 candidate holds; the best has least cosine 0\.9.* is 1\.0 and 1"
    ):
        int8_tower("image", layered(), "rows", ROWS, DriftTarget(1.0, 1.0))
    with pytest.raises(GraphError, match="it has no matrix product by a constant"):
        int8_tower("image", layered(layers=0), "rows", ROWS, DriftTarget())
    with pytest.raises(ValueError, match=r"min_overlap is 1\.5; it must be 0 to 1"):
        DriftTarget(min_overlap=1.5)


def test_overlap_by_hand() -> None:
    expected = RNG.normal(size=(15, 4)).astype(np.float32)
    found = expected + RNG.normal(size=(15, 4)).astype(np.float32) * 0.5
    shares = []
    for index in range(15):
        others = [other for other in range(15) if other != index]
        near = [
            set(sorted(others, key=lambda other: -float(vectors[index] @ vectors[other]))[:10])  # noqa: B023
            for vectors in (expected, found)
        ]
        shares.append(len(near[0] & near[1]) / 10)
    assert neighbour_overlap(expected, found) == pytest.approx(sum(shares) / 15)
    assert neighbour_overlap(expected, expected) == 1.0
    assert neighbour_overlap(expected[:1], found[:1]) == 1.0


def test_fewest_layers_first() -> None:
    assert list(_counts(3)) == [0, 1, 2]
    assert list(_counts(48)) == [0, 1, 2, 3, 4, 6, 8, 12, 16, 24, 32]


def test_a_run_in_int8(full: Bundle, exported: Subject, tmp_path: Path) -> None:
    options = ExportOptions(drift=DriftTarget(0.99, 0.8))
    bundle = export_subject(exported, tmp_path / "int8", "int8", options)
    assert bundle.manifest.precision == "int8"
    assert bundle.manifest.space_id != full.manifest.space_id
    for tower in ("image", "text"):
        parity = bundle.manifest.parity[tower]
        assert isinstance(parity, dict)
        assert parity["min_cosine"] >= 0.99  # type: ignore[operator]
        assert parity["int8"]["tried"][-1]["overlap_at_10"] >= 0.8  # type: ignore[index, call-overload, operator]
    tokenizer, embed = bundle.tokenizer(), runner(bundle.text_path)
    texts = ["a dog", "a dog on the beach with a red ball", "x"]
    together = embed(tokenizer.encode(texts))
    for index, text in enumerate(texts):  # neither padding nor mates matter
        np.testing.assert_allclose(embed(tokenizer.encode([text], trim=True))[0], together[index], atol=2e-6)
    plain = runner(full.text_path)(tokenizer.encode(texts))
    assert (plain * together).sum(axis=1).min() > 0.99
