from pathlib import Path
from typing import Any

import pytest
import torch

from nearlight.training.batches import Batch, BatchMaker
from nearlight.training.config import RunConfig, check_config
from nearlight.training.errors import ConfigError
from nearlight.training.pixels import on_device, open_readers
from nearlight.training.sources import open_source
from nearlight.training.vocabulary import clip_tokenizer_json, open_tokenizer


def maker(config: RunConfig, cache_limit_mb: int = 100) -> BatchMaker:
    sources = [open_source(spec) for spec in config.data.train]
    readers = open_readers(sources, config.data.cache_px, 1, cache_limit_mb)
    for reader in readers:
        reader.preload()
    tokenizer = open_tokenizer(clip_tokenizer_json(config.model.merges), config.model)
    return BatchMaker(config, sources, readers, tokenizer, ["a photo of a {}.", "{}"])


def test_images_held_on_the_device_are_those_of_the_readers(small: dict[str, Any], labelled: Path) -> None:
    small["data"]["train"] = [str(labelled), str(labelled)]
    config = check_config(small)
    sources = [open_source(spec, words=False) for spec in config.data.train]
    readers = open_readers(sources, 40, 1, 100)
    assert on_device(readers, torch.device("cpu"), 100) is None  # nothing is decoded yet
    for reader in readers:
        reader.preload()
    assert on_device(readers, torch.device("cpu"), 100) is None  # two sources would be copied for nothing
    held = on_device(readers, torch.device("meta"), 100)
    assert held is not None
    assert (held.shape, held.dtype) == ((160, 40, 40, 3), torch.uint8)
    one = on_device(readers[:1], torch.device("cpu"), 100)
    assert one is not None
    assert one.data_ptr() == readers[0].kept.ctypes.data  # type: ignore[union-attr]  # not a copy
    assert on_device(readers[:1], torch.device("cpu"), 0) is None
    both = torch.cat([one, one])
    for world in (1, 2):
        plain, fast = (
            BatchMaker(config, sources, readers, rank=world - 1, world=world, held=h) for h in (None, both)
        )
        wanted = plain.make(4)
        assert torch.equal(wanted.pixels, fast.make(4).pixels)
        assert torch.equal(wanted.pixels, next(fast.ahead(4, 5)).pixels)


def equal(a: Batch, b: Batch) -> bool:
    pairs = [
        (a.pixels, b.pixels),
        (a.text_index, b.text_index),
        (a.groups, b.groups),
        *zip(a.tokens, b.tokens, strict=True),
    ]
    return a.step == b.step and all(torch.equal(x, y) for x, y in pairs)


def test_a_batch_is_the_same_ahead_alone_and_undecoded(small: dict[str, Any]) -> None:
    config = check_config(small)
    ahead = list(maker(config).ahead(2, 6))
    assert [b.step for b in ahead] == [2, 3, 4, 5]
    assert all(equal(b, maker(config, cache_limit_mb=0).make(b.step)) for b in ahead)
    assert not torch.equal(ahead[0].pixels, ahead[1].pixels)


def test_each_image_finds_its_own_words(small: dict[str, Any]) -> None:
    config = check_config(small)
    batches = maker(config)
    assert batches.shares == [8, 16]
    batch = batches.make(0)
    assert batch.pixels.shape == (24, 40, 40, 3)
    lengths = [block.shape[1] for block in batch.tokens]
    assert max(lengths) <= config.model.context_length
    colours = batch.pixels[8:].float().mean(dim=(1, 2))  # the labelled part
    same_words = batch.text_index[8:, None] == batch.text_index[None, 8:]
    distance = torch.cdist(colours, colours)
    assert float(distance[same_words].max()) < 40 < float(distance[~same_words].min())
    assert torch.equal(same_words, batch.groups[8:, None] == batch.groups[None, 8:])


def test_an_error_on_the_thread_reaches_the_trainer(
    small: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    batches = maker(check_config(small))
    good = batches._prepare

    def fail_at_three(step: int) -> Batch:
        if step == 3:
            raise OSError("disk went away")
        return good(step)

    monkeypatch.setattr(batches, "_prepare", fail_at_three)
    ahead = batches.ahead(0, 6)
    assert [next(ahead).step for _ in range(3)] == [0, 1, 2]
    with pytest.raises(OSError, match="disk went away"):
        next(ahead)


def test_more_sources_than_places(small: dict[str, Any], labelled: Path) -> None:
    small["data"]["train"] = [str(labelled)] * 3
    small["batch_size"] = 2
    with pytest.raises(ConfigError, match="batch_size = 2"):
        maker(check_config(small))
