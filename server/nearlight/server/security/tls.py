"""The server's certificate, read again when its files change: certificates are renewed without a restart."""

import ssl
import threading
from dataclasses import dataclass
from pathlib import Path

import grpc

from nearlight.server.config_security import SecurityConfig
from nearlight.server.errors import ConfigError
from nearlight.server.log import get_logger
from nearlight.server.security.watched import WatchedFiles

log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class _Files:
    certificate: Path
    key: Path
    authorities: Path | None

    @property
    def paths(self) -> list[Path]:
        return [self.certificate, self.key, *([self.authorities] if self.authorities else [])]


class ServerTls:
    """The PEM files of a server that encrypts, and demands client certificates where authorities are given.

    gRPC asks for the certificate at every handshake; calls on connections that are already made go on.

    Args:
        security: with tls_cert_file and tls_key_file set.

    Raises:
        ConfigError: a file cannot be read, is not PEM, or key and certificate do not belong together.
    """

    def __init__(self, security: SecurityConfig) -> None:
        assert security.tls_cert_file is not None
        assert security.tls_key_file is not None
        self._files = _Files(security.tls_cert_file, security.tls_key_file, security.tls_client_ca_file)
        self._watched = WatchedFiles(self._files.paths)
        self._lock = threading.Lock()
        self._first = _configuration(self._files)

    def credentials(self) -> grpc.ServerCredentials:
        """What a port takes."""
        return grpc.dynamic_ssl_server_credentials(
            self._first,
            self._renewed,  # type: ignore[arg-type]  # None means "no change"; the stubs do not know
            require_client_authentication=self._files.authorities is not None,
        )

    def _renewed(self) -> grpc.ServerCertificateConfiguration | None:
        """The new certificate, None while nothing has changed; called by gRPC's threads at each handshake."""
        with self._lock:
            if not self._watched.have_changed():
                return None
            before = self._watched.signature()
            try:
                configuration = _configuration(self._files)
            except ConfigError as error:
                log.error("the TLS files are wrong; the old certificate stays in use", reason=str(error))
                self._watched.look_again()
                return None
            if self._watched.signature() != before:  # being written right now: half of it may be old
                self._watched.look_again()
                return None
            log.info("TLS files read again", certificate=str(self._files.certificate))
            return configuration


def _configuration(files: _Files) -> grpc.ServerCertificateConfiguration:
    """The files as gRPC takes them, after OpenSSL has found that they belong together."""
    key, certificate = _read_pem(files.key), _read_pem(files.certificate)
    authorities = _read_pem(files.authorities) if files.authorities else None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        context.load_cert_chain(files.certificate, files.key, password="")
    except ssl.SSLError as error:
        raise ConfigError(
            f"{files.certificate} and {files.key} cannot be used together: {error.reason or error}"
        ) from None
    if files.authorities:
        try:
            context.load_verify_locations(files.authorities)
        except ssl.SSLError as error:
            raise ConfigError(f"{files.authorities} holds no certificate: {error.reason or error}") from None
    return grpc.ssl_server_certificate_configuration([(key, certificate)], root_certificates=authorities)


def _read_pem(file: Path) -> bytes:
    try:
        content = file.read_bytes()
    except OSError as error:
        raise ConfigError(f"cannot read {file}: {error.strerror}") from None
    if b"-----BEGIN " not in content:
        raise ConfigError(f"{file} is not PEM: it holds no -----BEGIN line")
    return content
