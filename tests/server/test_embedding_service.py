import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import numpy.typing as npt
import onnxruntime
import pytest

from nearlight.bundle.folder import Bundle
from nearlight.bundle.image import ImageLimits, load_pixels
from nearlight.bundle.prompts import probabilities
from nearlight.v1 import embedding_pb2, input_pb2, vector_pb2

F32 = npt.NDArray[np.float32]
TEXTS = [
    "a dog",
    "a cat on a mat",
    "the quick brown fox jumps over the lazy dog near the old river bank",
    "7",
]


@pytest.fixture(scope="module")
def image_vectors(tiny_bundle: Path) -> Callable[[list[bytes]], F32]:
    """The oracle: one image at a time, straight through ONNX Runtime."""
    bundle = Bundle.open(tiny_bundle)
    session = onnxruntime.InferenceSession(str(bundle.image_path), providers=["CPUExecutionProvider"])
    spec = bundle.manifest.towers.image.preprocess

    def embed(images: list[bytes]) -> F32:
        rows = [load_pixels(image, spec, ImageLimits())[np.newaxis] for image in images]
        return np.concatenate([session.run(None, {"pixels": row})[0] for row in rows])

    return embed


@pytest.fixture(scope="module")
def text_vectors(tiny_bundle: Path) -> Callable[[list[str]], F32]:
    """The oracle: one text at a time, at the full context length."""
    bundle = Bundle.open(tiny_bundle)
    session = onnxruntime.InferenceSession(str(bundle.text_path), providers=["CPUExecutionProvider"])
    tokenizer = bundle.tokenizer()

    def embed(texts: list[str]) -> F32:
        return np.concatenate([session.run(None, {"tokens": tokenizer.encode([text])})[0] for text in texts])

    return embed


def image(content: bytes) -> input_pb2.Input:
    return input_pb2.Input(image=content)


def text(content: str) -> input_pb2.Input:
    return input_pb2.Input(text=content)


def rows(block: vector_pb2.VectorBlock) -> F32:
    dtype = "<f2" if block.dtype == vector_pb2.DTYPE_F16 else "<f4"
    return np.frombuffer(block.data, dtype).reshape(block.count, block.dim).astype(np.float32)


def test_images_and_texts_of_one_call_keep_their_places(
    stubs: Any, images: list[bytes], image_vectors: Any, text_vectors: Any
) -> None:
    inputs = [image(images[0]), text(TEXTS[0]), image(images[1]), text(TEXTS[1]), text(TEXTS[2])]
    reply = stubs.embedding.Embed(embedding_pb2.EmbedRequest(inputs=inputs))
    assert not reply.errors
    vectors = rows(reply.vectors)
    np.testing.assert_allclose(vectors[[0, 2]], image_vectors(images[:2]), atol=1e-6)
    np.testing.assert_allclose(vectors[[1, 3, 4]], text_vectors(TEXTS[:3]), atol=1e-6)
    assert reply.model == "tiny"
    assert len(reply.space_id) == 64
    assert reply.timings.total_ms >= reply.timings.infer_ms > 0


def test_a_vector_does_not_depend_on_who_asks_at_the_same_time(
    stubs: Any, images: list[bytes], image_vectors: Any, text_vectors: Any
) -> None:
    wanted_images, wanted_texts = image_vectors(images), text_vectors(TEXTS)
    failures: list[str] = []

    def caller(number: int) -> None:
        rng = np.random.default_rng(number)
        for _ in range(5):
            picked = rng.permutation(len(images))[: rng.integers(1, 20)]
            words = rng.permutation(len(TEXTS))[:2]
            inputs = [image(images[i]) for i in picked] + [text(TEXTS[i]) for i in words]
            reply = stubs.embedding.Embed(embedding_pb2.EmbedRequest(inputs=inputs))
            wanted = np.concatenate([wanted_images[picked], wanted_texts[words]])
            if reply.errors or not np.allclose(rows(reply.vectors), wanted, atol=1e-6):
                failures.append(f"caller {number}: {reply.errors}")

    threads = [threading.Thread(target=caller, args=(n,)) for n in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []


def test_f16_is_close_and_half_as_long(stubs: Any, images: list[bytes], image_vectors: Any) -> None:
    request = embedding_pb2.EmbedRequest(inputs=[image(images[0])], dtype=vector_pb2.DTYPE_F16)
    reply = stubs.embedding.Embed(request)
    assert len(reply.vectors.data) == 2 * reply.vectors.dim
    assert float(rows(reply.vectors)[0] @ image_vectors(images[:1])[0]) > 0.99999


def test_a_text_longer_than_the_context_is_cut_and_said_so_or_refused(stubs: Any, text_vectors: Any) -> None:
    long = "dog " * 100
    reply = stubs.embedding.Embed(embedding_pb2.EmbedRequest(inputs=[text("dog"), text(long)]))
    assert list(reply.truncated) == [1]
    np.testing.assert_allclose(rows(reply.vectors)[1], text_vectors([long])[0], atol=1e-6)
    reply = stubs.embedding.Embed(
        embedding_pb2.EmbedRequest(inputs=[text("dog"), text(long)], truncate=False)
    )
    assert [(error.index, error.code, error.field) for error in reply.errors] == [(1, 3, "inputs[1].text")]
    assert "the limit is 77" in reply.errors[0].message


def test_a_text_of_exactly_the_context_is_not_cut(stubs: Any) -> None:
    reply = stubs.embedding.Embed(embedding_pb2.EmbedRequest(inputs=[text("7 " * 75), text("7 " * 76)]))
    assert list(reply.truncated) == [1]


def test_an_image_encoder_says_so_when_asked_for_text(stubs: Any, images: list[bytes]) -> None:
    request = embedding_pb2.EmbedRequest(model="eye", inputs=[image(images[0]), text("a dog")])
    reply = stubs.embedding.Embed(request)
    assert [(error.index, error.code) for error in reply.errors] == [(1, 9)]
    assert "'eye' has no text tower" in reply.errors[0].message
    assert np.linalg.norm(rows(reply.vectors)[0]) == pytest.approx(1, abs=1e-5)
    assert not rows(reply.vectors)[1].any()


@pytest.mark.parametrize(
    ("fields", "code", "words"),
    [
        ({"normalize": False}, grpc.StatusCode.UNIMPLEMENTED, "normalize"),
        (
            {"dim": 8},
            grpc.StatusCode.UNIMPLEMENTED,
            "dim 8 is none of the lengths that model 'tiny' allows: 12, 16",
        ),
        ({"dim": 17}, grpc.StatusCode.INVALID_ARGUMENT, "dim is 17; the limit is 16"),
        ({"dtype": 9}, grpc.StatusCode.INVALID_ARGUMENT, "dtype is 9"),
        (
            {"model": "nobody"},
            grpc.StatusCode.NOT_FOUND,
            "'nobody' is not loaded; loaded: eye, sigmoid, tiny",
        ),
        ({"inputs": []}, grpc.StatusCode.INVALID_ARGUMENT, "inputs holds 0 items; the limit is 1 to 256"),
        ({"inputs": [text("x")] * 257}, grpc.StatusCode.INVALID_ARGUMENT, "inputs holds 257 items"),
    ],
)
def test_what_embed_refuses(stubs: Any, fields: dict[str, Any], code: grpc.StatusCode, words: str) -> None:
    request = embedding_pb2.EmbedRequest(**{"inputs": [text("x")], **fields})
    with pytest.raises(grpc.RpcError) as caught:
        stubs.embedding.Embed(request)
    assert caught.value.code() is code
    assert words in str(caught.value.details())


def batches(images: list[bytes], n: int) -> Iterator[embedding_pb2.EmbedStreamRequest]:
    for i in range(n):
        inputs = [image(images[i % len(images)]), text(f"number {i}")]
        batch = embedding_pb2.EmbedRequest(inputs=inputs, model="nobody" if i % 7 == 3 else "")
        yield embedding_pb2.EmbedStreamRequest(sequence=1000 + i, batch=batch)


def test_a_stream_answers_every_batch_in_order_and_survives_bad_ones(
    stubs: Any, images: list[bytes], image_vectors: Any, text_vectors: Any
) -> None:
    n = 60
    replies = list(stubs.embedding.EmbedStream(batches(images, n)))
    assert [reply.sequence for reply in replies] == [1000 + i for i in range(n)]
    oracle = image_vectors(images)
    for i, reply in enumerate(replies):
        if i % 7 == 3:
            assert reply.error.code == 5
            continue
        vectors = rows(reply.result.vectors)
        np.testing.assert_allclose(vectors[0], oracle[i % len(images)], atol=1e-6)
        np.testing.assert_allclose(vectors[1], text_vectors([f"number {i}"])[0], atol=1e-6)


def test_a_client_that_dies_in_a_stream_hurts_nobody(stubs: Any, images: list[bytes]) -> None:
    for _ in range(5):
        stream = stubs.embedding.EmbedStream(batches(images, 500))
        next(stream)
        stream.cancel()
    assert not stubs.embedding.Embed(embedding_pb2.EmbedRequest(inputs=[text("dog")])).errors


def test_deadlines_of_a_millisecond_and_random_cancels_leave_the_server_well(
    stubs: Any, images: list[bytes], image_vectors: Any
) -> None:
    request = embedding_pb2.EmbedRequest(inputs=[image(content) for content in images])
    calls = [stubs.embedding.Embed.future(request, timeout=0.001 if n % 2 else None) for n in range(100)]
    for call in calls[::4]:
        time.sleep(0.001)
        call.cancel()
    codes = {call.code() for call in calls}
    assert codes <= {
        grpc.StatusCode.OK,
        grpc.StatusCode.CANCELLED,
        grpc.StatusCode.DEADLINE_EXCEEDED,
        grpc.StatusCode.RESOURCE_EXHAUSTED,
    }
    reply = stubs.embedding.Embed(request)
    np.testing.assert_allclose(rows(reply.vectors), image_vectors(images), atol=1e-6)


def classify(images: list[bytes], names: list[str], **fields: Any) -> embedding_pb2.ClassifyRequest:
    labels = embedding_pb2.Labels(
        labels=[embedding_pb2.Label(name=name) for name in names], templates=fields.pop("templates", [])
    )
    return embedding_pb2.ClassifyRequest(images=images, labels=labels, **fields)


TEMPLATES = ["a photo of a {}.", "the {}"]
NAMES = ["dog", "cat", "river", "old bank"]


def by_hand(text_vectors: Any) -> F32:
    """Prototypes: mean of the prompts' vectors, unit length."""
    means = np.stack(
        [text_vectors([t.replace("{}", name) for t in TEMPLATES]).mean(axis=0) for name in NAMES]
    )
    return np.asarray(means / np.linalg.norm(means, axis=1, keepdims=True), np.float32)


def test_classify_equals_the_computation_by_hand(
    stubs: Any, images: list[bytes], image_vectors: Any, text_vectors: Any
) -> None:
    reply = stubs.embedding.Classify(classify(images[:5], NAMES, templates=TEMPLATES, top_k=3))
    cosines = image_vectors(images[:5]) @ by_hand(text_vectors).T
    logits = 20.0 * cosines
    wanted = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    for i, result in enumerate(reply.results):
        order = np.argsort(-wanted[i])[:3]
        assert [label.index for label in result.labels] == list(order)
        assert [label.label for label in result.labels] == [NAMES[j] for j in order]
        np.testing.assert_allclose(
            [label.probability for label in result.labels], wanted[i][order], atol=1e-5
        )
        np.testing.assert_allclose([label.score for label in result.labels], cosines[i][order], atol=1e-5)


def test_label_vectors_are_cached_by_labels_templates_and_model(stubs: Any, images: list[bytes]) -> None:
    names = ["alpha", "beta"]
    seen = [
        stubs.embedding.Classify(request).labels_cached
        for request in (
            classify(images[:1], names, templates=["a {}"]),
            classify(images[:1], names, templates=["a {}"]),
            classify(images[:1], names, templates=["the {}"]),
            classify(images[:1], names[::-1], templates=["a {}"]),
            classify(images[:1], names, templates=["a {}"], model="sigmoid"),
            classify(images[:1], names, templates=["a {}"]),
        )
    ]
    assert seen == [False, True, False, False, False, True]


def test_a_sigmoid_model_judges_each_label_by_itself(
    stubs: Any, images: list[bytes], sigmoid_bundle: Path
) -> None:
    reply = stubs.embedding.Classify(classify(images[:1], NAMES, model="sigmoid"))
    scoring = Bundle.open(sigmoid_bundle).manifest.scoring
    assert scoring is not None
    cosines = np.array([[label.score for label in reply.results[0].labels]], np.float32)
    given = [label.probability for label in reply.results[0].labels]
    np.testing.assert_allclose(given, probabilities(cosines, scoring)[0], atol=1e-5)
    softmax = stubs.embedding.Classify(classify(images[:1], NAMES, model="sigmoid", multi_label=False))
    assert sum(label.probability for label in softmax.results[0].labels) == pytest.approx(1, abs=1e-5)


def test_below_min_probability_an_image_abstains(stubs: Any, images: list[bytes]) -> None:
    assert stubs.embedding.Classify(classify(images[:1], NAMES, min_probability=1.0)).results[0].abstained
    assert not stubs.embedding.Classify(classify(images[:1], NAMES, min_probability=0.1)).results[0].abstained


def test_a_bad_image_is_classified_alone_as_failed(stubs: Any, images: list[bytes]) -> None:
    reply = stubs.embedding.Classify(classify([images[0], b"not an image", images[1]], NAMES))
    assert [(error.index, error.code, error.field) for error in reply.errors] == [(1, 3, "images[1]")]
    assert [len(result.labels) for result in reply.results] == [4, 0, 4]


@pytest.mark.parametrize(
    ("fields", "code", "words"),
    [
        ({"names": []}, grpc.StatusCode.INVALID_ARGUMENT, "labels.labels holds 0 items"),
        ({"names": ["a", "b", "a"]}, grpc.StatusCode.INVALID_ARGUMENT, "labels.labels[2].name is 'a'"),
        ({"names": [" "]}, grpc.StatusCode.INVALID_ARGUMENT, "labels.labels[0].name"),
        ({"names": ["x" * 513]}, grpc.StatusCode.INVALID_ARGUMENT, "513 bytes; the limit is 1 to 512"),
        ({"templates": ["no blank"]}, grpc.StatusCode.INVALID_ARGUMENT, "labels.templates[0] is 'no blank'"),
        ({"templates": ["{} {}"]}, grpc.StatusCode.INVALID_ARGUMENT, "exactly once"),
        ({"templates": ["{}"] * 257}, grpc.StatusCode.INVALID_ARGUMENT, "257 items; the limit is 256"),
        (
            {"min_probability": 1.5},
            grpc.StatusCode.INVALID_ARGUMENT,
            "min_probability is 1.5; the limit is 0 to 1",
        ),
        ({"multi_label": True}, grpc.StatusCode.FAILED_PRECONDITION, "sigmoid"),
        ({"model": "eye"}, grpc.StatusCode.FAILED_PRECONDITION, "'eye' has no text tower"),
        ({"images": []}, grpc.StatusCode.INVALID_ARGUMENT, "images holds 0 items"),
    ],
)
def test_what_classify_refuses(
    stubs: Any, images: list[bytes], fields: dict[str, Any], code: grpc.StatusCode, words: str
) -> None:
    given = {"images": images[:1], "names": ["a", "b"], **fields}
    with pytest.raises(grpc.RpcError) as caught:
        stubs.embedding.Classify(classify(**given))
    assert caught.value.code() is code
    assert words in str(caught.value.details())
