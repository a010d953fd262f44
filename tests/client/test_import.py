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
    code = f"import sys; from nearlight.client import *; print([m for m in {HEAVY} if m in sys.modules])"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "[]"


def test_it_loads_no_other_room() -> None:
    rooms = "{m.split('.')[1] for m in sys.modules if m.startswith('nearlight.')}"
    code = f"import sys; from nearlight.client import *; print(sorted({rooms}))"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "['client', 'v1']"


def test_every_name_is_there_and_a_wrong_one_is_not() -> None:
    code = """
import nearlight.client as c
assert all(getattr(c, name) is not None for name in c.__all__) and set(c.__all__) <= set(dir(c))
try:
    c.Cleint
except AttributeError as error:
    print(error)
"""
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "module 'nearlight.client' has no attribute 'Cleint'"


def test_the_command_line_loads_nothing_before_it_is_needed() -> None:
    code = (
        "import sys, nearlight.client.cli; print([m for m in ('grpc', 'numpy', 'rich') if m in sys.modules])"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "[]"
