"""Fixtures every room may use."""

import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def data_folder() -> Path:
    """The folder of real images and captions, or a skip that says where it was looked for."""
    named = os.environ.get("NEARLIGHT_DATA")
    folder = Path(named) if named else Path(__file__).resolve().parents[2] / "shared" / "data"
    if not (folder / "flickr8k-val.parquet").is_file():
        pytest.skip(
            f"no real images in {folder}; set NEARLIGHT_DATA to the folder that holds flickr8k-val.parquet"
        )
    return folder
