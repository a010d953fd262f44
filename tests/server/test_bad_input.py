"""Bad inputs over real gRPC: each is named, its neighbours succeed, the server goes on."""

import io
import struct
import zlib
from collections.abc import Callable
from typing import Any

import grpc
import numpy as np
import pytest
from grpc_status import rpc_status
from PIL import Image

from nearlight.v1 import collection_pb2, embedding_pb2, input_pb2

PIXELS = np.random.default_rng(3).integers(0, 256, (48, 64, 3), np.uint8)


def encoded(image: Image.Image, kind: str, **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def bomb() -> bytes:
    """A PNG that says 20,000 x 20,000 and is a few hundred bytes long."""

    def chunk(name: bytes, content: bytes) -> bytes:
        return (
            struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))
        )

    header = struct.pack(">IIBBBBB", 20_000, 20_000, 8, 2, 0, 0, 0)
    data = zlib.compress(bytes(1000))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def rotated() -> bytes:
    """The photo lying on its side, with the EXIF note that says so."""
    exif = Image.Exif()
    exif[0x0112] = 6
    return encoded(Image.fromarray(PIXELS).rotate(90, expand=True), "PNG", exif=exif)


def animation() -> bytes:
    frames = [Image.fromarray(PIXELS).quantize(), Image.fromarray(PIXELS[::-1].copy()).quantize()]
    return encoded(frames[0], "GIF", save_all=True, append_images=frames[1:])


def palette_with_alpha() -> bytes:
    rgba = Image.fromarray(np.dstack([PIXELS, np.full((48, 64), 128, np.uint8)]))
    return encoded(rgba.quantize(), "PNG")


def sixteen_bit() -> bytes:
    return encoded(Image.fromarray(PIXELS[:, :, 0].astype(np.uint16) * 257), "PNG")


Embed = Callable[..., embedding_pb2.EmbedResponse]


@pytest.fixture
def embed(stubs: Any) -> Embed:
    def call(*contents: bytes | str) -> embedding_pb2.EmbedResponse:
        inputs = [
            input_pb2.Input(image=content) if isinstance(content, bytes) else input_pb2.Input(text=content)
            for content in contents
        ]
        reply: embedding_pb2.EmbedResponse = stubs.embedding.Embed(embedding_pb2.EmbedRequest(inputs=inputs))
        return reply

    return call


def rows(reply: embedding_pb2.EmbedResponse) -> Any:
    return np.frombuffer(reply.vectors.data, "<f4").reshape(reply.vectors.count, reply.vectors.dim)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        pytest.param(b"hello, I am a text\n" * 20, "image", id="text-named-jpg"),
        pytest.param(encoded(Image.fromarray(PIXELS), "JPEG")[:-300], "image", id="truncated-jpeg"),
        pytest.param(bomb(), "64000000", id="png-bomb"),
        pytest.param(b"", "empty (0 bytes)", id="empty-image"),
        pytest.param("", "empty", id="empty-text"),
        pytest.param(" \n\t", "empty", id="blank-text"),
        pytest.param("a" * 100_000, "100000 characters; the limit is 32768", id="long-text"),
        pytest.param("é" * 20_000, "40000 bytes; the limit is 32768", id="many-bytes"),
    ],
)
def test_a_bad_input_is_named_and_fails_alone(
    embed: Embed, images: list[bytes], content: bytes | str, words: str
) -> None:
    clean = rows(embed(images[0], "a dog", images[1]))
    reply = embed(images[0], content, "a dog", images[1])
    [error] = reply.errors
    field = "inputs[1].image" if isinstance(content, bytes) else "inputs[1].text"
    assert (error.index, error.code, error.field) == (1, 3, field)
    assert error.message.startswith(f"{field}: ")
    assert words in error.message
    assert not rows(reply)[1].any()
    np.testing.assert_allclose(rows(reply)[[0, 2, 3]], clean, atol=1e-6)


@pytest.mark.parametrize(
    ("content", "same_as"),
    [
        pytest.param(
            animation(), encoded(Image.fromarray(PIXELS).quantize().convert("RGB"), "PNG"), id="gif"
        ),
        pytest.param(rotated(), encoded(Image.fromarray(PIXELS), "PNG"), id="exif"),
        pytest.param(encoded(Image.fromarray(PIXELS).convert("CMYK"), "JPEG"), None, id="cmyk"),
        pytest.param(sixteen_bit(), encoded(Image.fromarray(PIXELS[:, :, 0]), "PNG"), id="16-bit"),
        pytest.param(palette_with_alpha(), None, id="palette-alpha"),
    ],
)
def test_an_unusual_image_is_embedded(embed: Embed, content: bytes, same_as: bytes | None) -> None:
    reply = embed(content, content if same_as is None else same_as)
    assert not reply.errors
    vectors = rows(reply)
    assert float(vectors[0] @ vectors[1]) == pytest.approx(1, abs=2e-3)


def test_lone_surrogates_are_refused_by_the_wire_itself(address: str, embed: Embed) -> None:
    # EmbedRequest{inputs: [{text: "\xed\xa0\x80"}]}, encoded by hand: no library would write it.
    wire = bytes([0x12, 5, 0x12, 3]) + b"\xed\xa0\x80"
    with grpc.insecure_channel(address) as channel:
        call: Any = channel.unary_unary("/nearlight.v1.EmbeddingService/Embed")
        with pytest.raises(grpc.RpcError) as caught:
            call(wire)
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert "UTF-8" in str(caught.value.details())
    assert not embed("a dog").errors


def test_an_input_that_holds_nothing_is_named(stubs: Any) -> None:
    inputs = [input_pb2.Input(text="a dog"), input_pb2.Input()]
    [error] = stubs.embedding.Embed(embedding_pb2.EmbedRequest(inputs=inputs)).errors
    assert (error.index, error.field) == (1, "inputs[1]")
    assert "must hold image or text" in error.message


def test_an_input_that_breaks_the_engine_fails_alone_and_tells_no_secrets(
    embed: Embed, images: list[bytes], tiny: Any
) -> None:
    black = encoded(Image.new("RGB", (40, 40)), "PNG")
    texts = ["a dog", f"{tiny.raises} at once", "a cat", f"{tiny.gives_nan} comes out", "a fox"]
    clean = rows(embed("a dog", "a cat", "a fox", images[0]))
    reply = embed(*texts, images[0], black)
    assert [(error.index, error.code, error.message) for error in reply.errors] == [
        (1, 13, "internal error"),
        (3, 13, "internal error"),
        (6, 13, "internal error"),
    ]
    np.testing.assert_allclose(rows(reply)[[0, 2, 4, 5]], clean, atol=1e-6)


def test_a_message_over_the_limit_is_refused_with_both_numbers(stubs: Any, embed: Embed) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        embed(bytes(4_000_100))
    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert "4000" in str(caught.value.details())
    assert "(40001" in str(caught.value.details())
    assert "4000000" in str(caught.value.details())
    assert rpc_status.from_call(caught.value) is None  # no RetryInfo: not to be sent again
    assert not embed("a dog").errors


def test_unknown_and_duplicate_names_are_named(stubs: Any) -> None:
    stubs.collections.CreateCollection(collection_pb2.CreateCollectionRequest(name="twice"))
    with pytest.raises(grpc.RpcError, match="twice") as caught:
        stubs.collections.CreateCollection(collection_pb2.CreateCollectionRequest(name="twice"))
    assert caught.value.code() is grpc.StatusCode.ALREADY_EXISTS
    with pytest.raises(grpc.RpcError, match="nothere") as caught:
        stubs.collections.GetCollection(collection_pb2.GetCollectionRequest(name="nothere"))
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND
    with pytest.raises(grpc.RpcError, match="nomodel") as caught:
        stubs.embedding.Embed(embedding_pb2.EmbedRequest(model="nomodel", inputs=[input_pb2.Input(text="x")]))
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND
