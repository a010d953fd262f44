"""A real bundle of a few KB, and a real server on it."""

import gzip
import io
import itertools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import numpy.typing as npt
import onnx
import open_clip
import pytest
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

from nearlight.bundle.clip_bpe import build_tokenizer_json, byte_characters
from nearlight.bundle.folder import write_bundle
from nearlight.bundle.manifest import (
    ImagePreprocess,
    ImageTower,
    Manifest,
    Scoring,
    TextTower,
    Towers,
    Truncation,
)
from nearlight.server.config import ServerConfig
from nearlight.server.config_layers import load_config
from nearlight.server.local import LocalServer
from nearlight.server.supervisor import Supervisor
from nearlight.v1 import (
    collection_pb2,
    collection_pb2_grpc,
    embedding_pb2_grpc,
    maintenance_pb2_grpc,
    model_pb2_grpc,
    point_pb2_grpc,
)

DIM = 16
SIDE_PX = 32
CONTEXT = 77
MERGES = 300
SOT, EOT = 512 + MERGES, 513 + MERGES
RAISES, GIVES_NAN = "~", "^"  # texts on which the tiny model fails; an all black image gives NaN too
OPSET = 17


def _model(
    nodes: list[onnx.NodeProto],
    name: str,
    dtype: int,
    shape: list[str | int | None],
    weights: Mapping[str, npt.NDArray[Any]],
    dim: int,
) -> bytes:
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info(name, dtype, shape)],
        [helper.make_tensor_value_info("vectors", TensorProto.FLOAT, ["B", dim])],
        [numpy_helper.from_array(value, key) for key, value in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=9)
    onnx.checker.check_model(model)
    content: bytes = model.SerializeToString()
    return content


def image_graph(seed: int, dim: int = DIM) -> bytes:
    """pixels (B, 32, 32, 3) → mean of each 8 x 8 patch → matrix → unit length. Black gives 0 / 0."""
    weights = {"matrix": np.random.default_rng(seed).normal(size=(48, dim)).astype(np.float32)}
    nodes = [
        helper.make_node("Cast", ["pixels"], ["numbers"], to=TensorProto.FLOAT),
        helper.make_node("Transpose", ["numbers"], ["planes"], perm=[0, 3, 1, 2]),
        helper.make_node("AveragePool", ["planes"], ["patches"], kernel_shape=[8, 8], strides=[8, 8]),
        helper.make_node("Flatten", ["patches"], ["flat"]),
        helper.make_node("MatMul", ["flat", "matrix"], ["long"]),
        helper.make_node("ReduceL2", ["long"], ["length"], axes=[1], keepdims=1),
        helper.make_node("Div", ["long", "length"], ["vectors"]),
    ]
    return _model(nodes, "pixels", TensorProto.UINT8, ["B", SIDE_PX, SIDE_PX, 3], weights, dim)


def text_graph(seed: int, dim: int = DIM) -> bytes:
    """tokens (B, L) → sum of the embeddings of all but padding → unit length."""
    rng = np.random.default_rng(seed)
    table = rng.normal(size=(514 + MERGES, dim)).astype(np.float32)
    table[_token(GIVES_NAN)] = np.nan
    table[0] = 0  # padding adds nothing
    rows = np.arange(514 + MERGES)
    rows[_token(RAISES)] = 10**6  # outside the table: ONNX Runtime raises
    nodes = [
        helper.make_node("Gather", ["rows", "tokens"], ["found"]),
        helper.make_node("Gather", ["table", "found"], ["embedded"]),
        helper.make_node("ReduceSum", ["embedded", "axis"], ["long"], keepdims=0),
        helper.make_node("ReduceL2", ["long"], ["length"], axes=[1], keepdims=1),
        helper.make_node("Div", ["long", "length"], ["vectors"]),
    ]
    weights: dict[str, npt.NDArray[Any]] = {"rows": rows, "table": table, "axis": np.array([1])}
    return _model(nodes, "tokens", TensorProto.INT64, ["B", "L"], weights, dim)


def _token(character: str) -> int:
    """Id of a character that is a whole word."""
    return 256 + byte_characters().index(character)


def write_tiny_bundle(
    out: Path,
    name: str,
    *,
    seed: int = 0,
    with_text: bool = True,
    scoring: str = "softmax",
    dim: int = DIM,
) -> Path:
    image = ImageTower(preprocess=ImagePreprocess(size_px=SIDE_PX), mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))
    text = TextTower(context_length=CONTEXT, sot_id=SOT, eot_id=EOT, trimmable=True)
    bias = -2.0 if scoring == "sigmoid" else 0.0
    manifest = Manifest(
        name=name,
        created="2026-11-23T00:00:00Z",
        dim=dim,
        space_id="0" * 64,
        towers=Towers(image=image, text=text if with_text else None),
        scoring=Scoring.model_validate({"kind": scoring, "logit_scale": 20.0, "logit_bias": bias}),
        opset=OPSET,
        truncations=(
            Truncation(dim=8, recall_at_10=0.5, whole_recall_at_10=0.9, holds=False),
            Truncation(dim=12, recall_at_10=0.9, whole_recall_at_10=0.9, holds=True),
        ),
    )
    files: dict[str, bytes | Path] = {"image.onnx": image_graph(seed, dim)}
    if with_text:
        vocabulary = Path(open_clip.__file__).parent / "bpe_simple_vocab_16e6.txt.gz"
        merges = gzip.decompress(vocabulary.read_bytes()).decode().split("\n")[1 : 1 + MERGES]
        files |= {
            "text.onnx": text_graph(seed + 1, dim),
            "tokenizer.json": build_tokenizer_json(merges).encode(),
        }
    write_bundle(out, manifest, files)
    return out


@dataclass(frozen=True)
class Tiny:
    """What tests must know of the tiny bundles."""

    dim: int = DIM
    side_px: int = SIDE_PX
    context: int = CONTEXT
    raises: str = RAISES
    gives_nan: str = GIVES_NAN
    write: Callable[..., Path] = write_tiny_bundle


@pytest.fixture(scope="session")
def tiny() -> Tiny:
    return Tiny()


@pytest.fixture(scope="session")
def tiny_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_bundle(tmp_path_factory.mktemp("bundles") / "tiny", "tiny")


@pytest.fixture(scope="session")
def sigmoid_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_bundle(
        tmp_path_factory.mktemp("bundles") / "sigmoid", "sigmoid", seed=5, scoring="sigmoid"
    )


@pytest.fixture(scope="session")
def images_only_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_bundle(tmp_path_factory.mktemp("bundles") / "eye", "eye", seed=9, with_text=False)


def make_image(seed: int, *, size: tuple[int, int] = (40, 30), kind: str = "PNG") -> bytes:
    """An encoded image of noise, different for every seed."""
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, kind)
    return file.getvalue()


@pytest.fixture(scope="session")
def new_image() -> Callable[..., bytes]:
    return make_image


@pytest.fixture(scope="session")
def images() -> list[bytes]:
    return [make_image(seed) for seed in range(24)]


@dataclass(frozen=True)
class Stubs:
    """All services of one server, over one real channel."""

    channel: grpc.Channel
    embedding: embedding_pb2_grpc.EmbeddingServiceStub
    models: model_pb2_grpc.ModelServiceStub
    collections: collection_pb2_grpc.CollectionServiceStub
    points: point_pb2_grpc.PointServiceStub
    maintenance: maintenance_pb2_grpc.MaintenanceServiceStub


@pytest.fixture(scope="session")
def stubs_of() -> Callable[[grpc.Channel], Stubs]:
    def make(channel: grpc.Channel) -> Stubs:
        untyped: list[Callable[..., object]] = [
            embedding_pb2_grpc.EmbeddingServiceStub,
            model_pb2_grpc.ModelServiceStub,
            collection_pb2_grpc.CollectionServiceStub,
            point_pb2_grpc.PointServiceStub,
            maintenance_pb2_grpc.MaintenanceServiceStub,
        ]
        return Stubs(channel, *(stub(channel) for stub in untyped))  # type: ignore[arg-type]

    return make


@pytest.fixture(scope="session")
def config_of() -> Callable[..., ServerConfig]:
    def make(bundles: list[Path], data_folder: Path, **settings: object) -> ServerConfig:
        flags = {"bundles": tuple(map(str, bundles)), "data_folder": data_folder, "listen": "127.0.0.1:0"}
        return load_config(None, {**flags, **settings})

    return make


@dataclass
class Falls:
    """What a supervisor told."""

    down: list[str] = field(default_factory=list)
    up: list[str] = field(default_factory=list)


@pytest.fixture
def falls() -> Falls:
    return Falls()


@pytest.fixture
def supervisor(falls: Falls) -> Iterator[Supervisor]:
    """Impatient: a call may take half a second, a fallen stage is begun anew after a tenth."""
    made = Supervisor(falls.down.append, falls.up.append, call_limit_s=0.5, restart_after_s=0.1)
    yield made
    made.close()


@pytest.fixture
def calm_supervisor(falls: Falls) -> Iterator[Supervisor]:
    """As in a server: it waits a minute for a call, and here as long before it begins a stage anew."""
    made = Supervisor(falls.down.append, falls.up.append, restart_after_s=60)
    yield made
    made.close()


@pytest.fixture(scope="module")
def address(
    tiny_bundle: Path,
    images_only_bundle: Path,
    sigmoid_bundle: Path,
    tmp_path_factory: pytest.TempPathFactory,
    config_of: Callable[..., ServerConfig],
) -> Iterator[str]:
    """A server with three models, one for all tests of a file."""
    config = config_of(
        [tiny_bundle, images_only_bundle, sigmoid_bundle],
        tmp_path_factory.mktemp("data"),
        limits={"max_message_bytes": 4_000_000, "max_image_pixels": 64_000_000},
    )
    with LocalServer(config) as server:
        yield server.address


@pytest.fixture(scope="module")
def stubs(address: str, stubs_of: Callable[[grpc.Channel], Stubs]) -> Iterator[Stubs]:
    options = [("grpc.max_send_message_length", -1), ("grpc.max_receive_message_length", -1)]
    with grpc.insecure_channel(address, options=options) as channel:
        yield stubs_of(channel)


_names = (f"collection-{number}" for number in itertools.count())


@pytest.fixture
def collection(stubs: Stubs) -> str:
    """An empty collection of the default model."""
    name = next(_names)
    stubs.collections.CreateCollection(collection_pb2.CreateCollectionRequest(name=name))
    return name
