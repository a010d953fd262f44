"""The main job, small and whole, by the commands a user types, from training to labels."""

import io
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

COLOURS = {"red": (210, 40, 40), "green": (40, 190, 60), "blue": (50, 70, 210), "yellow": (225, 215, 60)}
MODEL = {
    "embed_dim": 16,
    "image_px": 32,
    "vision": {"layers": 1, "width": 32, "head_width": 16, "patch_size": 8},
    "text": {"width": 32, "heads": 2, "layers": 1},
    "context_length": 16,
    "merges": 500,
}
# The commands run beside one another on few cores.
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "NO_COLOR": "1"}


def picture(name: str, seed: int) -> bytes:
    noise = np.random.default_rng(seed).normal(0, 25, (48, 40, 3))
    buffer = io.BytesIO()
    Image.fromarray(np.clip(np.array(COLOURS[name]) + noise, 0, 255).astype(np.uint8)).save(buffer, "JPEG")
    return buffer.getvalue()


def run_nearlight(*arguments: object) -> subprocess.CompletedProcess[str]:
    """Runs a command to its end."""
    return subprocess.run(
        [sys.executable, "-m", "nearlight.client.cli", *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=240,
        env=ENVIRONMENT,
        check=False,
    )


def nearlight(*arguments: object, code: int = 0) -> str:
    """Runs a command to its end; returns its standard output."""
    done = run_nearlight(*arguments)
    assert done.returncode == code, f"{arguments}: exit {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A trained and exported model, and a folder of pictures it has not seen."""
    world = tmp_path_factory.mktemp("world")
    names = [list(COLOURS)[i % 4] for i in range(96)]
    table = pa.table(
        {
            "image": [picture(n, i) for i, n in enumerate(names)],
            "captions": [[f"a {n} picture", f"this one is {n} ."] for n in names],
        }
    )
    pq.write_table(table, world / "pairs.parquet")
    (world / "photos" / "sub").mkdir(parents=True)
    for i, name in enumerate(COLOURS):
        (world / "photos" / "sub" / f"{name}.jpg").write_bytes(picture(name, 1000 + i))
    (world / "photos" / "broken.jpg").write_bytes(b"not an image at all")
    settings = {"model": MODEL, "steps": 80, "batch_size": 16, "log_every": 40, "device": "cpu"}
    settings |= {"optimiser": {"lr": 0.003, "warmup_steps": 5}, "data": {"cache_px": 40}}
    (world / "config.json").write_text(json.dumps(settings))
    pairs = world / "pairs.parquet"
    nearlight(
        "train",
        "clip",
        "--data",
        pairs,
        "--val",
        pairs,
        "--config",
        world / "config.json",
        "--out",
        world / "run",
    )
    known = ["--data", pairs, "--name", "colours", "--no-cache"]
    nearlight("export", world / "run", "--out", world / "bundle", *known)
    return world


def start_server(
    world: Path, bundle: str = "bundle", data: str = "data"
) -> tuple[subprocess.Popen[str], str]:
    """Starts `nearlight serve` on a free port; returns it with its address once it is ready."""
    with (world / "server.log").open("w", encoding="utf-8") as log:
        server = subprocess.Popen(
            [sys.executable, "-m", "nearlight.client.cli", "serve", "--bundle", str(world / bundle)]
            + ["--data", str(world / data), "--listen", "127.0.0.1:0"],
            stdout=log,
            stderr=subprocess.STDOUT,
            text=True,
            env=ENVIRONMENT,
        )
    for _ in range(600):
        said = (world / "server.log").read_text(encoding="utf-8")
        if found := re.search(r"127\.0\.0\.1:[1-9]\d*", said):
            return server, found.group()
        assert server.poll() is None, said
        time.sleep(0.1)
    raise AssertionError(f"the server did not get ready:\n{said}")


@pytest.fixture
def address(world: Path) -> Iterator[str]:
    server, address = start_server(world)
    yield address
    server.send_signal(signal.SIGTERM)
    assert server.wait(timeout=40) == 0


def test_train_export_serve_index_search_classify(world: Path, address: str) -> None:
    at = ["--server", address]
    # One file is broken: it is named, the others are stored, and the exit code says so.
    report = json.loads(nearlight("index", world / "photos", "-c", "photos", *at, "--json", code=1))
    assert "broken.jpg" in json.dumps(report)
    info = json.loads(nearlight("collections", "info", "photos", *at, "--json"))
    assert (info["name"], info["count"]) == ("photos", 4)
    for name in COLOURS:
        hits = json.loads(nearlight("search", f"a {name} picture", "-c", "photos", "-n", 2, *at, "--json"))
        assert hits[0]["id"] == f"sub/{name}.jpg"
        assert hits[0]["score"] > hits[1]["score"]
        assert hits[0]["payload"]["path"]
    photo = world / "photos" / "sub" / "blue.jpg"
    by_image = json.loads(nearlight("search", "--image", photo, "-c", "photos", *at, "--json"))
    assert by_image[0]["id"] == "sub/blue.jpg"
    assert by_image[0]["score"] == pytest.approx(1.0, abs=1e-4)
    by_id = json.loads(nearlight("search", "--id", "sub/red.jpg", "-c", "photos", *at, "--json"))
    assert {hit["id"] for hit in by_id} >= {"sub/blue.jpg", "sub/green.jpg"}
    found = json.loads(nearlight("classify", photo, "--labels", "red,green,blue,yellow", *at, "--json"))
    assert found[0]["labels"][0]["label"] == "blue"
    assert sum(label["probability"] for label in found[0]["labels"]) == pytest.approx(1, abs=1e-4)


def test_an_encoder_trained_on_images_alone_searches_by_image(world: Path) -> None:
    small = ["--encoder.name", "resnet10", "--encoder.width", 0.125, "--encoder.stem", "small"]
    small += ["--hidden", 16, "--projection", 8, "--batch-size", 16, "--epochs", 1, "--device", "cpu"]
    photos = world / "photos" / "sub"
    nearlight("train", "simclr", "--data", world / "pairs.parquet", "--out", world / "eye", *small)
    nearlight("export", world / "eye", "--out", world / "eye-bundle", "--name", "eye", "--no-cache")
    server, address = start_server(world, "eye-bundle", "eye-data")
    try:
        at = ["--server", address]
        nearlight("index", photos, "-c", "photos", *at)
        hits = json.loads(nearlight("search", "--image", photos / "green.jpg", "-c", "photos", *at, "--json"))
        assert (hits[0]["id"], len(hits)) == ("green.jpg", 4)
        assert hits[0]["score"] == pytest.approx(1.0, abs=1e-4)
        done = run_nearlight("search", "a green picture", "-c", "photos", *at)
        assert done.returncode == 1
        assert "model 'eye' has no text tower" in done.stderr
    finally:
        server.send_signal(signal.SIGTERM)
        server.wait(timeout=40)


def test_a_killed_server_keeps_all_it_acknowledged(world: Path) -> None:
    from nearlight.client import Client, Point

    server, address = start_server(world)
    acknowledged = 0
    vectors = np.random.default_rng(0).normal(size=(2000, 16)).astype(np.float32)
    with Client(address) as client:
        client.create_collection("durable")
        points = (Point(f"p{i}", {"i": i}, vector=v) for i, v in enumerate(vectors))
        for ack in client.upsert_stream("durable", points, batch_size=20, in_flight=4):
            acknowledged += acked(ack)
            if acknowledged >= 300:
                os.kill(server.pid, signal.SIGKILL)
                break
    server.wait(timeout=10)
    server, address = start_server(world)
    try:
        with Client(address) as client:
            stored = {record.id: record.payload["i"] for record in client.scroll("durable")}
            assert client.count("durable") == len(stored) >= acknowledged
            assert all(stored[f"p{i}"] == i for i in range(acknowledged))
    finally:
        server.send_signal(signal.SIGTERM)
        server.wait(timeout=40)


def acked(ack: Any) -> int:
    assert not ack.errors
    return int(ack.upserted)
