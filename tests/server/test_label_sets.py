"""Label sets through a real server: kept over restarts, used by Classify, calibrated in their space only."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import numpy.typing as npt
import pytest

from nearlight.server.config import ServerConfig
from nearlight.server.local import LocalServer
from nearlight.v1 import embedding_pb2
from nearlight.v1.embedding_pb2 import Calibration, ClassifyRequest, Label, Labels, LabelSet

NAMES = ["dog", "cat", "car", "tree"]
LABELS = Labels(
    labels=[Label(name="dog", words=["dog", "puppy"]), *(Label(name=name) for name in NAMES[1:])],
    templates=["a photo of a {}.", "the {}"],
)
FITTED = Calibration(temperature=2.5, ece_before=0.25, ece_after=0.125, images=80, held_out_images=20)


def put(stubs: Any, name: str, **fields: Any) -> LabelSet:
    request = embedding_pb2.PutLabelSetRequest(label_set=LabelSet(name=name, **{"labels": LABELS, **fields}))
    stored: LabelSet = stubs.embedding.PutLabelSet(request)
    return stored


def probabilities_of(reply: embedding_pb2.ClassifyResponse) -> npt.NDArray[np.float64]:
    """(N, L), in the order of the labels."""
    rows = np.zeros((len(reply.results), len(NAMES)))
    for row, result in zip(rows, reply.results, strict=True):
        for label in result.labels:
            row[label.index] = label.probability
    return rows


def logits_of(reply: embedding_pb2.ClassifyResponse, scale: float, bias: float) -> npt.NDArray[np.float64]:
    rows = np.zeros((len(reply.results), len(NAMES)))
    for row, result in zip(rows, reply.results, strict=True):
        for label in result.labels:
            row[label.index] = scale * label.score + bias
    return rows


def test_sets_outlive_several_servers(
    tiny_bundle: Path,
    tmp_path: Path,
    config_of: Callable[..., ServerConfig],
    stubs_of: Callable[[grpc.Channel], Any],
    images: list[bytes],
) -> None:
    stored, answers = [], []
    for turn in range(3):
        with (
            LocalServer(config_of([tiny_bundle], tmp_path)) as server,
            grpc.insecure_channel(server.address) as channel,
        ):
            stubs = stubs_of(channel)
            if turn == 0:
                stored = [put(stubs, "b", min_probability=0.5), put(stubs, "a", calibration=FITTED)]
            reply = stubs.embedding.ListLabelSets(embedding_pb2.ListLabelSetsRequest())
            assert list(reply.label_sets) == sorted(stored, key=lambda one: one.name)
            request = ClassifyRequest(label_set="a", images=images[:2])
            answers.append(probabilities_of(stubs.embedding.Classify(request)))
            if turn == 1:
                stubs.embedding.DeleteLabelSet(embedding_pb2.DeleteLabelSetRequest(name="b"))
                stored = stored[1:]
    np.testing.assert_array_equal(answers[0], answers[2])
    assert stored[0].updated_unix_ms > 1_700_000_000_000


def test_a_set_is_the_same_as_its_labels(stubs: Any, images: list[bytes]) -> None:
    put(stubs, "same")
    by_name = stubs.embedding.Classify(ClassifyRequest(label_set="same", images=images[:4]))
    by_hand = stubs.embedding.Classify(ClassifyRequest(labels=LABELS, images=images[:4]))
    assert by_name.results == by_hand.results
    assert (by_name.calibrated, by_hand.calibrated, by_hand.labels_cached) == (False, False, True)
    put(stubs, "same", labels=Labels(labels=LABELS.labels[:2]))  # replaced: with the default templates now
    (result,) = stubs.embedding.Classify(ClassifyRequest(label_set="same", images=images[:1])).results
    assert sorted(label.label for label in result.labels) == ["cat", "dog"]


def test_a_calibration_divides_the_logits(stubs: Any, images: list[bytes]) -> None:
    put(stubs, "warm", calibration=FITTED)
    reply = stubs.embedding.Classify(ClassifyRequest(label_set="warm", images=images[:4]))
    powers = np.exp(logits_of(reply, 20.0, 0.0) / 2.5)
    np.testing.assert_allclose(probabilities_of(reply), powers / powers.sum(axis=1, keepdims=True), atol=1e-6)
    assert reply.calibrated
    assert put(stubs, "warm", calibration=FITTED).space_id == reply.space_id


def test_a_calibration_of_a_sigmoid_model_has_a_bias(stubs: Any, images: list[bytes]) -> None:
    put(stubs, "each", model="sigmoid", calibration=Calibration(temperature=0.5, bias=3.0))
    reply = stubs.embedding.Classify(ClassifyRequest(label_set="each", images=images[:4]))
    assert (reply.model, reply.calibrated) == ("sigmoid", True)
    logits = logits_of(reply, 20.0, -2.0) / 0.5 + 3.0
    np.testing.assert_allclose(probabilities_of(reply), 1 / (1 + np.exp(-logits)), atol=1e-6)


def test_a_calibration_is_used_in_its_space_and_for_its_scoring_only(stubs: Any, images: list[bytes]) -> None:
    put(stubs, "softmax", calibration=FITTED)
    put(stubs, "each", model="sigmoid", calibration=Calibration(temperature=0.5, bias=3.0))
    for fields in (
        {"label_set": "softmax", "model": "sigmoid"},
        {"label_set": "each", "model": "tiny"},
        {"label_set": "each", "multi_label": False},
    ):
        reply = stubs.embedding.Classify(ClassifyRequest(images=images[:2], **fields))
        fields.pop("label_set")
        fields.setdefault("model", "sigmoid")
        raw = stubs.embedding.Classify(ClassifyRequest(images=images[:2], labels=LABELS, **fields))
        assert reply.results == raw.results
        assert not reply.calibrated
    assert stubs.embedding.Classify(
        ClassifyRequest(images=images[:2], label_set="each", multi_label=True)
    ).calibrated


def test_the_sets_own_threshold_holds_unless_the_call_has_one(stubs: Any, images: list[bytes]) -> None:
    put(stubs, "sure", min_probability=1.0)

    def abstained(**fields: Any) -> bool:
        reply = stubs.embedding.Classify(ClassifyRequest(images=images[:1], label_set="sure", **fields))
        assert len(reply.results[0].labels) == 4
        return bool(reply.results[0].abstained)

    assert abstained()
    assert not abstained(min_probability=0.01)
    assert not abstained(min_probability=0.0)  # given, though zero


def test_pages_are_cut_by_count_and_by_size(stubs: Any) -> None:
    many = Labels(labels=[Label(name=f"{i:0100}") for i in range(9_000)])  # about 1 MB; a message holds 4
    names = [f"page-{i:02}" for i in range(40)]
    for name in names:
        put(stubs, name, labels=many if name in names[3:11] else LABELS)
    found: list[str] = []
    sizes = []
    token = ""
    while not found or token:
        request = embedding_pb2.ListLabelSetsRequest(page_size=15, page_token=token)
        page = stubs.embedding.ListLabelSets(request)
        found += [one.name for one in page.label_sets]
        sizes.append(len(page.label_sets))
        assert page.ByteSize() <= 4_000_000
        token = page.next_page_token
    assert [name for name in found if name.startswith("page-")] == names
    assert found == sorted(set(found))
    assert max(sizes) == 15
    assert min(sizes[:-1]) < 15
    for name in names:
        stubs.embedding.DeleteLabelSet(embedding_pb2.DeleteLabelSetRequest(name=name))


INVALID, MISSING = grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.NOT_FOUND
IMPOSSIBLE = grpc.StatusCode.FAILED_PRECONDITION


@pytest.mark.parametrize(
    ("fields", "code", "words"),
    [
        ({"name": ""}, INVALID, "label_set.name is ''"),
        ({"name": "a b"}, INVALID, "1 to 128 of A-Z"),
        ({"labels": Labels()}, INVALID, "label_set.labels.labels holds 0 items"),
        (
            {"labels": Labels(labels=[Label(name="a"), Label(name="a")])},
            INVALID,
            "label_set.labels.labels[1].name",
        ),
        (
            {"labels": Labels(labels=[Label(name="a", words=["x", " "])])},
            INVALID,
            "labels[0].words[1] is blank",
        ),
        (
            {"labels": Labels(labels=[Label(name="a")], templates=["none"])},
            INVALID,
            "label_set.labels.templates[0]",
        ),
        ({"min_probability": 1.5}, INVALID, "min_probability is 1.5; the limit is 0 to 1"),
        ({"min_probability": float("nan")}, INVALID, "min_probability is nan"),
        ({"calibration": Calibration()}, INVALID, "temperature is 0.0; it must be finite and above 0"),
        ({"calibration": Calibration(temperature=float("inf"))}, INVALID, "temperature is inf"),
        ({"calibration": Calibration(temperature=1, bias=1)}, INVALID, "bias is 1.0; it must be 0"),
        ({"model": "gone"}, MISSING, "model 'gone' is not loaded"),
        ({"model": "eye"}, IMPOSSIBLE, "'eye' has no text tower"),
        ({"calibration": FITTED, "space_id": "f" * 64}, IMPOSSIBLE, "label_set.space_id is 'ffff"),
    ],
)
def test_what_put_refuses(stubs: Any, fields: dict[str, Any], code: grpc.StatusCode, words: str) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        put(stubs, **{"name": "refused", **fields})
    assert caught.value.code() is code
    assert words in str(caught.value.details())


def test_names_that_are_not_there_or_taken(stubs: Any, images: list[bytes]) -> None:
    put(stubs, "taken")
    wanted = LabelSet(name="taken", labels=LABELS)
    calls: list[tuple[Callable[[], Any], grpc.StatusCode, str]] = [
        (
            lambda: stubs.embedding.PutLabelSet(
                embedding_pb2.PutLabelSetRequest(label_set=wanted, only_if_absent=True)
            ),
            grpc.StatusCode.ALREADY_EXISTS,
            "'taken' exists",
        ),
        (lambda: stubs.embedding.GetLabelSet(embedding_pb2.GetLabelSetRequest(name="no")), MISSING, "'no'"),
        (
            lambda: stubs.embedding.DeleteLabelSet(embedding_pb2.DeleteLabelSetRequest(name="no")),
            MISSING,
            "'no'",
        ),
        (
            lambda: stubs.embedding.Classify(ClassifyRequest(label_set="no", images=images[:1])),
            MISSING,
            "there is no label set 'no'",
        ),
        (
            lambda: stubs.embedding.Classify(ClassifyRequest(label_set="", images=images[:1])),
            INVALID,
            "label_set is empty",
        ),
        (
            lambda: stubs.embedding.ListLabelSets(embedding_pb2.ListLabelSetsRequest(page_size=1001)),
            INVALID,
            "page_size is 1001",
        ),
        (
            lambda: stubs.embedding.ListLabelSets(embedding_pb2.ListLabelSetsRequest(page_token="no token")),
            INVALID,
            "page_token",
        ),
    ]
    for call, code, words in calls:
        with pytest.raises(grpc.RpcError) as caught:
            call()
        assert caught.value.code() is code
        assert words in str(caught.value.details())


def test_the_vectors_of_a_set_are_not_computed_again_after_a_restart(
    tiny_bundle: Path,
    tmp_path: Path,
    config_of: Callable[..., ServerConfig],
    stubs_of: Callable[[grpc.Channel], Any],
    images: list[bytes],
) -> None:
    replies = []
    for turn in range(2):
        with (
            LocalServer(config_of([tiny_bundle], tmp_path)) as server,
            grpc.insecure_channel(server.address) as channel,
        ):
            stubs = stubs_of(channel)
            if turn == 0:
                put(stubs, "kept")
            replies.append(stubs.embedding.Classify(ClassifyRequest(images=images[:3], label_set="kept")))
            again = stubs.embedding.Classify(ClassifyRequest(images=images[:3], labels=LABELS))
            assert again.labels_cached
    assert [reply.labels_cached for reply in replies] == [False, True]
    assert np.array_equal(probabilities_of(replies[0]), probabilities_of(replies[1]))
