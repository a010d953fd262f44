"""Tars: what is a sample, exact epochs whatever reads them, exact resume, and damage that is told."""

import io
import json
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from nearlight.training.batches import BatchMaker
from nearlight.training.config import RunConfig, load_config, resumed_config
from nearlight.training.errors import DataError
from nearlight.training.pixels import open_readers
from nearlight.training.shards import expand
from nearlight.training.sources import Source, open_source
from nearlight.training.trainer import Trainer


def write_tar(path: Path, members: dict[str, bytes]) -> Path:
    with tarfile.open(path, "w") as tar:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return path


@pytest.fixture
def shards(labelled: Path, tmp_path: Path) -> str:
    """80 labelled images in three tars of unlike length."""
    source = open_source(str(labelled))
    assert source.label_names is not None
    cuts = [0, 17, 60, 80]
    for number in range(3):
        members = {}
        for row in range(cuts[number], cuts[number + 1]):
            members[f"{row:04}.jpg"] = source.images.read(row)
            members[f"{row:04}.cls"] = source.label_names[row].encode()
        write_tar(tmp_path / f"part-{number:03}.tar", members)
    return str(tmp_path / "part-{000..002}.tar")


def test_shards_hold_the_same_as_the_table(shards: str, labelled: Path) -> None:
    table, tars = open_source(str(labelled)), open_source(f"{shards}@2")
    assert (tars.name, tars.weight, len(tars), tars.notes) == ("part", 2.0, 80, ())
    assert tars.label_names == table.label_names
    assert all(tars.images.read(row) == table.images.read(row) for row in range(80))
    assert len(open_source(shards.replace("{000..002}", "*"))) == 80
    assert expand("a-{8..10}-{0..1}.tar") == [f"a-{n}-{m}.tar" for n in (8, 9, 10) for m in (0, 1)]


def test_samples_are_members_that_share_a_name(tmp_path: Path) -> None:
    members = {
        "a/1.jpg": b"one",
        "a/1.txt": b"a cat\n",
        "a/1.json": json.dumps({"caption": "a cat", "width": 3}).encode(),
        "b/1.left.PNG": b"two",  # another folder, and a suffix of several parts
        "b/1.json": json.dumps({"captions": ["x", "", "y"]}).encode(),
        "b/2.txt": b"no image",
        "b/3.webp": b"three",
        "b/3.json": b"{broken",
        "b/4.gif": b"four",
        "b/4.txt": b"",
    }
    source = open_source(str(write_tar(tmp_path / "s.tar", members)))
    assert source.captions == [["a cat"], ["x", "y"]]
    assert [source.images.read(i) for i in range(2)] == [b"one", b"two"]
    assert source.notes == (
        "s.tar: 1 samples have no image and are left out",
        "2 samples have not a caption and are left out",
    )
    plain = write_tar(tmp_path / "plain.tar", {"1.jpg": b"x", "2.jpg": b"y", "2.cls": b"dog"})
    everything = open_source(str(plain), words=False)
    assert (len(everything), everything.label_names) == (2, None)
    assert open_source(str(plain)).label_names == ["dog"]


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("world", [1, 2])
def test_epochs_are_exact_whoever_reads(shards: str, threads: int, world: int) -> None:
    config = RunConfig.model_validate({"batch_size": 16, "seed": 5, "data": {"train": [shards]}})
    source = open_source(shards, words=False)
    seen: list[int] = []
    pixels = []
    for rank in range(world):
        readers = open_readers([source], 16, threads, limit_mb=0)  # decoded batch by batch
        maker = BatchMaker(config, [source], readers, rank=rank, world=world)
        for batch in maker.ahead(0, 5):  # 80 images
            seen += batch.index.tolist()
            pixels.append(batch.pixels)
    assert sorted(seen) == list(range(80))
    order = np.argsort(seen)
    alone = open_readers([source], 16, 1, limit_mb=64)[0].read(np.arange(80))
    assert np.array_equal(torch.cat(pixels).numpy()[order], alone)


def test_a_run_on_shards_resumes_inside_an_epoch_bit_for_bit(shards: str, tmp_path: Path) -> None:
    def config(steps: int) -> RunConfig:
        overrides: dict[str, Any] = {
            "data": {"train": [shards], "cache_px": 16, "cache_limit_mb": 0},
            "encoder": {"name": "resnet10", "stem": "small", "width": 0.125, "image_px": 16},
            "options": {"hidden": 16, "projection": 8},
            "device": "cpu",
            "curves": False,
        }
        settings = ["epochs=null", "optimiser.warmup_epochs=null", "batch_size=24", "optimiser.schedule=wsd"]
        return load_config(None, overrides, [*settings, f"steps={steps}"], "simclr")

    whole, parts = Trainer(config(6), tmp_path / "whole"), Trainer(config(6), tmp_path / "parts")
    assert whole.train()
    # Interrupted after two of six steps, in the middle of the first epoch.
    batches = parts._open_data()
    for batch in batches.ahead(0, 2):
        parts._step(batch)
        parts.step += 1
    parts.save()
    again = Trainer(resumed_config(tmp_path / "parts", (), ()), tmp_path / "parts", resume=True)
    assert again.step == 2
    assert again.train()
    for name, value in whole.method.state_dict().items():
        assert torch.equal(value, again.method.state_dict()[name]), name


def test_corrupt_images_are_counted_and_told(tmp_path: Path, labelled: Path) -> None:
    good = open_source(str(labelled)).images.read(0)
    members = {"1.jpg": good, "1.cls": b"a", "2.jpg": b"nonsense", "2.cls": b"b", "3.txt": b"?"}
    source = open_source(str(write_tar(tmp_path / "c.tar", members)))
    warnings = _warnings(source)
    assert any("3 samples" not in w and "1 samples have no image" in w for w in warnings)
    assert any("1 of 2 images of c cannot be decoded" in w for w in warnings)


def _warnings(source: Source) -> list[str]:
    readers = open_readers([source], 16, 1, limit_mb=64)
    readers[0].preload()
    config = RunConfig.model_validate({"batch_size": 2})
    return BatchMaker(config, [source], readers).warnings()


def test_a_cut_tar_gives_what_is_whole(shards: str, tmp_path: Path) -> None:
    whole = (tmp_path / "part-001.tar").read_bytes()
    for cut in (9000, 9100, 9728):
        (tmp_path / "cut.tar").write_bytes(whole[:cut])
        source = open_source(str(tmp_path / "cut.tar"), words=False)
        assert 0 < len(source) < 43
        assert any("cut.tar is damaged" in note for note in source.notes), cut
        for row in range(len(source)):
            assert source.images.read(row).startswith(b"\xff\xd8")


def test_mistakes_are_named(tmp_path: Path, shards: str) -> None:
    (tmp_path / "text.tar").write_text("not a tar at all" * 100)
    write_tar(tmp_path / "empty.tar", {})
    write_tar(tmp_path / "bare.tar", {"1.jpg": b"x"})
    with tarfile.open(tmp_path / "zip.tar", "w:gz") as tar:
        tar.addfile(tarfile.TarInfo("1.jpg"))
    for spec, message in (
        ("pipe:cat x.tar", "nothing is downloaded or run"),
        ("https://example.org/x.tar", "nothing is downloaded or run"),
        (str(tmp_path / "text.tar"), "is not a plain tar file"),
        (str(tmp_path / "zip.tar"), "is not a plain tar file"),
        (str(tmp_path / "empty.tar"), "holds no"),
        (str(tmp_path / "bare.tar"), "holds no captions"),
        (shards.replace("002", "004"), "part-003.tar': no such file"),
        (shards.replace("{000..002}", "{2..1}"), "ends before it starts"),
    ):
        with pytest.raises(DataError, match=message):
            open_source(spec)
