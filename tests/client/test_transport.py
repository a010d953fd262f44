"""Addresses, TLS and tokens, against a server that insists on them."""

import shutil
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import pytest

from nearlight.client import Client, Connection, InvalidInput, NotReady, RetryPolicy, Tls
from nearlight.v1 import point_pb2, point_pb2_grpc

ONCE = RetryPolicy(max_attempts=1)


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A key and a certificate for nearlight.test that signs itself."""
    if shutil.which("openssl") is None:
        pytest.skip("no openssl to make a certificate with")
    folder = tmp_path_factory.mktemp("tls")
    command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2"
    names = ["-subj", "/CN=nearlight.test", "-addext", "subjectAltName=DNS:nearlight.test"]
    subprocess.run(
        [*command.split(), *names, "-keyout", "key.pem", "-out", "cert.pem"],
        cwd=folder,
        check=True,
        capture_output=True,
    )
    return folder


@pytest.fixture(params=[False, True], ids=["tls", "mtls"])
def server(certificate: Path, request: pytest.FixtureRequest) -> Iterator[tuple[int, bool]]:
    class Points(point_pb2_grpc.PointServiceServicer):
        def Count(self, request: Any, context: Any) -> Any:
            return point_pb2.CountResponse(count=7)

    key, cert = (certificate / "key.pem").read_bytes(), (certificate / "cert.pem").read_bytes()
    credentials = grpc.ssl_server_credentials(
        [(key, cert)], root_certificates=cert if request.param else None, require_client_auth=request.param
    )
    server = grpc.server(ThreadPoolExecutor(1))
    point_pb2_grpc.add_PointServiceServicer_to_server(Points(), server)  # type: ignore[no-untyped-call]
    port = server.add_secure_port("127.0.0.1:0", credentials)
    server.start()
    yield port, request.param
    server.stop(None).wait()


def test_tls_and_mtls(server: tuple[int, bool], certificate: Path) -> None:
    port, needs_client_certificate = server
    own = {"certificate": certificate / "cert.pem", "key": certificate / "key.pem"}
    tls = Tls(
        ca=certificate / "cert.pem", server_name="nearlight.test", **(own if needs_client_certificate else {})
    )
    with Client(Connection(f"127.0.0.1:{port}", tls=tls)) as client:
        assert client.count("c") == 7


@pytest.mark.parametrize("name", ["another.test", None])
def test_certificate_of_another_name_is_refused(
    server: tuple[int, bool], certificate: Path, name: str | None
) -> None:
    tls = Tls(ca=certificate / "cert.pem", server_name=name)
    with Client(Connection(f"127.0.0.1:{server[0]}", tls=tls, retry=ONCE)) as client, pytest.raises(NotReady):
        client.count("c")


def test_what_cannot_be_is_refused_before_a_call(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="certificate and key together"):
        Tls(certificate="cert.pem")
    with pytest.raises(InvalidInput, match="nowhere.pem"):
        Client(Connection(tls=Tls(ca=tmp_path / "nowhere.pem")))
    for wrong in ({"address": ""}, {"timeout": 0.0}, {"in_flight": 0}):
        with pytest.raises(InvalidInput, match=next(iter(wrong))):
            Connection(**wrong)


def test_token_is_never_shown() -> None:
    assert "secret" not in repr(Connection(token="secret"))
