"""A collection changes its model over the wire: by the client, by the command, against real servers."""

import asyncio
import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from nearlight.client import AsyncClient, Client, NotFound, Point, WrongSpace, cli
from nearlight.client.indexing import Indexing
from nearlight.client.options import QueryOptions
from nearlight.client.sources import open_source
from nearlight.client.upgrades import Original
from nearlight.client.upgrading import FolderOriginals, Upgrading
from nearlight.server.local import LocalServer
from tests.server.test_process_faults import started

N = 24


@pytest.fixture(scope="module")
def second_bundle(tiny: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of other weights and another dim than the tiny one."""
    folder: Path = tiny.write(tmp_path_factory.mktemp("models") / "second", "second", seed=40, dim=24)
    return folder


@pytest.fixture
def pictures(tmp_path: Path, images: list[bytes]) -> Path:
    folder = tmp_path / "pictures"
    (folder / "deep").mkdir(parents=True)
    for i, image in enumerate(images):
        (folder / ("deep" if i % 2 else ".") / f"{i:02}.png").write_bytes(image)
    return folder


@pytest.fixture
def address(
    tiny_bundle: Path, second_bundle: Path, tmp_path: Path, config_of: Callable[..., Any]
) -> Iterator[str]:
    config = config_of([tiny_bundle], tmp_path / "data", model_folders=(second_bundle.parent,))
    with LocalServer(config) as server:
        yield server.address


@pytest.fixture
def client(address: str) -> Iterator[Client]:
    with Client(address) as opened:
        yield opened


def index(client: Client, folder: Path, *, store_images: bool = False) -> None:
    client.create_collection("c", store_images=store_images)
    Indexing(client, "c", open_source(str(folder), "image", None)).run()


def command(address: str, *arguments: str | Path) -> tuple[int, dict[str, Any], str]:
    """Exit code, the document on stdout, and stderr of `nearlight collections upgrade c ... --json`."""
    result = CliRunner().invoke(
        cli.app, ["collections", "upgrade", "c", *map(str, arguments), "--server", address, "--json"]
    )
    document = json.loads(result.stdout) if result.stdout.startswith("{") else {}
    return result.exit_code, document, result.stderr


def answers(client: Client, texts: list[str]) -> list[list[tuple[Any, float]]]:
    return [[(hit.id, hit.score) for hit in client.query("c", text=text)] for text in texts]


TEXTS = ["a red dog", "the sea", "three words here"]


def oracle(client: Client, folder: Path, model: str) -> list[list[Any]]:
    """What searches must find: every file embedded by the model, compared with every text."""
    files = sorted(path for path in folder.rglob("*.png"))
    rows = client.embed([path.read_bytes() for path in files], model=model).require()
    queries = client.embed(TEXTS, model=model).require()
    names = np.array([path.relative_to(folder).as_posix() for path in files])
    return [names[np.argsort(-rows @ query, kind="stable")][:10].tolist() for query in queries]


def ids(found: list[list[tuple[Any, float]]]) -> list[list[Any]]:
    return [[key for key, _ in hits] for hits in found]


def test_one_command_there_and_one_back(
    address: str, client: Client, pictures: Path, second_bundle: Path
) -> None:
    index(client, pictures)
    before = answers(client, TEXTS)
    code, found, errors = command(address, "--bundle", second_bundle, "--images", pictures)
    assert (code, found["state"], found["done"], found["failures"]) == (0, "promoted", N, []), errors
    assert found["model"] == "second"
    assert found["evaluation"]["points"] == N
    assert found["evaluation"]["texts"] > 50
    assert 0 <= found["overlap_at_10"] <= 1
    assert found["evaluation"]["old_query_ms"] > 0 < found["evaluation"]["new_query_ms"]
    info = client.collection("c")
    assert (info.model, info.dim, info.count) == ("second", 24, N)
    after = answers(client, TEXTS)
    assert ids(after) == oracle(client, pictures, "second") != ids(before)
    assert client.verify("c").ok
    code, found, _ = command(address, "--rollback")
    assert (code, found["state"], client.collection("c").model) == (0, "ready", "tiny")
    assert answers(client, TEXTS) == before
    code, found, _ = command(address, "--step", "promote")
    assert (code, found["state"]) == (0, "promoted")
    assert answers(client, TEXTS) == after
    code, found, _ = command(address, "--clean")
    assert (code, found["state"]) == (0, "done")
    assert answers(client, TEXTS) == after
    code, _, errors = command(address, "--rollback")
    assert code == 1
    assert "is done and cannot be rolled back" in errors


def test_a_collection_that_keeps_its_images_needs_nothing(
    address: str, client: Client, pictures: Path, second_bundle: Path, images: list[bytes]
) -> None:
    index(client, pictures, store_images=True)
    assert client.collection("c").store_images
    client.upsert("c", [Point("words", text="the sea")])
    expected = oracle(client, pictures, "tiny")
    code, found, errors = command(address, "--bundle", second_bundle, "--no-promote", "--query", "the sea")
    assert (code, found["state"], found["done"], found["evaluation"]["texts"]) == (0, "ready", N + 1, 1), (
        errors
    )
    assert [one[:1] for one in ids(answers(client, TEXTS))][1] == ["words"]
    client.delete("c", ["words"])
    assert ids(answers(client, TEXTS)) == expected
    # While it waits, new points are embedded into both spaces; a bad one fails alone.
    result = client.upsert("c", [Point("new", image=images[0]), Point("bad", image=b"no image")])
    assert (result.upserted, [error.index for error in result.errors]) == (1, [1])
    assert client.upgrade("c").done == N + 1
    code, found, errors = command(address, "--step", "promote")
    assert (code, found["state"]) == (0, "promoted"), errors
    [hit] = client.query("c", image=images[0], limit=1)
    assert hit.score == pytest.approx(1, abs=1e-5)
    client.delete("c", ["new"])
    assert ids(answers(client, TEXTS)) == oracle(client, pictures, "second")


def test_images_that_are_gone_or_changed_are_listed(
    address: str, client: Client, pictures: Path, second_bundle: Path, images: list[bytes]
) -> None:
    index(client, pictures)
    client.upsert("c", [Point("given", vector=np.ones(16))])
    client.upsert("c", [Point("escapes", vector=np.ones(16), payload={"path": "../secret.png"})])
    (pictures.parent / "secret.png").write_bytes(images[0])
    (pictures / "00.png").unlink()
    (pictures / "02.png").write_bytes(images[5])
    before = answers(client, TEXTS)
    code, found, errors = command(address, "--bundle", second_bundle)
    assert (code, found["state"], found["wanted"]) == (1, "running", N + 2)
    assert "name the folder or the parquet files" in errors
    code, found, errors = command(address, "--bundle", second_bundle, "--images", pictures)
    assert (code, found["state"], found["failed"]) == (1, "ready", 4)
    assert "nothing was promoted" in errors
    reasons = {one["id"]: one["message"] for one in found["failures"]}
    assert reasons["00.png"] == "No such file or directory"
    assert "has changed since it was indexed" in reasons["02.png"]
    assert "its payload has no path" in reasons["given"]
    assert "its path leads out of" in reasons["escapes"]
    with pytest.raises(WrongSpace, match="4 of the points"):
        client.control_upgrade("c", "promote")
    # Repaired and run again, fewer fail; the rest is left out when that is said.
    (pictures / "00.png").write_bytes(images[0])
    code, found, _ = command(address, "--bundle", second_bundle, "--images", pictures, "--drop-missing")
    assert (code, found["state"], found["failed"], found["left_out"]) == (0, "promoted", 0, 3)
    assert client.collection("c").count == N - 1
    assert client.verify("c").ok
    command(address, "--rollback")
    assert answers(client, TEXTS) == before


def test_mistakes_are_told(address: str, client: Client, pictures: Path, second_bundle: Path) -> None:
    code, _, errors = command(address, "--bundle", second_bundle)
    assert code == 1
    assert "no collection 'c'" in errors
    index(client, pictures)
    code, _, errors = command(address, "--bundle", "tiny")
    assert code == 1
    assert "already" in errors
    code, _, errors = command(address, "--bundle", "/nowhere/at/all")
    assert code == 1
    assert "is neither inside a folder of `model_folders`" in errors
    code, _, errors = command(address, "--status")
    assert code == 1
    assert "'c' has no upgrade" in errors
    for wrong in ([], ["--status", "--clean"], ["--step", "hop"]):
        assert command(address, *wrong)[0] == 2
    with pytest.raises(NotFound):
        client.upgrade("c")
    client.load_model(str(second_bundle))
    client.load_model(str(second_bundle), name="third")
    client.start_upgrade("c", "second", max_points_per_second=2)
    assert client.control_upgrade("c", "pause").state == "paused"
    with pytest.raises(WrongSpace, match="paused: nothing|is paused and cannot"):
        client.control_upgrade("c", "roll_back")
    assert client.control_upgrade("c", "resume").state == "running"
    assert client.start_upgrade("c", "third").state == "running"  # the same space by another name
    assert client.control_upgrade("c", "cancel").state == "cancelled"


def test_images_are_kept_from_the_first_point_on_or_not_at_all(address: str, pictures: Path) -> None:
    def run(name: str, *flags: str) -> Any:
        words = ["index", str(pictures), "-c", name, "--server", address, *flags]
        return CliRunner().invoke(cli.app, words)

    assert run("keeps", "--store-images").exit_code == 0
    assert run("keeps", "--store-images").exit_code == 0
    assert run("plain").exit_code == 0
    refused = run("plain", "--store-images")
    assert (refused.exit_code, "exists and keeps no images" in refused.stderr) == (1, True)
    with Client(address) as client:
        assert (client.collection("keeps").store_images, client.collection("plain").store_images) == (
            True,
            False,
        )


def test_it_keeps_to_its_pace(address: str, client: Client, pictures: Path, second_bundle: Path) -> None:
    index(client, pictures, store_images=True)
    client.load_model(str(second_bundle))
    began = time.monotonic()
    client.start_upgrade("c", "second", max_points_per_second=40)
    wanted, _ = client.upgrade_wanted("c")
    assert wanted == []
    found = Upgrading(client, "c", None).run()
    assert found.state == "ready"
    # The first batch goes at once, what follows it waits for its turn.
    client.upsert("c", [Point(f"again {i}", vector=np.ones(16)) for i in range(20)])
    originals = [
        Original(one.seq, (pictures / "00.png").read_bytes()) for one in client.upgrade_wanted("c")[0]
    ]
    client.send_originals("c", originals[:10])
    sent = client.send_originals("c", originals[10:])
    assert (sent.embedded, sent.outdated, sent.errors) == (10, 0, ())
    assert time.monotonic() - began >= (N + 10) / 40


async def test_the_asyncio_client_steers_it_too(
    address: str, client: Client, pictures: Path, second_bundle: Path
) -> None:
    await asyncio.to_thread(index, client, pictures)
    async with AsyncClient(address) as other:
        model = await other.load_model(str(second_bundle))
        started = await other.start_upgrade("c", model.name)
        assert (started.state, started.total, started.wanted) == ("running", N, N)
        wanted, token = await other.upgrade_wanted("c")
        assert (len(wanted), token) == (N, "")
        originals = list(FolderOriginals(pictures).of(wanted[:5]))
        stale = Original(10**9, originals[0].image)
        sent = await other.send_originals("c", [*originals, stale, Original(wanted[5].seq, None, "lost")])
        assert (sent.embedded, sent.outdated, sent.errors) == (5, 1, ())
        bad = await other.send_originals("c", [Original(wanted[6].seq, b"no image")])
        assert [(error.index, error.code) for error in bad.errors] == [(0, "INVALID_ARGUMENT")]
        now = await other.upgrade("c")
        while now.failed < 2:
            await asyncio.sleep(0.05)
            now = await other.upgrade("c")
        assert (now.done, now.failed, now.wanted) == (5, 2, N - 7)
        assert [one.message for one in await other.upgrade_failures("c")][:1] == ["lost"]
        assert (await other.control_upgrade("c", "cancel")).state == "cancelled"


def test_searches_and_writes_go_on_and_never_mix(
    address: str, client: Client, pictures: Path, second_bundle: Path, images: list[bytes]
) -> None:
    """Every answer is, score by score, of the space that it says it is of."""
    index(client, pictures, store_images=True)
    client.load_model(str(second_bundle))
    models = {one.space_id: one.name for one in client.models()}
    texts = TEXTS * 3
    queries = {space: client.embed(texts, model=model).require() for space, model in models.items()}
    stop, wrong, seen = threading.Event(), list[Any](), set[str]()

    def check(hits: Any, query: int) -> None:
        space = hits.info.space_id
        seen.add(space)
        for hit in hits:
            assert hit.vector is not None
            assert hit.vector.shape == queries[space][query].shape
            assert hit.score == pytest.approx(float(hit.vector @ queries[space][query]), abs=1e-4)

    def search(batch: bool) -> None:
        with Client(address) as own:
            while not stop.is_set():
                try:
                    if batch:
                        wishes = [QueryOptions(text=text, with_vectors=True) for text in TEXTS]
                        results: list[Any] = list(own.query_batch("c", wishes))
                        assert len({one.info.space_id for one in results}) == 1
                    else:
                        results = [own.query("c", text=TEXTS[0], with_vectors=True)]
                    for i, hits in enumerate(results):
                        check(hits, i)
                except BaseException as error:
                    wrong.append(error)
                    return

    def write() -> None:
        with Client(address) as own:
            turn = 0
            while not stop.is_set():
                turn += 1
                try:
                    own.upsert("c", [Point(f"w{turn % 7}", image=images[turn % N])]).errors  # noqa: B018
                    own.delete("c", [f"w{(turn + 3) % 7}"])
                except BaseException as error:
                    wrong.append(error)
                    return

    threads = [threading.Thread(target=search, args=(batch,)) for batch in (False, True)]
    threads.append(threading.Thread(target=write))
    for thread in threads:
        thread.start()
    client.start_upgrade("c", "second")
    Upgrading(client, "c", None).run()
    for step in ("promote", "roll_back", "promote", "roll_back", "promote", "clean"):
        client.control_upgrade("c", step)
        time.sleep(0.1)
    stop.set()
    for thread in threads:
        thread.join()
    assert not wrong
    assert seen == set(models)
    assert client.verify("c").ok


def test_relevance_goes_along(
    address: str, client: Client, second_bundle: Path, new_image: Callable[..., bytes]
) -> None:
    client.create_collection("c", store_images=True)
    client.upsert("c", [Point(i, image=new_image(i)) for i in range(60)])
    client.calibrate_collection("c")
    before = [hit.relevance for hit in client.query("c", text="the sea", min_relevance=0.0)]
    code, found, errors = command(address, "--bundle", second_bundle)
    assert (code, found["state"]) == (0, "promoted"), errors
    after = [hit.relevance for hit in client.query("c", text="the sea", min_relevance=0.0)]
    assert None not in after
    assert after != before
    command(address, "--rollback")
    assert [hit.relevance for hit in client.query("c", text="the sea", min_relevance=0.0)] == before


def test_an_alias_is_as_good_and_goes_along(
    address: str, client: Client, pictures: Path, second_bundle: Path
) -> None:
    index(client, pictures, store_images=True)
    client.update_aliases({"live": "c"})
    client.load_model(str(second_bundle))
    client.start_upgrade("live", "second")
    assert Upgrading(client, "live", None).run().collection == "c"
    client.control_upgrade("live", "promote")
    assert client.collection("live").aliases == ("live",)
    client.update_aliases({"live": "c", "more": "c"})
    client.control_upgrade("more", "roll_back")
    assert client.collection("c").aliases == ("live", "more")


def test_kill_9_of_the_command_at_any_moment(
    address: str, client: Client, pictures: Path, second_bundle: Path
) -> None:
    index(client, pictures)
    arguments = ["--bundle", str(second_bundle), "--images", str(pictures), "--max-rate", "8"]
    program = "from nearlight.client.cli import app; app()"
    words = [sys.executable, "-c", program, "collections", "upgrade", "c", *arguments, "--server", address]
    with subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as child:
        done = 0
        while not done:
            time.sleep(0.05)
            with suppress(NotFound):
                done = client.upgrade("c").done
        child.kill()
    time.sleep(0.3)  # what it had sent
    assert 0 < client.upgrade("c").done < N
    code, found, errors = command(address, "--bundle", second_bundle, "--images", pictures)
    assert (code, found["state"], found["done"]) == (0, "promoted", N), errors
    assert ids(answers(client, TEXTS)) == oracle(client, pictures, "second")


def test_kill_9_of_the_server_at_any_moment(
    tiny_bundle: Path, second_bundle: Path, tmp_path: Path, pictures: Path
) -> None:
    """The upgrade goes on by itself, with the new model, and what was promoted serves after a restart."""
    arguments: list[str | Path]
    arguments = ["--bundle", tiny_bundle, "--data", tmp_path / "data", "--model-folder", second_bundle.parent]
    with serving(arguments) as client:
        index(client, pictures, store_images=True)
        before = ids(answers(client, TEXTS))
        client.load_model(str(second_bundle))
        client.start_upgrade("c", "second", max_points_per_second=60)
        time.sleep(0.3)
    with serving(arguments) as client:
        assert ids(answers(client, TEXTS)) == before
        assert Upgrading(client, "c", None).run().state == "ready"
        assert ids(answers(client, TEXTS)) == before
        client.control_upgrade("c", "promote")
        after = ids(answers(client, TEXTS))
    with serving(arguments) as client:
        assert client.collection("c").model == "second"
        assert ids(answers(client, TEXTS)) == after == oracle(client, pictures, "second")
        client.control_upgrade("c", "roll_back")
        assert ids(answers(client, TEXTS)) == before


@contextmanager
def serving(arguments: Sequence[str | Path]) -> Iterator[Client]:
    """A client of a server process that is killed in the end."""
    child, address = started(*arguments)
    try:
        with Client(address) as client:
            yield client
    finally:
        child.kill()
        child.communicate()
