"""Vectors cut to fewer numbers, for models whose bundle says that they hold: by client and command."""

import asyncio
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from nearlight.client import AsyncClient, Client, cli
from nearlight.client.errors import Unsupported
from nearlight.client.values import Input


def cut(vectors: np.ndarray, dim: int) -> np.ndarray:
    kept = vectors[:, :dim].astype(np.float64)
    shorter: np.ndarray = kept / np.linalg.norm(kept, axis=1, keepdims=True)
    return shorter


def test_the_first_numbers_at_unit_length(address: str, new_image: Callable[..., bytes]) -> None:
    inputs: list[Input] = ["a dog", new_image(1), "", "a cat"]
    with Client(address) as client:
        whole, short = client.embed(inputs), client.embed(inputs, dim=12)
        assert short.vectors.shape == (4, 12)
        assert [error.index for error in short.errors] == [2]
        good = [0, 1, 3]
        np.testing.assert_allclose(short.vectors[good], cut(whole.vectors[good], 12), rtol=1e-5, atol=1e-6)
        np.testing.assert_array_equal(client.embed(inputs, dim=16).vectors, whole.vectors)
        with pytest.raises(
            Unsupported, match="dim 8 is none of the lengths that model 'tiny' allows: 12, 16"
        ):
            client.embed(inputs, dim=8)


def test_from_the_async_client(address: str) -> None:
    async def embed() -> np.ndarray:
        async with AsyncClient(address) as client:
            return (await client.embed(["a dog"], dim=12)).vectors

    with Client(address) as client:
        np.testing.assert_allclose(asyncio.run(embed()), client.embed(["a dog"], dim=12).vectors)


def test_from_the_command(address: str, tmp_path: Path) -> None:
    out = tmp_path / "v.npy"
    result = CliRunner().invoke(
        cli.app, ["embed", "a dog", "--out", str(out), "--dim", "12", "--server", address]
    )
    assert result.exit_code == 0, result.output
    assert np.load(out).shape == (1, 12)
