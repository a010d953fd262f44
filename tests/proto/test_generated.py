"""The generated code belongs to the .proto files.

Recorded hashes show it always; regenerating shows it where the generator is at hand.
"""

import hashlib
import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest
from google.protobuf import descriptor_pool

PROTO = Path(__file__).resolve().parents[2] / "proto"
PACKAGE = PROTO / "nearlight" / "v1"
SUFFIXES = ("_pb2.py", "_pb2.pyi", "_pb2_grpc.py")


def recorded() -> dict[str, str]:
    lines = (PACKAGE / "GENERATED").read_text().splitlines()[1:]
    return {name: digest for digest, name in (line.split("  ") for line in lines)}


def on_disk() -> list[Path]:
    return sorted(p for p in PACKAGE.iterdir() if p.suffix == ".proto" or p.name.endswith(SUFFIXES))


def test_every_file_is_the_recorded_one() -> None:
    actual = {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in on_disk()}
    differing = sorted(n for n in actual.keys() | recorded().keys() if actual.get(n) != recorded().get(n))
    assert not differing, f"edited, stale or missing: {differing}; run proto/generate.py"


def test_pinned_generator_made_it() -> None:
    assert (PACKAGE / "GENERATED").read_text().startswith("grpcio-tools 1.71.")


def tool_python() -> str | None:
    if os.environ.get("NEARLIGHT_GRPC_TOOLS_PYTHON"):
        return os.environ["NEARLIGHT_GRPC_TOOLS_PYTHON"]
    return sys.executable if importlib.util.find_spec("grpc_tools") else None


def test_regenerating_changes_nothing(tmp_path: Path) -> None:
    python = tool_python()
    if python is None:
        pytest.skip("no grpcio-tools 1.71: set NEARLIGHT_GRPC_TOOLS_PYTHON to a python that has it")
    script = str(PROTO / "generate.py")
    command = [python, script, "--out", str(tmp_path)]
    made = subprocess.run(command, capture_output=True, text=True, check=False)
    if "grpcio-tools is" in made.stderr:
        pytest.skip(made.stderr.splitlines()[0])
    assert made.returncode == 0, made.stderr
    names = sorted(p.name for p in (tmp_path / "nearlight" / "v1").iterdir())
    assert names == sorted(["GENERATED", *(p.name for p in on_disk() if p.suffix != ".proto")])
    for name in names:
        assert (tmp_path / "nearlight" / "v1" / name).read_bytes() == (PACKAGE / name).read_bytes(), name


@pytest.mark.parametrize("proto", [p.name for p in on_disk() if p.suffix == ".proto"])
def test_imports_under_its_own_name(proto: str) -> None:
    module = importlib.import_module(f"nearlight.v1.{proto.removesuffix('.proto')}_pb2")
    assert module.DESCRIPTOR.package == "nearlight.v1"
    assert module.DESCRIPTOR.name == f"nearlight/v1/{proto}"


def test_services_of_the_design_are_there() -> None:
    expected = {
        "EmbeddingService": {"Embed", "EmbedStream", "Classify", "PutLabelSet", "DeleteLabelSet"},
        "ModelService": {"ListModels", "GetModel", "LoadModel", "UnloadModel"},
        "CollectionService": {"CreateCollection", "GetCollection", "ListCollections", "DeleteCollection"},
        "PointService": {"Upsert", "UpsertStream", "Delete", "Get", "SetPayload", "Scroll", "Count", "Query"},
    }
    for proto in ("embedding", "model", "collection", "point"):
        importlib.import_module(f"nearlight.v1.{proto}_pb2_grpc")
    pool = descriptor_pool.Default()
    for service, methods in expected.items():
        assert methods <= set(pool.FindServiceByName(f"nearlight.v1.{service}").methods_by_name)
