"""`nearlight stats` looks at a real server at work."""

import io
import json
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import typer
from rich.console import Console
from typer.testing import CliRunner

from nearlight.client import Client
from nearlight.client.commands import stats as stats_module
from nearlight.client.commands.stats import stats
from nearlight.server.config import ServerConfig
from nearlight.server.local import LocalServer

app = typer.Typer()
app.command()(stats)


@pytest.fixture(scope="module")
def busy_server(
    tiny_bundle: Path,
    images: list[bytes],
    tmp_path_factory: pytest.TempPathFactory,
    config_of: Callable[..., ServerConfig],
) -> Iterator[LocalServer]:
    """Somebody asks it for 3 images and a text, again and again."""
    asked_to_stop = threading.Event()
    with LocalServer(config_of([tiny_bundle], tmp_path_factory.mktemp("data"))) as server:

        def ask() -> None:
            with Client(server.address) as client:
                client.create_collection("photos")
                while not asked_to_stop.wait(0.01):
                    client.embed([*images[:3], "a dog"])

        asking = threading.Thread(target=ask)
        asking.start()
        yield server
        asked_to_stop.set()
        asking.join()


def test_once_as_json_tells_rates_latencies_and_sizes(busy_server: LocalServer) -> None:
    ran = CliRunner().invoke(app, ["--metrics", busy_server.metrics_address, "--every", "1", "--json"])
    assert ran.exit_code == 0, ran.output
    document = json.loads(ran.stdout)
    assert document["serving"] is True
    methods = {line["method"]: line for line in document["methods"]}
    embed = methods["EmbeddingService/Embed"]
    assert embed["calls_per_s"] > 0
    assert embed["failed_per_s"] == 0
    assert 0 < embed["p50_ms"] <= embed["p95_ms"] <= embed["p99_ms"]
    towers = {line["tower"]: line for line in document["towers"]}
    images, texts = towers["tiny/image"]["inputs_per_s"], towers["tiny/text"]["inputs_per_s"]
    assert images == pytest.approx(3 * texts, rel=0.3)
    assert 0 < towers["tiny/image"]["busy_share"] < 1
    assert 1 <= towers["tiny/image"]["mean_batch"] <= 3
    assert 0 < document["padding_share"] < 1
    assert document["points"] == {"photos": 0}
    assert document["resident_bytes"] > document["store_bytes"] > 0
    assert document["cores_used"] > 0


def test_once_for_people(busy_server: LocalServer) -> None:
    ran = CliRunner().invoke(app, ["--metrics", busy_server.metrics_address, "--every", "0.5", "--once"])
    assert ran.exit_code == 0, ran.output
    for words in ("serving", "EmbeddingService/Embed", "tiny/image", "inputs/s", "decode", "MiB resident"):
        assert words in ran.stdout


def test_it_watches_until_interrupted_and_waits_for_a_server_that_is_away(
    busy_server: LocalServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks: list[float] = []
    addresses = iter([busy_server.metrics_address, "127.0.0.1:1", busy_server.metrics_address])
    original = stats_module.watch

    def sleep(seconds: float) -> None:
        looks.append(seconds)
        if len(looks) == 4:
            raise KeyboardInterrupt

    from nearlight.client import figures

    real_read = figures.read
    monkeypatch.setattr(figures, "read", lambda address: real_read(next(addresses, address)))
    monkeypatch.setattr(stats_module.time, "sleep", sleep)  # type: ignore[attr-defined]
    shown = Console(file=io.StringIO(), force_terminal=True, width=120)
    monkeypatch.setattr(stats_module, "console", lambda: shown)
    with pytest.raises(KeyboardInterrupt):
        original(busy_server.metrics_address, 0.2)
    assert looks == [0.2] * 4
    assert isinstance(shown.file, io.StringIO)
    text = shown.file.getvalue()
    assert "no metrics at http://127.0.0.1:1" in text
    assert "tiny/image" in text


def test_where_nothing_answers_it_says_where_metrics_are_set() -> None:
    ran = CliRunner().invoke(app, ["--metrics", "127.0.0.1:1", "--once"])
    assert ran.exit_code == 1
    assert "nearlight serve --metrics" in ran.stderr
