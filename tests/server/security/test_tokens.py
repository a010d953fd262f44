import hashlib
import tempfile
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from nearlight.server.errors import ConfigError
from nearlight.server.security import tokens as tokens_module
from nearlight.server.security.command import app
from nearlight.server.security.scopes import Scope
from nearlight.server.security.tokens import Tokens, hash_of, new_token, read_tokens
from nearlight.server.security.watched import WatchedFiles

HASH = "0" * 64


@pytest.fixture(autouse=True)
def _look_always(monkeypatch: pytest.MonkeyPatch) -> None:
    """A change is seen at once, not within a second."""
    watched = lambda paths: WatchedFiles(paths, look_seconds=0)  # noqa: E731
    monkeypatch.setattr(tokens_module, "WatchedFiles", watched)


def test_a_new_token_is_found_and_only_its_hash_is_kept(tmp_path: Path) -> None:
    file = tmp_path / "tokens"
    secret, known = new_token("alice", Scope.WRITE)
    file.write_text(f"# who may\n\n{known.line()}\n")
    assert secret not in file.read_text()
    assert hashlib.sha256(secret.encode()).hexdigest() in file.read_text()
    assert len(secret) >= 43
    tokens = Tokens([], file)
    assert tokens.find(secret) == known
    assert tokens.find(known.sha256) is None  # the hash is no key
    assert tokens.find("") is None
    assert tokens.find("ß" * 100) is None


def test_tokens_of_the_configuration_may_do_everything() -> None:
    tokens = Tokens(["first-of-sixteen-x", "second-of-sixteen"], None)
    first, second = tokens.find("first-of-sixteen-x"), tokens.find("second-of-sixteen")
    assert first
    assert second
    assert (first.scope, first.name, second.name) == (Scope.ADMIN, "token-1", "token-2")


def test_none_are_needed_only_where_none_are_set(tmp_path: Path) -> None:
    (tmp_path / "tokens").write_text("# nobody yet\n")
    assert not Tokens([], None).are_needed
    assert Tokens([], tmp_path / "tokens").are_needed
    assert Tokens([], tmp_path / "tokens").find("anything") is None


def test_a_change_of_the_file_counts_and_a_broken_one_leaves_things_as_they_were(tmp_path: Path) -> None:
    file = tmp_path / "tokens"
    alice, bob = new_token("alice", Scope.READ), new_token("bob", Scope.ADMIN)
    file.write_text(alice[1].line() + "\n")
    tokens = Tokens([], file)
    file.write_text(bob[1].line() + "\n")
    assert tokens.find(bob[0]) == bob[1]
    assert tokens.find(alice[0]) is None  # revoked
    file.write_text("bob king " + HASH)
    assert tokens.find(bob[0]) == bob[1]
    file.unlink()
    assert tokens.find(bob[0]) == bob[1]
    file.write_text(f"{alice[1].line()}\n{bob[1].line()}")
    assert tokens.find(alice[0]) == alice[1]


def test_every_known_token_is_compared_whichever_is_right(monkeypatch: pytest.MonkeyPatch) -> None:
    compared: list[str] = []

    def compare(given: str, known: str) -> bool:
        compared.append(known)
        return given == known

    monkeypatch.setattr("nearlight.server.security.tokens.hmac.compare_digest", compare)
    tokens = Tokens([f"token-number-{n:04}" for n in range(5)], None)
    for number in (0, 4):
        compared.clear()
        assert tokens.find(f"token-number-{number:04}")
        assert len(compared) == 5
    assert hash_of("token-number-0000") in compared


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("alice read", "line 1: it has 2 words"),
        (f"alice read {HASH} more", "it has 4 words"),
        (f"\nal/ice read {HASH}", "line 2: the name must be"),
        (f"alice king {HASH}", "scope is 'king'; it must be one of read, write, admin"),
        ("alice read " + "G" * 64, "the hash must be 64 hexadecimal digits"),
        (f"alice read {HASH}\nalice read {HASH}", "line 2: 'alice' is there twice"),
        (b"\xff", "not UTF-8"),
    ],
)
def test_a_wrong_file_is_said_with_its_line(tmp_path: Path, content: str | bytes, words: str) -> None:
    file = tmp_path / "tokens"
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(ConfigError, match=words) as caught:
        read_tokens(file)
    assert "G" * 64 not in str(caught.value)


@given(st.binary(max_size=200))
def test_no_file_is_too_odd(content: bytes) -> None:
    with tempfile.NamedTemporaryFile() as file:
        file.write(content)
        file.flush()
        with suppress(ConfigError):
            found = read_tokens(Path(file.name))
            assert all(token.line().split()[0] == token.name for token in found)


@given(st.text(max_size=300))
def test_no_token_is_too_odd(token: str) -> None:
    assert Tokens(["a-token-of-sixteen-characters"], None).find(token) is None


def test_the_command_prints_the_token_once_and_appends_its_hash(tmp_path: Path) -> None:
    file = tmp_path / "tokens"
    file.write_text("# a comment without an end")
    for name, scope in (("alice", "read"), ("bob", "admin")):
        ran = CliRunner().invoke(app, ["new", name, "--scope", scope, "--file", str(file)])
        assert ran.exit_code == 0, ran.output
        found = Tokens([], file).find(ran.stdout.strip())
        assert found
        assert (found.name, found.scope.word) == (name, scope)
    assert file.read_text().startswith("# a comment without an end\nalice read ")
    assert list(tmp_path.iterdir()) == [file]
    again = CliRunner().invoke(app, ["new", "bob", "--file", str(file)])
    assert again.exit_code == 2
    assert "has a token named 'bob' already" in again.stderr
    assert again.stdout == ""
    assert len(read_tokens(file)) == 2


def test_the_command_without_a_file_gives_the_line_apart(tmp_path: Path) -> None:
    ran = CliRunner().invoke(app, ["new", "alice"])
    (tmp_path / "tokens").write_text(ran.stderr)
    assert Tokens([], tmp_path / "tokens").find(ran.stdout.strip())
    for words in (["new", "a b"], ["new", "alice", "--scope", "king"], ["new", "a", "--file", "/no/where"]):
        wrong = CliRunner().invoke(app, words)
        assert wrong.exit_code == 2
        assert wrong.stdout == ""
