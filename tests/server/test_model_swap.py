"""Models come and go under load: nobody's call fails, and what is unloaded is really gone."""

import gc
import json
import os
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from typer.testing import CliRunner

from nearlight.bundle.folder import Bundle, write_bundle
from nearlight.bundle.golden import GOLDEN, PROBE_TEXTS, Golden, probe_pixels, run_graph
from nearlight.client import AsyncClient, Client, NearlightError
from nearlight.client.commands.models import app as models_app
from nearlight.server.config import ServerConfig
from nearlight.server.local import LocalServer
from nearlight.server.runtimes.onnx_cpu import OnnxEncoder
from nearlight.v1 import embedding_pb2, input_pb2, model_pb2


@dataclass(frozen=True)
class Place:
    """A server on the bundle v1, and a folder from which others may be loaded."""

    stubs: Any
    folder: Path
    address: str = ""

    def load(self, bundle: Path, **fields: Any) -> model_pb2.ModelInfo:
        reply = self.stubs.models.LoadModel(model_pb2.LoadModelRequest(bundle=str(bundle), **fields))
        assert isinstance(reply, model_pb2.ModelInfo)
        return reply

    def unload(self, name: str, **options: Any) -> None:
        self.stubs.models.UnloadModel(model_pb2.UnloadModelRequest(name=name), **options)

    def names(self, **fields: Any) -> dict[str, str]:
        reply = self.stubs.models.UpdateModelAliases(model_pb2.UpdateModelAliasesRequest(**fields))
        return dict(reply.aliases)

    def embed(self, model: str, *, text: str = "a dog") -> tuple[str, np.ndarray]:
        request = embedding_pb2.EmbedRequest(model=model, inputs=[input_pb2.Input(text=text)])
        reply = self.stubs.embedding.Embed(request)
        assert not reply.errors
        return reply.space_id, np.frombuffer(reply.vectors.data, "<f4")

    def models(self) -> dict[str, model_pb2.ModelInfo]:
        reply = self.stubs.models.ListModels(model_pb2.ListModelsRequest())
        return {model.name: model for model in reply.models}


@pytest.fixture
def place(
    tiny: Any, tmp_path: Path, config_of: Callable[..., ServerConfig], stubs_of: Any
) -> Iterator[Place]:
    v1 = tiny.write(tmp_path / "models" / "v1", "v1")
    tiny.write(tmp_path / "models" / "v2", "v2", seed=40)
    config = config_of([v1], tmp_path / "data", model_folders=(str(tmp_path / "models"),), drain_seconds=20)
    with LocalServer(config) as server, grpc.insecure_channel(server.address) as channel:
        yield Place(stubs_of(channel), tmp_path / "models", server.address)


def test_a_swap_under_load_fails_no_call(place: Place) -> None:
    place.names(aliases={"m": "v1"})
    expected = {place.embed("v1")[0]: place.embed("v1")[1]}
    done = threading.Event()

    def caller(name: str) -> list[tuple[str, np.ndarray]]:
        answers = []
        while not done.is_set():
            answers.append(place.embed(name))
        return answers

    with ThreadPoolExecutor(8) as pool:
        callers = [pool.submit(caller, name) for name in ("m", "m", "m", "m", "", "", "", "")]
        time.sleep(0.2)
        new = place.load(place.folder / "v2", aliases=["m"], make_default=True)
        place.unload("v1")
        expected[new.space_id] = place.embed("v2")[1]
        time.sleep(0.2)
        done.set()
        answers = [future.result() for future in callers]
    for mine in answers:
        spaces = [space for space, _ in mine]
        # First the old model, then the new one, never back.
        assert spaces == sorted(spaces, key=lambda space: space == new.space_id)
        assert spaces[-1] == new.space_id
        for space, vector in mine:
            np.testing.assert_allclose(vector, expected[space], atol=1e-6)
    assert any(space != new.space_id for mine in answers for space, _ in mine)
    assert list(place.models()) == ["v2"]
    assert (list(new.aliases), new.is_default) == (["m"], True)


def test_a_call_in_flight_ends_before_its_model_does(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    place.load(place.folder / "v2", make_default=True)
    gate, entered, encode = threading.Event(), threading.Event(), OnnxEncoder.encode

    def slow(self: OnnxEncoder, rows: Any) -> Any:
        entered.set()
        gate.wait(20)
        return encode(self, rows)

    with ThreadPoolExecutor(3) as pool:
        monkeypatch.setattr(OnnxEncoder, "encode", slow)
        call = pool.submit(place.embed, "v1")
        assert entered.wait(10)
        queued = pool.submit(place.embed, "v1", text="another")
        time.sleep(0.3)  # it waits behind the running batch by now
        leaving = pool.submit(place.unload, "v1")
        while "v1" in place.models():
            time.sleep(0.01)
        with pytest.raises(grpc.RpcError) as caught:
            place.embed("v1")  # new calls no longer find it
        assert caught.value.code() is grpc.StatusCode.NOT_FOUND
        time.sleep(0.2)
        assert not leaving.done()
        gate.set()
        call.result()
        queued.result()
        leaving.result(10)
    assert not [thread.name for thread in threading.enumerate() if thread.name.startswith("v1/")]


def test_a_model_that_is_held_too_long_is_ended_all_the_same(
    tiny: Any, tmp_path: Path, config_of: Any, stubs_of: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = tiny.write(tmp_path / "v1", "v1")
    config = config_of([bundle], tmp_path / "data", drain_seconds=0.3)
    with LocalServer(config) as server, grpc.insecure_channel(server.address) as channel:
        place = Place(stubs_of(channel), tmp_path)
        gate, entered, encode = threading.Event(), threading.Event(), OnnxEncoder.encode

        def slow(self: OnnxEncoder, rows: Any) -> Any:
            entered.set()
            gate.wait(1.5)
            return encode(self, rows)

        monkeypatch.setattr(OnnxEncoder, "encode", slow)
        with ThreadPoolExecutor(1) as pool:
            call = pool.submit(place.embed, "v1")
            assert entered.wait(10)
            place.unload("v1", timeout=15)
            gate.set()
            call.result(10)  # the batch under way was finished
        assert place.models() == {}
        with pytest.raises(grpc.RpcError, match="no model is loaded"):
            place.embed("")


def heavy_bundle(tiny: Any, out: Path, width: int) -> Path:
    """A tiny bundle whose image tower goes through a layer of `width`, 256 bytes of weights for each."""
    light = Bundle.open(tiny.write(out.parent / "light", "heavy"))
    graph = onnx.load(light.image_path)
    rng = np.random.default_rng(0)
    del graph.graph.initializer[:]
    for name, shape in (("wide", (48, width)), ("matrix", (width, 16))):
        values = rng.standard_normal(shape, np.float32) / width
        graph.graph.initializer.append(numpy_helper.from_array(values, name))
    (product,) = [node for node in graph.graph.node if node.op_type == "MatMul"]
    product.input[0] = "widened"
    position = list(graph.graph.node).index(product)
    graph.graph.node.insert(position, onnx.helper.make_node("MatMul", ["flat", "wide"], ["widened"]))
    files: dict[str, bytes | Path] = {file.name: file for file in light.files}
    files["image.onnx"] = graph.SerializeToString()
    del files["manifest.json"], files["SHA256SUMS"]
    return write_bundle(out, light.manifest, files).path


def rss_mib() -> float:
    gc.collect()
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="RSS is read from Linux's /proc")
def test_the_memory_of_an_unloaded_model_is_given_back(place: Place, tiny: Any) -> None:
    heavy = heavy_bundle(tiny, place.folder / "heavy", 200_000)  # 50 MiB
    place.load(place.folder / "v2")
    place.unload("v2")
    before = rss_mib()
    place.load(heavy)
    assert rss_mib() - before > 40
    place.unload("heavy")
    assert rss_mib() - before < 20


def test_what_is_refused(place: Place, tmp_path: Path) -> None:
    def refusal(call: Callable[[], object]) -> tuple[str, str]:
        with pytest.raises(grpc.RpcError) as caught:
            call()
        return caught.value.code().name, str(caught.value.details())

    outside = tmp_path / "elsewhere"
    (place.folder / "way-out").symlink_to(tmp_path)
    assert refusal(lambda: place.load(outside))[0] == "INVALID_ARGUMENT"
    for sly in (place.folder / ".." / "elsewhere", place.folder / "way-out" / "elsewhere"):
        assert "neither inside a folder of `model_folders`" in refusal(partial(place.load, sly))[1]
    for odd in ("\0", str(place.folder / ("x" * 5000)), str(place.folder / "a\0b"), "/"):
        assert refusal(partial(place.load, Path(odd)))[0] == "INVALID_ARGUMENT"
    assert "bundle is empty" in refusal(lambda: place.stubs.models.LoadModel(model_pb2.LoadModelRequest()))[1]
    code, message = refusal(lambda: place.load(place.folder / "absent"))
    assert (code, "no such folder" in message) == ("INVALID_ARGUMENT", True)
    assert refusal(lambda: place.unload("x" * 50_000))[0] == "NOT_FOUND"
    assert refusal(lambda: place.load(place.folder / "v1"))[0] == "ALREADY_EXISTS"
    assert refusal(lambda: place.load(place.folder / "v2", aliases=["v1"]))[0] == "ALREADY_EXISTS"
    assert "name is '../x'" in refusal(lambda: place.load(place.folder / "v2", name="../x"))[1]
    assert list(place.models()) == ["v1"]

    place.load(place.folder / "v2", name="other", aliases=["a"])
    assert place.embed("a")[0] == place.embed("other")[0] != place.embed("v1")[0]
    code, message = refusal(lambda: place.unload("v1"))
    assert (code, "is the default" in message) == ("FAILED_PRECONDITION", True)
    code, message = refusal(lambda: place.unload("other"))
    assert (code, "alias 'a' points to" in message) == ("FAILED_PRECONDITION", True)
    assert refusal(lambda: place.unload("a"))[0] == "NOT_FOUND"
    assert refusal(lambda: place.names(aliases={"b": "nobody"}))[0] == "NOT_FOUND"
    assert refusal(lambda: place.names(aliases={"v1": "other"}))[0] == "ALREADY_EXISTS"
    assert refusal(lambda: place.names(aliases={"b": "v1"}, deleted=["c"]))[0] == "NOT_FOUND"
    assert place.names() == {"a": "other"}  # nothing of a change that failed was done
    assert place.names(aliases={"b": "v1"}, deleted=["a"], default_model="other") == {"b": "v1"}
    assert place.models()["other"].is_default


def with_golden(bundle: Bundle, out: Path, *, skew: float) -> Path:
    """The bundle with golden vectors, turned away from the true ones by `skew`."""
    pixels = probe_pixels(32)
    tokens = bundle.tokenizer().encode(PROBE_TEXTS)
    images, texts = run_graph(bundle.image_path, pixels), run_graph(str_path(bundle.text_path), tokens)
    golden = Golden(pixels, images + np.float32(skew) * images[::-1], PROBE_TEXTS, tokens, texts)
    files: dict[str, bytes | Path] = {file.name: file for file in bundle.files}
    del files["manifest.json"], files["SHA256SUMS"]
    manifest = bundle.manifest.model_copy(update={"golden": GOLDEN, "name": out.name})
    return write_bundle(out, manifest, {**files, GOLDEN: golden.to_npz()}).path


def str_path(path: Path | None) -> Path:
    assert path is not None
    return path


def test_a_model_that_does_not_give_its_golden_vectors_is_not_served(place: Place) -> None:
    v2 = Bundle.open(place.folder / "v2")
    good = with_golden(v2, place.folder / "good", skew=0)
    bad = with_golden(v2, place.folder / "bad", skew=0.2)
    assert place.load(good).state == model_pb2.MODEL_STATE_READY
    with pytest.raises(grpc.RpcError, match="does not give the bundle's golden vectors") as caught:
        place.load(bad, aliases=["m"], make_default=True)
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert set(place.models()) == {"v1", "good"}
    assert place.embed("")[0] == place.embed("v1")[0]


def test_the_client_loads_moves_and_unloads(place: Place) -> None:
    with Client(place.address) as client:
        loaded = client.load_model(str(place.folder / "v2"), aliases=["m"])
        assert (loaded.name, loaded.aliases, loaded.is_default) == ("v2", ("m",), False)
        assert client.model("m").space_id == loaded.space_id
        assert client.update_model_aliases(aliases={"m": "v1"}, default_model="v2") == {"m": "v1"}
        assert client.model().name == "v2"
        with pytest.raises(NearlightError, match="alias 'm' points to model 'v1'"):
            client.unload_model("v1")
        client.update_model_aliases(deleted=["m"])
        client.unload_model("v1")
        assert [model.name for model in client.models()] == ["v2"]


async def test_the_async_client_does_the_same(place: Place) -> None:
    async with AsyncClient(place.address) as client:
        await client.load_model(str(place.folder / "v2"), name="w", make_default=True)
        assert await client.update_model_aliases(aliases={"m": "w"}) == {"m": "w"}
        await client.unload_model("v1")
        assert [(model.name, model.aliases) for model in await client.models()] == [("w", ("m",))]


def test_the_commands(place: Place) -> None:
    def run(*words: object, code: int = 0) -> str:
        words = (*words, "--server", place.address)
        result = CliRunner().invoke(models_app, [str(word) for word in words])
        assert result.exit_code == code, (result.output, result.exception)
        return result.stdout if code == 0 else result.stderr

    assert json.loads(run("load", place.folder / "v2", "--alias", "m", "--default", "--json"))["is_default"]
    listed = run()
    assert "v2 (default)" in listed
    assert "CPU fp32" in listed
    assert json.loads(run("alias", "--json")) == {"m": "v2"}
    assert json.loads(run("alias", "n", "v1", "--json")) == {"m": "v2", "n": "v1"}
    assert "alias 'n' points to" in run("unload", "v1", code=1)
    run("alias", "n", "--delete")
    assert "v1 is unloaded" in run("unload", "v1")
    assert [model["name"] for model in json.loads(run("--json"))] == ["v2"]
    assert "ALIAS and --delete" in run("alias", "n", code=2)
