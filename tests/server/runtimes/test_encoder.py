from pathlib import Path

import numpy as np
import pytest

from nearlight.server.call import F32, Row
from nearlight.server.errors import BundleUnusable
from nearlight.server.runtimes.encoder import warm_up
from nearlight.server.runtimes.onnx_cpu import OnnxEncoder


class Wrong:
    dim = 16

    def encode(self, rows: Row) -> F32:
        return np.full((len(rows), 16), np.nan, np.float32)


def test_a_warm_up_that_goes_wrong_keeps_the_server_from_starting(tiny_bundle: Path) -> None:
    encoder = OnnxEncoder(tiny_bundle / "image.onnx", dim=16, threads=1)
    warm_up(encoder, [(1, 32, 32, 3), (4, 32, 32, 3)], np.uint8)
    with pytest.raises(BundleUnusable, match="failed on rows of shape"):
        warm_up(encoder, [(1, 7)], np.uint8)
    with pytest.raises(BundleUnusable, match="expected finite"):
        warm_up(Wrong(), [(1, 32, 32, 3)], np.uint8)
