from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from nearlight.bundle.image import ImageLimits, load_pixels
from nearlight.bundle.manifest import ImagePreprocess
from nearlight.training.errors import DataError
from nearlight.training.pixels import PixelReader, open_readers
from nearlight.training.sources import open_source

SPEC = ImagePreprocess(size_px=24)


def test_kept_and_decoded_rows_equal_the_servers_pixels(captioned: Path) -> None:
    source = open_source(str(captioned))
    rows = np.array([5, 0, 63, 5])
    expected = np.stack([load_pixels(source.images.read(int(r)), SPEC, ImageLimits()) for r in rows])
    for keep in (True, False):
        reader = PixelReader(source, SPEC, threads=2, keep=keep)
        done: list[int] = []
        reader.preload(done.append)
        assert sum(done) == (64 if keep else 0)
        assert np.array_equal(reader.read(rows), expected)
        reader.close()


def test_broken_rows_are_counted_and_do_not_stop_the_others(tmp_path: Path, captioned: Path) -> None:
    whole = open_source(str(captioned)).images.read(0)
    path = tmp_path / "some.parquet"
    pq.write_table(pa.table({"image": [whole, whole[:200], b"hello", b""], "label_name": ["x"] * 4}), path)
    reader = PixelReader(open_source(str(path)), SPEC, threads=2, keep=True)
    reader.preload()
    assert sorted(reader.broken) == [1, 2, 3]
    assert reader.read(np.array([1])).tolist() == np.full((1, 24, 24, 3), 128).tolist()
    assert not np.array_equal(reader.read(np.array([0])), reader.read(np.array([1])))
    reader.refuse_if_hopeless("some")
    reader.close()


def test_a_source_without_one_good_image_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "none.parquet"
    pq.write_table(pa.table({"image": [b"a", b"b"], "label_name": ["x", "y"]}), path)
    reader = PixelReader(open_source(str(path)), SPEC, threads=1, keep=True)
    reader.preload()
    with pytest.raises(DataError, match="none of 2 images"):
        reader.refuse_if_hopeless("none")
    reader.close()


def test_sources_over_the_limit_are_decoded_as_needed(captioned: Path) -> None:
    sources = [open_source(str(captioned))]
    for limit_mb, kept in ((1, True), (0, False)):
        done: list[int] = []
        readers = open_readers(sources, 24, 1, limit_mb)
        readers[0].preload(done.append)
        assert bool(done) is kept
        readers[0].close()
