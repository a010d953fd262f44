"""`import nearlight.client` stays light enough to live inside any service."""

import subprocess
import sys

HEAVY = [
    "torch",
    "onnxruntime",
    "faiss",
    "PIL",
    "pydantic",
    "typer",
    "rich",
    "pyarrow",
    "structlog",
    "skimage",
]


def test_the_client_loads_only_grpc_protobuf_and_numpy() -> None:
    code = f"import sys, nearlight.client; print([m for m in {HEAVY} if m in sys.modules])"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "[]"


def test_it_loads_no_other_room() -> None:
    code = "import sys, nearlight.client; print(sorted({m.split('.')[1] for m in sys.modules if m.startswith('nearlight.')}))"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "['client', 'v1']"
