"""What OpenVINO does to the process it runs in."""

import subprocess
import sys
from pathlib import Path

import pytest

from nearlight.server.runtimes.openvino_cpu import OpenVinoEncoder, is_installed, precisions

LOADED_HERE_FREED_THERE = """
import faulthandler, gc, signal, sys, threading
from pathlib import Path
from nearlight.server.runtimes.openvino_cpu import OpenVinoEncoder

faulthandler.enable()
encoders = [OpenVinoEncoder(Path(sys.argv[1]), dim=16, threads=1, precision="fp32")]
thread = threading.Thread(target=encoders.clear)
thread.start()
thread.join()
gc.collect()
signal.signal(signal.SIGINT, lambda number, frame: print("handled"))
signal.raise_signal(signal.SIGINT)
"""


@pytest.mark.skipif(not is_installed(), reason="OpenVINO is not installed")
def test_signals_are_handled_after_a_model_is_freed_by_another_thread(tiny_bundle: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", LOADED_HERE_FREED_THERE, str(tiny_bundle / "image.onnx")],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, "handled\n"), done.stderr


@pytest.mark.skipif("bf16" not in precisions() or "int8" not in precisions(), reason="a processor without")
@pytest.mark.parametrize(
    ("tower", "precision", "rest"),
    [
        ("text", "int8", "f32"),
        ("image", "int8", "bf16"),
        ("text", "bf16", "bf16"),
        ("image", "fp32", "f32"),
    ],
)
def test_what_stands_between_products(tiny_bundle: Path, tower: str, precision: str, rest: str) -> None:
    """Texts in 8 bits keep float32 between them: bf16 would cost as many neighbours again."""
    encoder = OpenVinoEncoder(tiny_bundle / f"{tower}.onnx", dim=16, threads=1, precision=precision)  # type: ignore[arg-type]
    compiled = encoder._request.get_compiled_model()
    found = compiled.get_property("INFERENCE_PRECISION_HINT").to_string()
    assert found == rest
