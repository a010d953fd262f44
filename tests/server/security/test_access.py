"""Tokens, scopes and limits through a real server."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from nearlight.server.config import ServerConfig
from nearlight.server.errors import ConfigError
from nearlight.server.local import LocalServer
from nearlight.server.security.scopes import Scope
from nearlight.server.security.tokens import new_token
from nearlight.v1 import collection_pb2, embedding_pb2, input_pb2, model_pb2


def bearer(token: str) -> list[tuple[str, str]]:
    return [("authorization", f"Bearer {token}")]


def test_a_token_may_do_what_its_scope_allows_and_no_more(
    tiny_bundle: Path, tmp_path: Path, config_of: Callable[..., ServerConfig], stubs_of: Any
) -> None:
    made = {scope: new_token(scope.word, scope) for scope in Scope}
    (tmp_path / "tokens").write_text("".join(f"{known.line()}\n" for _, known in made.values()))
    config = config_of(
        [tiny_bundle],
        tmp_path / "data",
        security={"tokens_file": tmp_path / "tokens", "tokens": "from-the-environment"},
    )
    with LocalServer(config) as server, grpc.insecure_channel(server.address) as channel:
        stubs = stubs_of(channel)

        def read(metadata: list[tuple[str, str]]) -> None:
            stubs.models.ListModels(model_pb2.ListModelsRequest(), metadata=metadata)

        def write(metadata: list[tuple[str, str]]) -> None:
            request = collection_pb2.CreateCollectionRequest(
                name=f"c{len(metadata[0][1])}-{metadata[0][1][-4:]}"
            )
            stubs.collections.CreateCollection(request, metadata=metadata)

        def administer(metadata: list[tuple[str, str]]) -> None:
            try:
                stubs.models.UnloadModel(model_pb2.UnloadModelRequest(name="nobody"), metadata=metadata)
            except grpc.RpcError as error:  # let in, and then told that there is no such model or call
                if error.code() not in (grpc.StatusCode.NOT_FOUND, grpc.StatusCode.UNIMPLEMENTED):
                    raise

        calls = {Scope.READ: read, Scope.WRITE: write, Scope.ADMIN: administer}
        for held, (token, _) in made.items():
            for needed, call in calls.items():
                if held >= needed:
                    call(bearer(token))
                    continue
                words = f"token '{held.word}' has scope {held.word}; .* needs scope {needed.word}"
                with pytest.raises(grpc.RpcError, match=words) as caught:
                    call(bearer(token))
                assert caught.value.code() is grpc.StatusCode.PERMISSION_DENIED
        administer(bearer("from-the-environment"))
        with pytest.raises(grpc.RpcError, match="not known"):
            read(bearer(made[Scope.READ][1].sha256))


def test_a_caller_over_its_rate_is_told_when_to_come_back(
    tiny_bundle: Path, tmp_path: Path, config_of: Callable[..., ServerConfig], stubs_of: Any
) -> None:
    alice, bob = new_token("alice", Scope.READ), new_token("bob", Scope.READ)
    (tmp_path / "tokens").write_text(f"{alice[1].line()}\n{bob[1].line()}\n")
    config = config_of(
        [tiny_bundle],
        tmp_path / "data",
        security={"tokens_file": tmp_path / "tokens"},
        callers={"max_bytes_per_second": 20},
    )
    with LocalServer(config) as server, grpc.insecure_channel(server.address) as channel:
        embed = stubs_of(channel).embedding.Embed
        request = embedding_pb2.EmbedRequest(inputs=[input_pb2.Input(text="dog " * 10)])
        assert embed(request, metadata=bearer(alice[0])).vectors.count == 1
        with pytest.raises(grpc.RpcError, match="'alice' asks faster than its limit of 20 bytes/s") as caught:
            embed(request, metadata=bearer(alice[0]))
        assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        retry = error_details_pb2.RetryInfo()
        assert rpc_status.from_call(caught.value).details[0].Unpack(retry)
        assert 0 < retry.retry_delay.ToMilliseconds() < 4000
        assert embed(request, metadata=bearer(bob[0])).vectors.count == 1


def test_a_stream_over_its_rate_is_read_later(
    tiny_bundle: Path, tmp_path: Path, config_of: Callable[..., ServerConfig], stubs_of: Any
) -> None:
    config = config_of([tiny_bundle], tmp_path, callers={"max_requests_per_second": 30})
    with LocalServer(config) as server, grpc.insecure_channel(server.address) as channel:
        batch = embedding_pb2.EmbedRequest(inputs=[input_pb2.Input(text="dog")])
        requests = (embedding_pb2.EmbedStreamRequest(sequence=n, batch=batch) for n in range(40))
        started = time.monotonic()
        replies = list(stubs_of(channel).embedding.EmbedStream(requests))
        assert time.monotonic() - started >= 0.3  # 30 at once, 10 more at 30 a second
        assert [reply.sequence for reply in replies] == list(range(40))
        assert all(reply.result.vectors.count == 1 for reply in replies)
        embed = stubs_of(channel).embedding.Embed
        with pytest.raises(grpc.RpcError, match="asks faster"):  # the stream has used it up
            [embed(batch) for _ in range(40)]


@pytest.mark.parametrize(
    ("security", "words"),
    [
        ({}, "without TLS .* --allow-plaintext.*without tokens .* --allow-anonymous"),
        ({"allow_anonymous": True}, "without TLS"),
        ({"allow_plaintext": True}, "without tokens"),
        ({"tokens": "a-token-of-sixteen-characters"}, "without TLS"),
    ],
)
def test_other_machines_are_let_in_only_where_that_was_said(
    tiny_bundle: Path,
    tmp_path: Path,
    config_of: Callable[..., ServerConfig],
    security: dict[str, object],
    words: str,
) -> None:
    config = config_of([tiny_bundle], tmp_path, listen="0.0.0.0:0", security=security)
    with pytest.raises(ConfigError, match=words) as caught:
        LocalServer(config)
    said = str(caught.value)
    assert ("without TLS" in said) == ("without TLS" in words)
    assert ("without tokens" in said) == ("without tokens" in words)


def test_a_server_that_was_told_to_listens_openly(
    tiny_bundle: Path, tmp_path: Path, config_of: Callable[..., ServerConfig], stubs_of: Any
) -> None:
    security = {"allow_plaintext": True, "allow_anonymous": True, "reflection": False}
    config = config_of([tiny_bundle], tmp_path, listen="0.0.0.0:0", security=security)
    with (
        LocalServer(config) as server,
        grpc.insecure_channel(server.address.replace("0.0.0.0", "127.0.0.1")) as channel,
    ):
        assert stubs_of(channel).models.ListModels(model_pb2.ListModelsRequest()).models
        ask: Any = channel.stream_stream("/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo")
        with pytest.raises(grpc.RpcError) as caught:
            list(ask(iter([b""])))
        assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED
