"""The whole life of a process: ready, serving, drained, and every way in which it refuses to start."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from nearlight.server import serving
from nearlight.server.config import ServerConfig
from nearlight.server.errors import AddressUnusable, BundleUnusable, ConfigError, DataFolderUnusable
from nearlight.server.local import LocalServer, start
from nearlight.server.models import LoadedModel, load_model
from nearlight.server.runtimes.onnx_cpu import OnnxEncoder
from nearlight.server.session import Session
from nearlight.server.supervisor import Life
from nearlight.v1 import collection_pb2, embedding_pb2, input_pb2, model_pb2, point_id_pb2, point_pb2

SERVING, NOT_SERVING = health_pb2.HealthCheckResponse.SERVING, health_pb2.HealthCheckResponse.NOT_SERVING
COMMAND = [sys.executable, "-c", "from nearlight.server.command import app; app()"]


@contextmanager
def process(*arguments: str | Path, **env: str) -> Iterator[subprocess.Popen[str]]:
    child = subprocess.Popen(
        [*COMMAND, *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, **env},
    )
    try:
        yield child
    finally:
        child.kill()
        child.communicate()


def address_of(child: subprocess.Popen[str]) -> str:
    """Wait for the line that says it is ready."""
    assert child.stdout is not None
    line = child.stdout.readline()
    match = re.search(r" on (127\.0\.0\.1:\d+) ", line)
    assert match, (line, child.stderr.read() if child.stderr else "")
    return match[1]


def test_sigterm_drains(tiny_bundle: Path, tmp_path: Path, stubs_of: Any, images: list[bytes]) -> None:
    arguments = ("--bundle", tiny_bundle, "--data", tmp_path / "data", "--listen", "127.0.0.1:0")
    with process(*arguments, "--log-format", "json") as child:
        channel = grpc.insecure_channel(address_of(child))
        stubs, health = stubs_of(channel), health_pb2_grpc.HealthStub(channel)
        statuses: list[int] = []
        watching = threading.Thread(target=lambda: statuses.extend(watch(health)))
        watching.start()
        stubs.collections.CreateCollection(collection_pb2.CreateCollectionRequest(name="c"))
        asked_to_stop, answered = threading.Event(), threading.Event()

        def requests() -> Iterator[point_pb2.UpsertStreamRequest]:
            number = 0
            while not asked_to_stop.is_set() or number < 20:
                point = point_pb2.PointInput(id=point_id_pb2.PointId(num=number), image=images[number % 24])
                batch = point_pb2.UpsertRequest(collection="c", points=[point])
                yield point_pb2.UpsertStreamRequest(sequence=number, batch=batch)
                number += 1
                if number == 10:
                    answered.wait(60)  # before it, the stream itself could come too late
                    child.send_signal(signal.SIGTERM)
                    asked_to_stop.wait(0.2)
            threading.Event().wait(0.5)

        acknowledged: list[int] = []

        def read_all() -> None:
            for reply in stubs.points.UpsertStream(requests()):
                acknowledged.append(reply.sequence)
                answered.set()
                assert reply.HasField("result")

        with pytest.raises(grpc.RpcError) as caught:
            read_all()
        asked_to_stop.set()
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
        assert "draining" in str(caught.value.details())
        assert acknowledged == list(range(len(acknowledged)))
        assert acknowledged
        _, errors = child.communicate(timeout=30)
        assert child.returncode == 0, errors
        watching.join()
        assert statuses == [SERVING, NOT_SERVING]
        events = [json.loads(line)["event"] for line in errors.splitlines() if line.startswith("{")]
        assert events[-1] == "stopped"
    with LocalServer(start_config(tiny_bundle, tmp_path / "data")) as server:
        with grpc.insecure_channel(server.address) as channel:
            info = stubs_of(channel).collections.GetCollection(collection_pb2.GetCollectionRequest(name="c"))
        assert info.count == len(acknowledged)


def start_config(bundle: Path, data: Path) -> ServerConfig:
    return ServerConfig(bundles=(str(bundle),), data_folder=data, listen="127.0.0.1:0")


def test_what_was_acknowledged_survives_kill_9(
    tiny_bundle: Path, tmp_path: Path, stubs_of: Any, images: list[bytes]
) -> None:
    def requests() -> Iterator[point_pb2.UpsertStreamRequest]:
        for number in range(100_000):
            point = point_pb2.PointInput(id=point_id_pb2.PointId(num=number), image=images[number % 24])
            batch = point_pb2.UpsertRequest(collection="c", points=[point])
            yield point_pb2.UpsertStreamRequest(sequence=number, batch=batch)

    acknowledged = 0
    arguments = ("--bundle", tiny_bundle, "--data", tmp_path, "--listen", "127.0.0.1:0")
    with process(*arguments) as child, grpc.insecure_channel(address_of(child)) as channel:
        stubs = stubs_of(channel)
        stubs.collections.CreateCollection(collection_pb2.CreateCollectionRequest(name="c"))
        with suppress(grpc.RpcError):
            for reply in stubs.points.UpsertStream(requests()):
                acknowledged += reply.result.upserted
                if acknowledged == 50:
                    child.kill()
    with (
        LocalServer(start_config(tiny_bundle, tmp_path)) as server,
        grpc.insecure_channel(server.address) as channel,
    ):
        ids = [point_id_pb2.PointId(num=number) for number in range(acknowledged)]
        records = []
        for start_at in range(0, len(ids), 200):
            request = point_pb2.GetRequest(collection="c", ids=ids[start_at : start_at + 200])
            records += stubs_of(channel).points.Get(request).records
    assert acknowledged >= 50
    assert len(records) == acknowledged


def watch(health: Any) -> list[int]:
    statuses = []
    try:
        for reply in health.Watch(health_pb2.HealthCheckRequest()):
            statuses.append(reply.status)
    except grpc.RpcError:
        return statuses
    return statuses


def test_a_call_in_flight_is_answered_while_new_ones_are_refused(
    tiny_bundle: Path,
    tmp_path: Path,
    config_of: Callable[..., ServerConfig],
    stubs_of: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    gate, entered, encode = threading.Event(), threading.Event(), OnnxEncoder.encode

    def slow(self: OnnxEncoder, rows: Any) -> Any:
        entered.set()
        assert gate.wait(30)
        return encode(self, rows)

    server = LocalServer(config_of([tiny_bundle], tmp_path))
    monkeypatch.setattr(OnnxEncoder, "encode", slow)
    with grpc.insecure_channel(server.address) as channel:
        embedding, health = stubs_of(channel).embedding, health_pb2_grpc.HealthStub(channel)
        request = embedding_pb2.EmbedRequest(inputs=[input_pb2.Input(text="dog")])
        in_flight = embedding.Embed.future(request)
        assert entered.wait(30)
        statuses = health.Watch(health_pb2.HealthCheckRequest())
        assert next(statuses).status == SERVING
        stopping = threading.Thread(target=server.stop)
        stopping.start()
        assert next(statuses).status == NOT_SERVING
        with pytest.raises(grpc.RpcError, match="the server is draining") as caught:
            embedding.Embed(request)
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
        gate.set()
        assert not in_flight.result().errors
        stopping.join()


def test_while_the_models_load_health_says_so_and_calls_are_refused(
    tiny_bundle: Path, tmp_path: Path, stubs_of: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate, entered = threading.Event(), threading.Event()

    def slow(*arguments: Any) -> LoadedModel:
        entered.set()
        assert gate.wait(30)
        return load_model(*arguments)

    monkeypatch.setattr(serving, "load_model", slow)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    started: list[LocalServer] = []
    starting = threading.Thread(target=lambda: started.append(start(str(tiny_bundle), tmp_path, address)))
    starting.start()
    assert entered.wait(30)
    with grpc.insecure_channel(address) as channel:
        health = health_pb2_grpc.HealthStub(channel)
        assert health.Check(health_pb2.HealthCheckRequest()).status == NOT_SERVING
        with pytest.raises(grpc.RpcError, match="the server is loading its models") as caught:
            stubs_of(channel).models.ListModels(model_pb2.ListModelsRequest())
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
        gate.set()
        starting.join()
        assert health.Check(health_pb2.HealthCheckRequest()).status == SERVING
    started[0].stop()


def test_a_dead_stage_turns_health_its_callers_are_told_and_it_comes_back(
    tiny_bundle: Path,
    images_only_bundle: Path,
    tmp_path: Path,
    config_of: Callable[..., ServerConfig],
    stubs_of: Any,
    images: list[bytes],
    monkeypatch: pytest.MonkeyPatch,
) -> None:

    class Killed(BaseException):
        pass

    gate, begin = threading.Event(), Session.begin

    def begin_when_allowed(self: Session, life: Life) -> None:
        assert not self._has_lived or gate.wait(30)
        begin(self, life)

    monkeypatch.setattr(Session, "begin", begin_when_allowed)
    config = config_of([tiny_bundle, images_only_bundle], tmp_path, engine={"restart_seconds": 0.01})
    with LocalServer(config) as server, grpc.insecure_channel(server.address) as channel:
        embedding, health = stubs_of(channel).embedding, health_pb2_grpc.HealthStub(channel)
        check = health_pb2.HealthCheckRequest(service="nearlight.v1.EmbeddingService")
        assert health.Check(check).status == SERVING

        def die(self: Any, rows: Any) -> Any:
            raise Killed

        text = embedding_pb2.EmbedRequest(inputs=[input_pb2.Input(text="dog")])
        with monkeypatch.context() as patch:
            patch.setattr(OnnxEncoder, "encode", die)
            [error] = embedding.Embed(text).errors
        assert (error.code, error.message) == (13, "internal error")
        assert health.Check(check).status == NOT_SERVING
        watching = health.Watch(health_pb2.HealthCheckRequest())
        assert next(watching).status == NOT_SERVING
        with pytest.raises(grpc.RpcError, match="tiny/text is out of service") as caught:
            embedding.Embed(text)
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
        other = embedding_pb2.EmbedRequest(model="eye", inputs=[input_pb2.Input(image=images[0])])
        assert not embedding.Embed(other).errors
        gate.set()
        assert next(watching).status == SERVING
        assert not embedding.Embed(text).errors
        assert health.Check(check).status == SERVING


def test_a_full_queue_tells_when_to_come_back(
    tiny_bundle: Path,
    tmp_path: Path,
    config_of: Callable[..., ServerConfig],
    stubs_of: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from google.rpc import error_details_pb2
    from grpc_status import rpc_status

    gate, entered, encode = threading.Event(), threading.Event(), OnnxEncoder.encode

    def slow(self: OnnxEncoder, rows: Any) -> Any:
        entered.set()
        assert gate.wait(30)
        return encode(self, rows)

    config = config_of([tiny_bundle], tmp_path, limits={"queue_inputs": 4, "max_batch_inputs": 4})
    with LocalServer(config) as server, grpc.insecure_channel(server.address) as channel:
        embedding = stubs_of(channel).embedding
        monkeypatch.setattr(OnnxEncoder, "encode", slow)
        four = embedding_pb2.EmbedRequest(inputs=[input_pb2.Input(text=word) for word in "abcd"])
        first = embedding.Embed.future(four)
        assert entered.wait(30)
        with pytest.raises(grpc.RpcError) as caught:
            embedding.Embed(embedding_pb2.EmbedRequest(inputs=[input_pb2.Input(text="one too many")]))
        refused = caught.value
        assert refused.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert "tiny/text holds 4 inputs; 1 more would exceed its bound of 4" in str(refused.details())
        retry = error_details_pb2.RetryInfo()
        assert rpc_status.from_call(refused).details[0].Unpack(retry)
        assert retry.retry_delay.ToMilliseconds() >= 50
        gate.set()
        assert not first.result().errors
        assert not embedding.Embed(four).errors


def test_streams_that_fill_their_room_shut_nobody_out_and_never_lock_each_other(
    tiny_bundle: Path,
    tmp_path: Path,
    config_of: Callable[..., ServerConfig],
    stubs_of: Any,
    images: list[bytes],
) -> None:
    image, text = input_pb2.Input(image=images[0]), input_pb2.Input(text="dog")

    def requests(inputs: list[input_pb2.Input]) -> Iterator[embedding_pb2.EmbedStreamRequest]:
        for number in range(40):
            yield embedding_pb2.EmbedStreamRequest(sequence=number, batch={"inputs": inputs})

    config = config_of([tiny_bundle], tmp_path, limits={"queue_inputs": 8, "max_batch_inputs": 8})
    with LocalServer(config) as server, grpc.insecure_channel(server.address) as channel:
        embedding = stubs_of(channel).embedding
        kinds = [[image] * 4 + [text] * 4, [text] * 4 + [image] * 4] * 3
        streams = [embedding.EmbedStream(requests(inputs), timeout=120) for inputs in kinds]
        for _ in range(20):
            assert not embedding.Embed(embedding_pb2.EmbedRequest(inputs=[image, text])).errors
        for stream in streams:
            replies = list(stream)
            assert [reply.sequence for reply in replies] == list(range(40))
            assert not any(reply.HasField("error") or reply.result.errors for reply in replies)


def test_a_taken_port_is_said_plainly(tiny_bundle: Path, tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        listen = f"127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(AddressUnusable, match=f"cannot listen on {listen}: the port is in use"):
            start(str(tiny_bundle), tmp_path, listen)


def test_two_servers_do_not_share_a_port(tiny_bundle: Path, tmp_path: Path) -> None:
    with (
        start(str(tiny_bundle), tmp_path / "a") as first,
        pytest.raises(AddressUnusable, match="in use"),
    ):
        start(str(tiny_bundle), tmp_path / "b", first.address)


def test_a_locked_or_unusable_data_folder_is_said_plainly(tiny_bundle: Path, tmp_path: Path) -> None:
    with start(str(tiny_bundle), tmp_path / "data"), pytest.raises(DataFolderUnusable, match="data"):
        start(str(tiny_bundle), tmp_path / "data")
    (tmp_path / "file").write_text("x")
    with pytest.raises(DataFolderUnusable, match="file"):
        start(str(tiny_bundle), tmp_path / "file")


def test_a_bad_bundle_is_said_plainly(tiny_bundle: Path, tmp_path: Path) -> None:
    with pytest.raises(BundleUnusable, match="no bundle 'nobody'"):
        start("nobody", tmp_path / "data")
    with pytest.raises(BundleUnusable, match="two bundles are named 'tiny'"):
        LocalServer(ServerConfig(bundles=(str(tiny_bundle),) * 2, data_folder=tmp_path, listen="127.0.0.1:0"))


def test_tls_and_mutual_tls_files_are_checked(tiny_bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "cert.pem").write_text("not a certificate")
    security = {"tls_cert_file": tmp_path / "cert.pem", "tls_key_file": tmp_path / "no.pem"}
    config = start_config(tiny_bundle, tmp_path / "data")
    with pytest.raises(ConfigError, match=r"no\.pem"):
        LocalServer(ServerConfig(**{**config.model_dump(), "security": security}))


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("--bundle", "nobody"), 3, "no bundle 'nobody'"),
        (("--listen", "nowhere"), 2, "listen: 'nowhere' is not HOST:PORT"),
        (("--set", "limits.max_image_byte=3"), 2, "did you mean limits.max_image_bytes?"),
        (("--config", "missing.toml"), 2, "missing.toml"),
        (("--provider", "abacus"), 2, "engine.provider"),
    ],
)
def test_the_command_fails_with_one_clear_line(
    arguments: tuple[str, ...], code: int, words: str, tmp_path: Path
) -> None:
    with process(*arguments, *(() if "--listen" in arguments else ("--listen", "127.0.0.1:0"))) as child:
        out, errors = child.communicate(timeout=60)
    assert child.returncode == code, errors
    assert out == ""
    [line] = [line for line in errors.splitlines() if line.startswith("nearlight serve: ")]
    assert words in line
    assert "Traceback" not in errors
