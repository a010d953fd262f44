from pathlib import Path
from typing import Any

import pytest

from nearlight.server.config import ServerConfig
from nearlight.server.config_layers import as_toml, flag_layer, load_config
from nearlight.server.errors import ConfigError


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "server.toml"
    path.write_text(
        'listen = "127.0.0.1:1"\ndrain_seconds = 1\n[limits]\nmax_labels = 1\nmax_templates = 1\n'
    )
    return path


def test_defaults_then_file_then_environment_then_flags(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NEARLIGHT_SERVE_DRAIN_SECONDS", "2")
    monkeypatch.setenv("NEARLIGHT_SERVE_LIMITS__MAX_TEMPLATES", "2")
    monkeypatch.setenv("NEARLIGHT_SERVE_BUNDLES", "a, b")
    monkeypatch.setenv("NEARLIGHT_SERVE_SECURITY__TOKENS", "sixteen-characters,another-sixteen-long")
    config = load_config(file, flag_layer({"limits.max_labels": None, "listen": "127.0.0.1:3"}, []))
    assert config.listen == "127.0.0.1:3"
    assert config.drain_seconds == 2
    assert (config.limits.max_labels, config.limits.max_templates) == (1, 2)
    assert config.limits.max_query_limit == 10_000
    assert config.bundles == ("a", "b")
    assert len(config.security.tokens) == 2


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ({"lisen": "x"}, "unknown key lisen; did you mean listen?"),
        ({"limits.max_message_byte": 1}, "did you mean limits.max_message_bytes?"),
        (
            {"limits.max_labels": 0},
            "limits.max_labels: Input should be greater than or equal to 1 (given: 0)",
        ),
        ({"listen": "here:99999"}, "is not HOST:PORT with a port of 0 to 65535"),
        ({"limits.queue_inputs": 3}, "queue_inputs is 3, less than max_batch_inputs 256"),
        ({"security.tls_cert_file": "a"}, "tls_cert_file and tls_key_file go together"),
        ({"security.tls_client_ca_file": "a"}, "tls_client_ca_file needs"),
        ({"security.tokens": "short"}, "a token is shorter than 16 characters"),
        ({"log.level": "loud"}, "log.level"),
        ({"drain_seconds": "nan"}, "drain_seconds"),
    ],
)
def test_what_is_wrong_is_named(flags: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_config(None, flag_layer(flags, []))
    assert words in str(caught.value)
    assert "short'" not in str(caught.value)


def test_an_unknown_variable_is_an_error_with_the_nearest_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NEARLIGHT_SERVE_LISTN", "x")
    with pytest.raises(ConfigError, match="NEARLIGHT_SERVE_LISTN; did you mean NEARLIGHT_SERVE_LISTEN?"):
        load_config(None, {})
    monkeypatch.delenv("NEARLIGHT_SERVE_LISTN")
    monkeypatch.setenv("NEARLIGHT_SERVE_STORE_THREADS", "many")
    with pytest.raises(ConfigError, match="store_threads"):
        load_config(None, {})


def test_an_unknown_key_of_the_file_and_a_file_that_is_none(tmp_path: Path) -> None:
    path = tmp_path / "x.toml"
    path.write_text("[batching]\nmax_image = 3\n")
    with pytest.raises(ConfigError, match=r"batching\.max_image; did you mean batching\.max_images"):
        load_config(path, {})
    path.write_text("= 3")
    with pytest.raises(ConfigError, match="is not TOML"):
        load_config(path, {})


def test_what_is_printed_reads_back_as_the_same_and_hides_tokens(tmp_path: Path) -> None:
    flags = flag_layer(
        {"bundles": ("a", 'b"c\\'), "security.tokens": "secret-token-number-one"},
        ["batching.max_images=3", "log.format=json", "batching.text_lengths=[8, 77]", "drain_seconds=0.5"],
    )
    config = load_config(None, flags)
    printed = as_toml(config)
    assert "secret" not in printed
    assert "# tokens: 1 set, not shown" in printed
    (tmp_path / "c.toml").write_text(printed)
    again = load_config(tmp_path / "c.toml", {"security": {"tokens": config.security.tokens}})
    assert again.model_dump() == config.model_dump()
    assert again.batching.text_lengths == (8, 77)


def test_a_setting_without_a_value_is_an_error() -> None:
    with pytest.raises(ConfigError, match="it must be KEY=VALUE"):
        flag_layer({}, ["listen"])


@pytest.mark.parametrize(
    ("listen", "loopback"),
    [
        ("127.0.0.1:1", True),
        ("127.9.9.9:1", True),
        ("localhost:1", True),
        ("[::1]:1", True),
        ("unix:/tmp/x", True),
        ("0.0.0.0:1", False),
        ("[::]:1", False),
        ("10.0.0.1:1", False),
    ],
)
def test_loopback(listen: str, loopback: bool) -> None:
    assert ServerConfig(listen=listen).is_loopback is loopback
