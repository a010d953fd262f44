"""Real handshakes with real certificates."""

import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import pytest
from typer.testing import CliRunner

from nearlight.client import Client, Connection, NotReady, RetryPolicy, Tls
from nearlight.client.commands.models import app as models_app
from nearlight.server.config import ServerConfig
from nearlight.server.config_security import SecurityConfig
from nearlight.server.errors import ConfigError
from nearlight.server.local import LocalServer
from nearlight.server.security import tls as tls_module
from nearlight.server.security.tls import ServerTls
from nearlight.server.security.watched import WatchedFiles

ONCE = RetryPolicy(max_attempts=1)


@pytest.fixture(autouse=True)
def _look_always(monkeypatch: pytest.MonkeyPatch) -> None:
    """A change is seen at the next handshake, not within a second."""
    monkeypatch.setattr(tls_module, "WatchedFiles", lambda paths: WatchedFiles(paths, look_seconds=0))


def names_seen(address: str, tls: Tls) -> list[str]:
    """A new connection, so a new handshake; the models behind it."""
    connection = Connection(address.replace("127.0.0.1", "localhost"), tls=tls, retry=ONCE, timeout=10)
    with Client(connection) as client:
        return [model.name for model in client.models()]


def test_a_renewed_certificate_is_served_without_a_restart(
    tiny_bundle: Path,
    tmp_path: Path,
    config_of: Callable[..., ServerConfig],
    authority: Any,
    stranger: Any,
) -> None:
    certificate, key = authority.sign("old").write(tmp_path, "server")
    for name, one in (("trusted", authority), ("stranger", stranger)):
        (tmp_path / f"{name}.ca").write_bytes(one.pem)
    trusted, strange = Tls(ca=tmp_path / "trusted.ca"), Tls(ca=tmp_path / "stranger.ca")
    config = config_of(
        [tiny_bundle], tmp_path / "data", security={"tls_cert_file": certificate, "tls_key_file": key}
    )
    with LocalServer(config) as server:
        port = int(server.address.rpartition(":")[2])
        assert names_seen(server.address, trusted) == ["tiny"]
        with pytest.raises(NotReady):
            names_seen(server.address, strange)
        with grpc.insecure_channel(server.address) as plain:
            check: Any = plain.unary_unary("/grpc.health.v1.Health/Check")
            with pytest.raises(grpc.RpcError):
                check(b"", timeout=10)
        first = ssl.get_server_certificate(("localhost", port))
        # A renewal is two writes: between them the key is another's, and the old pair must go on.
        renewed = stranger.sign("new")
        certificate.write_bytes(renewed.certificate)
        assert names_seen(server.address, trusted) == ["tiny"]
        assert ssl.get_server_certificate(("localhost", port)) == first
        key.write_bytes(renewed.key)
        assert names_seen(server.address, strange) == ["tiny"]
        assert ssl.get_server_certificate(("localhost", port)) != first
        with pytest.raises(NotReady):
            names_seen(server.address, trusted)


def test_mutual_tls_lets_in_only_what_the_authority_signed(
    tiny_bundle: Path,
    tmp_path: Path,
    config_of: Callable[..., ServerConfig],
    authority: Any,
    stranger: Any,
) -> None:
    certificate, key = authority.sign("server").write(tmp_path, "server")
    ca = tmp_path / "ca.pem"
    ca.write_bytes(authority.pem)
    own = dict(zip(("certificate", "key"), authority.sign("alice").write(tmp_path, "alice"), strict=True))
    forged = dict(zip(("certificate", "key"), stranger.sign("alice").write(tmp_path, "forged"), strict=True))
    security = {"tls_cert_file": certificate, "tls_key_file": key, "tls_client_ca_file": ca}
    config = config_of(
        [tiny_bundle], tmp_path / "data", security=security, callers={"max_requests_per_second": 0.001}
    )
    with LocalServer(config) as server:
        for wrong in ({}, forged):
            with pytest.raises(NotReady):
                names_seen(server.address, Tls(ca=ca, **wrong))
        assert names_seen(server.address, Tls(ca=ca, **own)) == ["tiny"]
        # The certificate is the identity that limits are counted for.
        with pytest.raises(Exception, match="caller 'cn:alice' asks faster"):
            names_seen(server.address, Tls(ca=ca, **own))
        cert, key = authority.sign("bob").write(tmp_path, "bob")
        address = server.address.replace("127.0.0.1", "localhost")
        files = ("--tls-ca", str(ca), "--tls-cert", str(cert), "--tls-key", str(key))
        shown = CliRunner().invoke(models_app, ["--server", address, *files, "--json"])
        assert '"name": "tiny"' in shown.stdout


def test_files_that_do_not_belong_together_are_refused_at_the_start(tmp_path: Path, authority: Any) -> None:
    certificate, key = authority.sign("one").write(tmp_path, "one")
    _, other_key = authority.sign("other").write(tmp_path, "other")
    empty = tmp_path / "empty.pem"
    empty.write_text("-----BEGIN CERTIFICATE-----\nnothing\n-----END CERTIFICATE-----\n")
    ServerTls(SecurityConfig(tls_cert_file=certificate, tls_key_file=key))
    for wrong, words in (
        ({"tls_cert_file": certificate, "tls_key_file": other_key}, "cannot be used together"),
        ({"tls_cert_file": empty, "tls_key_file": key}, "cannot be used together"),
        ({"tls_cert_file": certificate, "tls_key_file": tmp_path / "no.pem"}, r"cannot read .*no\.pem"),
        (
            {"tls_cert_file": certificate, "tls_key_file": key, "tls_client_ca_file": empty},
            "holds no certificate",
        ),
    ):
        with pytest.raises(ConfigError, match=words):
            ServerTls(SecurityConfig(**wrong))


def test_files_that_change_while_they_are_read_are_read_again(
    tmp_path: Path, authority: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    certificate, key = authority.sign("one").write(tmp_path, "one")
    tls = ServerTls(SecurityConfig(tls_cert_file=certificate, tls_key_file=key))
    assert tls._renewed() is None
    read = tls_module._configuration
    renewals = [authority.sign("three"), authority.sign("two")]

    def read_slowly(files: Any) -> Any:
        content = read(files)
        if renewals:
            renewals.pop().write(tmp_path, "one")
        return content

    monkeypatch.setattr(tls_module, "_configuration", read_slowly)
    certificate.write_bytes(certificate.read_bytes() + b"\n")
    assert tls._renewed() is None
    assert tls._renewed() is None
    assert tls._renewed() is not None
    assert tls._renewed() is None
