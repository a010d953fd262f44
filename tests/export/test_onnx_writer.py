"""Graphs that are not what a bundle needs."""

import numpy as np
import pytest
import torch
from torch import nn

from nearlight.export.errors import GraphError
from nearlight.export.onnx_file import open_session
from nearlight.export.onnx_writer import Input, with_half_weights, write_onnx

ROWS = Input("pixels", torch.zeros(2, 4), {0: "batch"})


class Fixed(nn.Module):
    """Knows only batches of two."""

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        return pixels.reshape(2, 4) * torch.ones(2, 4)


def test_a_fixed_batch_is_refused() -> None:
    with pytest.raises(GraphError, match="`pixels`"):
        write_onnx(Fixed(), ROWS, 4)


class Branches(nn.Module):
    """Looks into the data."""

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        return pixels if pixels.sum() > 0 else -pixels


def test_a_model_that_cannot_be_traced() -> None:
    with pytest.raises(GraphError, match="does not become an ONNX graph"):
        write_onnx(Branches(), ROWS, 4)


def test_a_wrong_dimension_is_refused() -> None:
    with pytest.raises(GraphError, match=r"shape \[0, 4\]; it must be float32 \(batch, 5\)"):
        write_onnx(nn.Linear(4, 4), ROWS, 5)


def test_the_same_bytes_every_time() -> None:
    layer = nn.Linear(4, 4)
    first, second = (write_onnx(layer, ROWS, 4).SerializeToString(deterministic=True) for _ in range(2))
    assert first == second


def test_weights_beyond_half_precision_stay_exact() -> None:
    layer = nn.Linear(4, 4)
    with torch.no_grad():
        layer.weight[0, 0] = 1e6
    session = open_session(with_half_weights(write_onnx(layer, ROWS, 4)))
    row = np.ones((1, 4), np.float32)
    expected = layer(torch.from_numpy(row)).detach().numpy()
    np.testing.assert_allclose(session.run(None, {"pixels": row})[0], expected, rtol=1e-5)
