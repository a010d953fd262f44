"""Regenerates the Python code in proto/nearlight/v1, and GENERATED, which says what it was made from.

The generated code is checked in, so that nobody needs a compiler to install or use Nearlight. It is made by
one pinned, old version of grpcio-tools: code from an old generator runs on every newer runtime, never the
other way round.

    python -m venv /tmp/gen && /tmp/gen/bin/pip install 'grpcio-tools==1.71.*'
    /tmp/gen/bin/python proto/generate.py            # rewrites the files in place
    /tmp/gen/bin/python proto/generate.py --out DIR  # writes them somewhere else, to compare
"""

from __future__ import annotations

import argparse
import hashlib
import importlib.metadata
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent
PACKAGE = Path("nearlight/v1")
PINNED = "1.71."
SUFFIXES = ("_pb2.py", "_pb2.pyi", "_pb2_grpc.py")


def generate(out: Path) -> None:
    """Writes the generated code and GENERATED for every .proto of the package below ``out``.

    Args:
        out: the folder that stands for proto/; created where it is missing.

    Raises:
        SystemExit: grpcio-tools is missing, of another version, or refuses a .proto.
    """
    version = tools_version()
    from grpc_tools import protoc  # only the generator's own interpreter has it

    protos = sorted((ROOT / PACKAGE).glob("*.proto"))
    (out / PACKAGE).mkdir(parents=True, exist_ok=True)
    for path in [p for p in (out / PACKAGE).iterdir() if p.name.endswith(SUFFIXES)]:
        path.unlink()  # else the code of a .proto that was renamed would stay
    flags = [f"--{kind}={out}" for kind in ("python_out", "pyi_out", "grpc_python_out")]
    well_known = Path(protoc.__file__).parent / "_proto"
    # The include path is proto/ itself, so that the code imports `nearlight.v1.x_pb2` and needs no rewriting.
    code = protoc.main(["protoc", f"-I{ROOT}", f"-I{well_known}", *flags, *map(str, protos)])
    if code != 0:
        raise SystemExit(f"protoc failed with exit code {code}")
    for path in (out / PACKAGE).glob("*_pb2_grpc.py"):
        if path.name.removesuffix("_pb2_grpc.py") not in service_files(protos):
            path.unlink()  # a .proto without services has an empty one
    (out / PACKAGE / "GENERATED").write_text(manifest(protos, out, version), encoding="utf-8")


def service_files(protos: list[Path]) -> set[str]:
    """Returns the stems of the .proto files that define a service."""
    return {p.stem for p in protos if "\nservice " in p.read_text(encoding="utf-8")}


def manifest(protos: list[Path], out: Path, version: str) -> str:
    """Returns GENERATED: the generator's version, then the SHA-256 of each .proto and generated file."""
    outputs = sorted(p for p in (out / PACKAGE).iterdir() if p.name.endswith(SUFFIXES))
    lines = [f"grpcio-tools {version}"]
    lines += [f"{hashlib.sha256(p.read_bytes()).hexdigest()}  {p.name}" for p in [*protos, *outputs]]
    return "\n".join(lines) + "\n"


def tools_version() -> str:
    """Returns the version of grpcio-tools in this interpreter, or ends with how to get it."""
    try:
        version = importlib.metadata.version("grpcio-tools")
    except importlib.metadata.PackageNotFoundError:
        version = "missing"
    if not version.startswith(PINNED):
        raise SystemExit(f"grpcio-tools is {version} in {sys.executable}; needed: {PINNED}*\n{__doc__}")
    return version


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=ROOT, help="stands for proto/ (default: in place)")
    generate(parser.parse_args().out)
