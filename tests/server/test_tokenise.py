from copy import copy
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from nearlight.bundle.folder import Bundle
from nearlight.bundle.registry import find_bundle
from nearlight.server.call import Input, Prepared
from nearlight.server.errors import InvalidInput
from nearlight.server.tokenise import text_preparation, text_widths

ODD = [
    "x" * 900,
    "word " * 200,
    ".",
    "a",
    "é",
    "<end_of_text> told",
    "schÃ¶n &amp; 你好 👍🏽",
    "\ttabs\nlines ",
    "I'LL  don't",
]
BAD = ["", " \n", "\ud800", "x" * 10_001]


def inputs(*texts: str) -> list[Input]:
    return [Input("text", text, f"inputs[{i}].text") for i, text in enumerate(texts)]


def test_many_texts_become_the_rows_that_each_becomes_alone(data_folder: Path) -> None:
    """Real captions, odd texts among them, and some that are refused; the oracle tokenises one by one."""
    cells = pq.read_table(data_folder / "flickr8k-val.parquet", columns=["captions"])["captions"].to_pylist()
    captions = [caption for cell in cells[:80] for caption in cell or []]
    texts = [text for i, caption in enumerate(captions) for text in (caption, (ODD + BAD)[i % 13])]
    tokenizer = Bundle.open(find_bundle(None)).tokenizer()
    prepare = text_preparation(tokenizer, lengths=(8, 16, 24), max_bytes=10_000)
    room = tokenizer.tower.context_length
    uncut = copy(tokenizer)
    uncut.tower = tokenizer.tower.model_copy(update={"context_length": 10**6})
    for start in range(0, len(texts), 32):
        some = inputs(*texts[start : start + 32])
        for item, outcome in zip(some, prepare(some), strict=True):
            assert isinstance(item.content, str)
            if item.content in BAD:
                assert isinstance(outcome, InvalidInput)
                assert outcome.field == item.field
                assert str(outcome).startswith(f"{item.field}: ")
                continue
            assert isinstance(outcome, Prepared)
            [wanted] = tokenizer.rows([item.content])
            np.testing.assert_array_equal(outcome.row[: len(wanted)], wanted)
            assert len(outcome.row) == min(n for n in (8, 16, 24, room) if n >= len(wanted))
            assert (outcome.row[len(wanted) :] == tokenizer.tower.pad_id).all()
            assert outcome.truncated == (len(uncut.rows([item.content])[0]) > room)


def test_texts_are_padded_to_a_few_lengths_only(tiny_bundle: Path) -> None:
    tokenizer = Bundle.open(tiny_bundle).tokenizer()
    prepare = text_preparation(tokenizer, lengths=(8, 16, 200), max_bytes=10_000)
    for text, length, truncated in (
        ("7", 8, False),
        ("7 " * 7, 16, False),
        ("7 " * 20, 77, False),
        ("7 " * 90, 77, True),
    ):
        [prepared] = prepare(inputs(text))
        assert isinstance(prepared, Prepared)
        assert prepared.row.shape == (length,)
        assert prepared.truncated is truncated
        wanted = tokenizer.encode([text])[0]
        np.testing.assert_array_equal(prepared.row, wanted[:length])
        assert not wanted[length:].any()


def test_a_tower_that_may_not_be_trimmed_keeps_its_length(tiny_bundle: Path) -> None:
    tower = Bundle.open(tiny_bundle).manifest.towers.text
    assert tower is not None
    assert text_widths(tower, (8, 16, 200)) == [8, 16, 77]
    assert text_widths(tower.model_copy(update={"trimmable": False}), (8, 16)) == [77]


@pytest.mark.parametrize("text", ["", "  ", "a" * 101, "é" * 51, "\ud800"])
def test_texts_that_are_refused(tiny_bundle: Path, text: str) -> None:
    prepare = text_preparation(Bundle.open(tiny_bundle).tokenizer(), lengths=(8,), max_bytes=100)
    [before, refused, after] = prepare([*inputs("7"), Input("text", text, "inputs[4].text"), *inputs("8")])
    assert isinstance(refused, InvalidInput)
    assert refused.field == "inputs[4].text"
    assert str(refused).startswith("inputs[4].text: text ")
    assert isinstance(before, Prepared)
    assert isinstance(after, Prepared)
