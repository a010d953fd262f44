"""The machine's limit computes what the server computes, and the bench measures both."""

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import typer
from typer.testing import CliRunner

from nearlight.client import Client
from nearlight.client.commands import bench as bench_module
from nearlight.client.commands.bench import bench
from nearlight.server.config import ServerConfig
from nearlight.server.errors import BundleUnusable
from nearlight.server.limit import open_limit
from nearlight.server.local import LocalServer

app = typer.Typer()
app.command()(bench)
PNG = b"\x89PNG\r\n\x1a\n"


@pytest.fixture
def _entry_point(monkeypatch: pytest.MonkeyPatch) -> None:
    """The limit is found also where the package was installed before it had one."""

    class Entry:
        @staticmethod
        def load() -> Any:
            return open_limit

    monkeypatch.setattr(bench_module.importlib.metadata, "entry_points", lambda group: [Entry])  # type: ignore[attr-defined]


def test_its_vectors_are_the_servers(tiny_bundle: Path, address: str, images: list[bytes]) -> None:
    limit = open_limit(str(tiny_bundle), threads=1)
    with Client(address) as client:
        np.testing.assert_allclose(limit.embed(images[:5]), client.embed(images[:5]).require(), atol=1e-6)
        texts = ["a dog", "a cat"]
        np.testing.assert_allclose(limit.embed(texts), client.embed(texts).require(), atol=1e-6)
    assert limit.describe()["engine_threads"] == 1
    limit.close()


def test_it_runs_full_batches_of_one_shape(
    tiny_bundle: Path, images: list[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    limit = open_limit(str(tiny_bundle))
    shapes: list[tuple[int, ...]] = []
    for encoder in limit._encoders.values():
        encode = encoder.encode

        def spy(rows: Any, encode: Any = encode) -> Any:
            shapes.append(rows.shape)
            return encode(rows)

        monkeypatch.setattr(encoder, "encode", spy)
    long = "one two three four five six seven eight nine ten eleven"
    done, elapsed_s = limit.run([*images, "dog", long], 0.3)
    assert elapsed_s >= 0.3
    assert done == sum(shape[0] for shape in shapes)
    assert {shape[0] for shape in shapes if len(shape) == 4} == {8}
    assert {shape[0] for shape in shapes if len(shape) == 2} <= {16}
    limit.close()


def test_a_single_input_takes_what_it_takes(
    tiny_bundle: Path, images: list[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    limit = open_limit(str(tiny_bundle))
    encoder = limit._encoders["image"]
    encode = encoder.encode

    def slow(rows: Any) -> Any:
        assert len(rows) == 1
        time.sleep(0.03)
        return encode(rows)

    monkeypatch.setattr(encoder, "encode", slow)
    assert limit.single_ms(images, 0.3) >= 30
    limit.close()


def test_a_bundle_that_is_not_there_is_said() -> None:
    with pytest.raises(BundleUnusable, match="no bundle 'nobody'"):
        open_limit("nobody")


@pytest.mark.usefixtures("_entry_point")
def test_the_bench_measures_both_and_draws(
    tiny_bundle: Path, address: str, images: list[bytes], tmp_path: Path
) -> None:
    (tmp_path / "images").mkdir()
    for number, image in enumerate(images):
        (tmp_path / "images" / f"{number}.png").write_bytes(image)
    words = ["mix", "--server", address, "--bundle", str(tiny_bundle), "--seconds", "0.4", "--json"]
    words += ["--in-flight", "1,4", "--rates", "0.5x,30", "--png", str(tmp_path / "load.png")]
    words += ["--images", str(tmp_path / "images")]
    ran = CliRunner().invoke(app, words)
    assert ran.exit_code == 0, ran.output
    document = json.loads(ran.stdout)
    points = document["points"]
    assert [(point["mode"], point["load"]) for point in points[:2]] == [("closed", 1), ("closed", 4)]
    assert points[2]["load"] == pytest.approx(0.5 * document["peak_per_s"])
    assert points[3]["load"] == 30
    for point in points:
        assert point["errors"] == {}
        assert point["calls"] > 0
        assert point["of_limit"] == pytest.approx(point["inputs_per_s"] / document["limit"]["mean_per_s"])
    assert len(document["limit"]["inputs_per_s"]) == 2
    assert document["limit"]["runs"]["bundle"] == "tiny"
    assert document["threads"] == document["limit"]["runs"]["engine_threads"]
    assert (tmp_path / "load.png").read_bytes().startswith(PNG)


@pytest.mark.usefixtures("_entry_point")
def test_the_bench_for_people_and_errors_by_status(
    tiny_bundle: Path, tmp_path: Path, config_of: Callable[..., ServerConfig]
) -> None:
    config = config_of([tiny_bundle], tmp_path, callers={"max_requests_per_second": 20})
    with LocalServer(config) as server:
        words = [
            "texts",
            "--server",
            server.address,
            "--seconds",
            "0.5",
            "--in-flight",
            "2",
            "--rates",
            "400",
        ]
        ran = CliRunner().invoke(app, [*words, "--bundle", str(tiny_bundle)])
    assert ran.exit_code == 0, ran.output
    assert "RESOURCE_EXHAUSTED" in ran.stdout
    assert "in process, full batches" in ran.stdout
    assert "400.0/s arriving" in ran.stdout


@pytest.mark.usefixtures("_entry_point")
def test_without_the_bundle_only_the_server_is_measured(address: str) -> None:
    words = ["texts", "--server", address, "--seconds", "0.2", "--in-flight", "1", "--rates", "", "--json"]
    ran = CliRunner().invoke(app, [*words, "--model", "sigmoid", "--bundle", "nobody"])
    assert ran.exit_code == 0, ran.output
    assert "no bundle 'nobody'" in ran.stderr
    assert json.loads(ran.stdout)["limit"] is None


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--rates", "fast"], "could not convert"),
        (["--rates", "0"], "must be above 0"),
        (["--in-flight", "0"], "must be at least 1"),
        (["--in-flight", ""], "is of the peak"),
    ],
)
def test_a_wrong_plan_is_said_before_anything_is_sent(words: list[str], said: str) -> None:
    ran = CliRunner().invoke(app, ["--server", "127.0.0.1:1", *words])
    assert ran.exit_code == 2
    assert said in " ".join(ran.stderr.replace("│", " ").split())


def test_where_no_server_is_the_command_says_so() -> None:
    ran = CliRunner().invoke(app, ["texts", "--server", "127.0.0.1:1", "--seconds", "0.2"])
    assert ran.exit_code == 1
    assert "Nothing listens at" in ran.stderr
