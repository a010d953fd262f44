"""What the measurements send: photographs and captions from `NEARLIGHT_DATA`, else from ../shared/data."""

import os
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

_DEFAULT = Path(__file__).resolve().parents[3] / "shared" / "data"


def photographs() -> list[bytes]:
    """The 100 JPEG files of imagenet-sample100: 101 kB and 180,000 pixels on average."""
    return [cell.as_py() for cell in _column("imagenet-sample100.parquet", "image")]


def captions() -> list[str]:
    """The first caption of each photograph of flickr8k-val: 14 tokens on average."""
    return [cell.as_py()[0] for cell in _column("flickr8k-val.parquet", "captions")]


def _column(name: str, column: str) -> list[Any]:
    file = Path(os.environ.get("NEARLIGHT_DATA", _DEFAULT)) / name
    if not file.is_file():
        raise SystemExit(f"no data at {file}; set NEARLIGHT_DATA to the folder that holds {name}")
    return list(pq.read_table(file, columns=[column])[column])
