"""What a bundle must be like, and the shorter vectors that were tried."""

import io
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from nearlight.bundle.folder import Bundle
from nearlight.bundle.image import ImageLimits, load_pixels
from nearlight.export.errors import SourceError
from nearlight.export.exporter import ExportOptions, export_subject
from nearlight.export.proven import Demands
from nearlight.export.subject import Subject
from tests.export.conftest import runner

COUNT = 60


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Images of noise, two captions each."""
    rng = np.random.default_rng(0)
    images, captions = [], []
    for number in range(COUNT):
        coarse = Image.fromarray(rng.integers(0, 256, (3, 3, 3), np.uint8))
        file = io.BytesIO()
        coarse.resize((40, 48)).save(file, "PNG")
        images.append(file.getvalue())
        captions.append([f"picture {number}", f"this is number {number} of them"])
    path = tmp_path_factory.mktemp("pairs") / "pairs.parquet"
    pq.write_table(pa.table({"image": images, "captions": captions}), path)
    return path


def recall_by_hand(bundle: Bundle, pairs: Path, dim: int) -> float:
    """Share of captions whose image is among the ten nearest by their first `dim` numbers."""
    table = pq.read_table(pairs).to_pylist()
    spec = bundle.manifest.towers.image.preprocess
    pixels = np.stack([load_pixels(row["image"], spec, ImageLimits()) for row in table])
    images = runner(bundle.image_path)(pixels)[:, :dim]
    found = []
    for number, row in enumerate(table):
        for caption in row["captions"]:
            text = runner(bundle.text_path)(bundle.tokenizer().encode([caption]))[0, :dim]
            cosines = images @ text / np.linalg.norm(images, axis=1)
            found.append(number in np.argsort(-cosines)[:10])
    return float(np.mean(found))


def test_shorter_vectors_are_tried_on_captions_and_their_images(
    exported: Subject, pairs: Path, tmp_path: Path
) -> None:
    options = ExportOptions(data=str(pairs), dims=(32, 2), min_recall=0.5)
    bundle = export_subject(exported, tmp_path / "bundle", options=options)
    cuts = Bundle.open(bundle.path).manifest.truncations
    assert [cut.dim for cut in cuts] == [2, 32]
    whole = recall_by_hand(bundle, pairs, 48)
    for cut in cuts:
        assert cut.whole_recall_at_10 == pytest.approx(whole, abs=0.009)
        assert cut.recall_at_10 == pytest.approx(recall_by_hand(bundle, pairs, cut.dim), abs=0.009)
        assert cut.holds == (cut.recall_at_10 >= 0.5 * cut.whole_recall_at_10)


def test_without_captions_whole_vectors_are_the_truth(exported: Subject, tmp_path: Path) -> None:
    bundle = export_subject(exported, tmp_path / "bundle", options=ExportOptions(dims=(1, 47)))
    one, nearly_all = bundle.manifest.truncations
    assert one.whole_recall_at_10 == nearly_all.whole_recall_at_10 == 1
    assert one.recall_at_10 < 0.5 < 0.9 < nearly_all.recall_at_10
    assert not one.holds


def test_what_cannot_be_asked_for(exported: Subject, tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="--dims names 48; it must be below 48, the model's own"):
        export_subject(exported, tmp_path / "bundle", options=ExportOptions(dims=(24, 48)))
    with pytest.raises(ValueError, match="dims are 0; each must be at least 1"):
        Demands(dims=(0,))
    with pytest.raises(ValueError, match=r"min_recall is 1\.5; it must be 0 to 1"):
        Demands(min_recall=1.5)
    assert list(tmp_path.iterdir()) == []


def test_uses_are_reported(exported: Subject, pairs: Path, tmp_path: Path) -> None:
    bundle = export_subject(exported, tmp_path / "bundle", options=ExportOptions(data=str(pairs)))
    uses = bundle.manifest.parity["uses"]
    assert isinstance(uses, dict)
    names = ["image_neighbours_overlap_at_10", "text_to_image_overlap_at_10", "zero_shot_agreement"]
    assert sorted(uses) == names
    assert all(uses[name] > 0.99 for name in names)  # type: ignore[operator]
    image = bundle.manifest.parity["image"]
    assert isinstance(image, dict)
    assert image["rows_per_second"] > 0  # type: ignore[operator]
