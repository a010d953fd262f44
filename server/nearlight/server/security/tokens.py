"""Bearer tokens: made once, kept as hashes, compared in constant time.

A token is 32 random bytes, so one round of SHA-256 is as hard to turn back as a slow password hash would be.
"""

import hashlib
import hmac
import re
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from nearlight.server.errors import ConfigError
from nearlight.server.log import get_logger
from nearlight.server.security.scopes import Scope
from nearlight.server.security.watched import WatchedFiles

log = get_logger(__name__)

PREFIX = "nl_"
RANDOM_BYTES = 32
_NAME = re.compile(r"[A-Za-z0-9._-]{1,64}")
_HASH = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class KnownToken:
    """What is kept of a token.

    Args:
        name: whose it is, for logs, metrics and limits.
        scope: the most it may do.
        sha256: hexadecimal, of the token.
    """

    name: str
    scope: Scope
    sha256: str

    def line(self) -> str:
        """As it stands in a file of tokens."""
        return f"{self.name} {self.scope.word} {self.sha256}"


def new_token(name: str, scope: Scope) -> tuple[str, KnownToken]:
    """A new token, and what to keep of it.

    Raises:
        ConfigError: the name is not 1 to 64 of A-Z a-z 0-9 . _ -
    """
    if not _NAME.fullmatch(name):
        raise ConfigError(f"name is {name!r}; it must be 1 to 64 of A-Z a-z 0-9 . _ -")
    token = PREFIX + secrets.token_urlsafe(RANDOM_BYTES)
    return token, KnownToken(name, scope, hash_of(token))


def hash_of(token: str) -> str:
    """SHA-256 of a token, hexadecimal."""
    return hashlib.sha256(token.encode()).hexdigest()


def read_tokens(file: Path) -> list[KnownToken]:
    """The tokens of a file: lines `NAME SCOPE SHA256`; empty lines and lines that begin with # are comments.

    Raises:
        ConfigError: it cannot be read, or a line is wrong; names the line, never its hash.
    """
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8"
        raise ConfigError(f"cannot read the file of tokens {file}: {reason}") from None
    known: dict[str, KnownToken] = {}
    for number, line in enumerate(lines, 1):
        words = line.split()
        if not words or words[0].startswith("#"):
            continue
        token = _token_of(words, f"{file}, line {number}")
        if token.name in known:
            raise ConfigError(f"{file}, line {number}: {token.name!r} is there twice")
        known[token.name] = token
    return list(known.values())


def _token_of(words: Sequence[str], place: str) -> KnownToken:
    if len(words) != 3:
        raise ConfigError(f"{place}: it has {len(words)} words; it must be NAME SCOPE SHA256")
    name, scope, sha256 = words
    if not _NAME.fullmatch(name):
        raise ConfigError(f"{place}: the name must be 1 to 64 of A-Z a-z 0-9 . _ -")
    if not _HASH.fullmatch(sha256):
        raise ConfigError(f"{place}: the hash must be 64 hexadecimal digits, as `nearlight token new` prints")
    try:
        return KnownToken(name, Scope.of(scope), sha256)
    except ValueError as error:
        raise ConfigError(f"{place}: {error}") from None


class Tokens:
    """The tokens that are let in now.

    Args:
        plain: from the environment or the configuration; each may do everything.
        file: of hashes; read again when it changes. A file that has become wrong leaves the tokens as they
            were, and an error in the log.

    Raises:
        ConfigError: the file is wrong at the start.
    """

    def __init__(self, plain: Sequence[str], file: Path | None) -> None:
        self._plain = [
            KnownToken(f"token-{number}", Scope.ADMIN, hash_of(token))
            for number, token in enumerate(plain, 1)
        ]
        self._file = file
        self._watched = WatchedFiles([file] if file else [])
        self._known = [*self._plain, *(read_tokens(file) if file else [])]

    @property
    def are_needed(self) -> bool:
        """Whether a call must carry a token; also where the file holds none: then nobody is let in."""
        return bool(self._plain) or self._file is not None

    def find(self, token: str) -> KnownToken | None:
        """The known token that this is, or None."""
        self._refresh()
        given = hash_of(token)
        found: KnownToken | None = None
        for known in self._known:
            # Always all of them: how long it takes must not tell which one was near.
            if hmac.compare_digest(given, known.sha256):
                found = known
        return found

    def _refresh(self) -> None:
        if self._file is None or not self._watched.have_changed():
            return
        try:
            self._known = [*self._plain, *read_tokens(self._file)]
        except ConfigError as error:
            log.error("the file of tokens is wrong; the tokens stay as they were", reason=str(error))
            return
        log.info("tokens read again", file=str(self._file), tokens=len(self._known))
