"""Tokens against open_clip's SimpleTokenizer: real captions, hostile strings, truncated vocabularies."""

import gzip
import json
import random
import threading
import time
from importlib.metadata import version
from pathlib import Path

import numpy as np
import open_clip.tokenizer
import pyarrow.parquet as pq
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from nearlight.bundle.clip_bpe import CLIP_MERGES, build_tokenizer_json
from nearlight.bundle.errors import BundleCorrupt, EmptyText, TextError, TextTooLong
from nearlight.bundle.manifest import TextTower
from nearlight.bundle.text import TextLimits, Tokenizer, check_text

MERGES = (
    gzip.decompress(Path(open_clip.tokenizer.default_bpe()).read_bytes())
    .decode()
    .split("\n")[1 : CLIP_MERGES + 1]
)
TOWER = TextTower(context_length=77, sot_id=49406, eot_id=49407, trimmable=True)
OURS = Tokenizer.load(build_tokenizer_json(MERGES), TOWER)
THEIRS = open_clip.tokenizer.SimpleTokenizer()

REGEX_OF_TABLE = "2026.11.15"

HOSTILE = [
    "",
    "   \t\n ",
    "a <b>dog</b> &amp; a cat &lt;3",
    "<i> &amp;amp;lt; ftfy leaves entities beside a tag alone &amp;quot;",
    "&amp;lt;twice&amp;gt; &nbsp; &#39; &#x1F436; &#xD800; &#0; &bogus; &",
    "schÃ¶n â€œmojibakeâ€\x9d lâ€™humanitÃ©",
    "👩‍👩‍👧‍👦 🏳️‍🌈 👍🏽 1️⃣ 🇫🇷",
    "你好，世界。東京タワー 서울",
    "e\u0301a\u0300 n\u0303 Z\u0351\u036b\u0343algo \u0345 ᾳ",
    "\x00nul \x1b[31mred\x1b[0m \x07bell \x7f\x80\x9f",
    "tabs\tand\r\nlines\u2028and\u2029separators\x1c\x1d\x1e\x1f\x85end",
    "“curly” ‘quotes’ it’s I'LL don't WE'VE 'ſ 'S 'sam",
    "שלום עולם \u202emirrored\u202c مرحبا بالعالم",
    "<start_of_text> inside <end_of_text> and <START_OF_TEXT>",
    "!!<start_of_text>x a<end_of_text>b _<end_of_text> <end_of_text><end_of_text>",
    "<ſtart_of_text> ﬆart <end_of_text",
    "x" * 5000,
    "word " * 1000,
    "1234567890 ½ ² Ⅷ ①",
    "ﬁ ﬂ ß SS İI ı K ΑΣ ΣΑΣ ǅ",
    "\ufeffbom \u200bzero\u200cwidth\u200d \u2060 \xad soft",
    "\u0558a \U000323b0a1 \U0001e6c0! \U00011de0\U00011de1 ．ｆｕｌｌ",
    "a\u00a0b\u2003c\u3000d\u180ee",
    "____ ---- ..., /// \\\\ \"\" '' `` ~~ ^^ ||",
    "\ue000\uf8ff\U000f0000 private \uffff \ufffe \ufffd",
]


@pytest.fixture(scope="module")
def captions(data_folder: Path) -> list[str]:
    rows = pq.read_table(data_folder / "flickr8k-val.parquet", columns=["captions"])["captions"].to_pylist()
    return [caption for row in rows for caption in row or []]


def test_all_captions_of_flickr8k_val(captions: list[str]) -> None:
    assert len(captions) == 5000
    assert np.array_equal(OURS.encode(captions), THEIRS(captions).numpy())


def test_many_by_one_call_are_the_same_as_one_by_one(captions: list[str]) -> None:
    texts = [*HOSTILE, *captions[:500]]
    random.Random(0).shuffle(texts)
    for size in (1, 2, 16, len(texts)):
        some = texts[-size:]
        rows = OURS.uncut_rows(some)
        assert [OURS.cut(row) for row in rows] == OURS.rows(some)
        for text, row in zip(some, rows, strict=True):
            assert row == OURS.uncut_rows([text])[0]
    assert len(OURS.uncut_rows(["word " * 1000])[0]) == 1002
    assert OURS.uncut_rows([]) == []
    with pytest.raises(TextError, match=r"texts\[1\]: text holds the surrogate"):
        OURS.uncut_rows(["a", "\ud800"])


def test_a_long_text_leaves_the_interpreter_to_others() -> None:
    """A server's event loop and its watchdog must get on while a text is tokenised."""
    thread = threading.Thread(target=OURS.uncut_rows, args=[["a quick brown fox " * 20_000]])
    thread.start()
    turns = 0
    while thread.is_alive():
        time.sleep(0.001)
        turns += 1
    assert turns >= 10


@pytest.mark.parametrize("text", HOSTILE, ids=lambda text: ascii(text)[:30])
def test_hostile_strings(text: str) -> None:
    assert np.array_equal(OURS.encode([text]), THEIRS([text]).numpy())


PIECES = st.sampled_from(
    ["<start_of_text>", "<end_of_text>", "'s", "'LL", "&amp;", "&#39;", "Ã©", "’", " ", "\u0345"]
)


@settings(max_examples=400, deadline=None)
@given(st.lists(st.one_of(st.text(max_size=12), PIECES), max_size=10).map("".join))
@example("İ" * 40)
def test_any_string(text: str) -> None:
    assert np.array_equal(OURS.encode([text]), THEIRS([text]).numpy())


def test_every_character_is_of_the_class_open_clip_gives_it() -> None:
    # Each character between a letter and a mark: its class decides which of them it joins.
    codes = [code for code in range(0x110000) if not 0xD800 <= code < 0xE000]
    words = OURS._words.pre_tokenizer
    wrong = []
    for start in range(0, len(codes), 256):
        text = "".join(f"a{chr(code)}! " for code in codes[start : start + 256])
        spans = [span for _, span in words.pre_tokenize_str(text)]
        theirs = [match.span() for match in THEIRS.pat.finditer(text)]
        # A new `regex` may know letters that were not assigned when the table of clip_bpe was written.
        wrong += [text[a:b] for a, b in set(spans) ^ set(theirs)]
    assert not wrong or version("regex") > REGEX_OF_TABLE, wrong[:5]


@pytest.mark.parametrize("kept", [1, 7, 500, 8192])
def test_the_first_merges_only(kept: int, tmp_path: Path, captions: list[str]) -> None:
    file = tmp_path / "merges.txt.gz"
    file.write_bytes(gzip.compress("\n".join(["#version", *MERGES[:kept]]).encode()))
    theirs = open_clip.tokenizer.SimpleTokenizer(bpe_path=str(file), context_length=32)
    tower = TextTower(context_length=32, sot_id=512 + kept, eot_id=513 + kept)
    ours = Tokenizer.load(build_tokenizer_json(MERGES[:kept]), tower)
    assert (theirs.sot_token_id, theirs.eot_token_id) == (tower.sot_id, tower.eot_id)
    texts = [*captions[:300], *HOSTILE]
    assert np.array_equal(ours.encode(texts), theirs(texts).numpy())


@pytest.mark.parametrize("clean", ["lower", "whitespace", "canonicalize"])
def test_every_way_of_cleaning(clean: str, captions: list[str]) -> None:
    tower = TextTower.model_validate({**TOWER.model_dump(), "clean": clean})
    theirs = open_clip.tokenizer.SimpleTokenizer(clean=clean)
    texts = [*captions[:100], *HOSTILE, "Upper_Case, punctuated! (twice)"]
    assert np.array_equal(
        Tokenizer.load(build_tokenizer_json(MERGES), tower).encode(texts), theirs(texts).numpy()
    )


def test_no_merges_at_all() -> None:
    tower = TextTower(context_length=16, sot_id=512, eot_id=513)
    row = Tokenizer.load(build_tokenizer_json([]), tower).rows(["ab"])[0]
    assert row == [512, ord("a") - ord("!"), 256 + ord("b") - ord("!"), 513]


def test_the_document_alone_reads_plain_captions(captions: list[str]) -> None:
    # A reader that knows only `tokenizers` gets the same tokens where no cleaning by ftfy is needed.
    import tokenizers

    alone = tokenizers.Tokenizer.from_str(build_tokenizer_json(MERGES))
    for caption in captions[:200]:
        assert alone.encode(caption.strip()).ids == OURS.rows([caption])[0]
    assert alone.get_vocab_size() == 49408


def test_long_texts_keep_their_end_token() -> None:
    tokens = OURS.encode(["dog " * 500])
    assert tokens.shape == (1, 77)
    assert tokens[0, -1] == 49407
    assert (tokens[0, 1:-1] != 49407).all()


def test_trimming_cuts_shared_padding_only() -> None:
    texts = ["a", "a dog on the beach", "!!!", ""]
    full, trimmed = OURS.encode(texts), OURS.encode(texts, trim=True)
    assert full.shape == (4, 77)
    assert trimmed.shape == (4, 7)
    assert trimmed.dtype == np.int64
    assert np.array_equal(full[:, :7], trimmed)
    assert (full[:, 7:] == 0).all()
    fixed = Tokenizer.load(build_tokenizer_json(MERGES), TOWER.model_copy(update={"trimmable": False}))
    assert fixed.encode(texts, trim=True).shape == (4, 77)


def test_lengths_count_up_to_the_padding() -> None:
    texts = ["a", "a dog on the beach", "!!! !", "", "dog " * 500]
    assert (
        OURS.lengths(OURS.encode(texts)).tolist()
        == [len(row) for row in OURS.rows(texts)]
        == [3, 7, 4, 2, 77]
    )
    assert OURS.lengths(np.zeros((2, 5), np.int64)).tolist() == [0, 0]


def test_no_texts() -> None:
    assert OURS.encode([]).shape == (0, 77)
    assert OURS.encode([], trim=True).shape == (0, 77)


@pytest.mark.parametrize("text", ["a\ud800b", "\udfff", "\ud83d\ude00"])
def test_surrogates_are_named(text: str) -> None:
    with pytest.raises(TextError, match=r"texts\[1\]: text holds the surrogate U\+D[0-9A-F]{3} at character"):
        OURS.encode(["fine", text])
    with pytest.raises(TextError, match="surrogate"):
        check_text(text, TextLimits())


def test_limits_name_value_and_limit() -> None:
    limits = TextLimits(max_chars=10)
    check_text("ten chars.", limits)
    with pytest.raises(TextTooLong, match="text has 11 characters; the limit is 10"):
        check_text("x" * 11, limits)
    for empty in ("", "  \n\u3000"):
        with pytest.raises(EmptyText, match=f"text is empty \\({len(empty)} characters"):
            check_text(empty, limits)
    with pytest.raises(ValueError, match="max_chars is 0"):
        TextLimits(max_chars=0)
    assert OURS.encode(["y" * 100_000]).shape == (1, 77)


def test_documents_that_are_not_tokenizers(tmp_path: Path) -> None:
    for wrong in ("", "{", "[]", "{}", json.dumps({"model": {"type": "BPE"}})):
        with pytest.raises(BundleCorrupt, match="tokenizer.json"):
            Tokenizer.load(wrong, TOWER)
    (tmp_path / "tokenizer.json").write_bytes(b"\xff\xfe")
    with pytest.raises(BundleCorrupt, match="not UTF-8"):
        Tokenizer.load(tmp_path / "tokenizer.json", TOWER)


def test_a_file_and_its_text_are_the_same(tmp_path: Path) -> None:
    file = tmp_path / "tokenizer.json"
    file.write_text(build_tokenizer_json(MERGES[:100]), encoding="utf-8")
    tower = TextTower(context_length=9, sot_id=612, eot_id=613)
    text = file.read_text(encoding="utf-8")
    assert Tokenizer.load(file, tower).rows(["a dog"]) == Tokenizer.load(text, tower).rows(["a dog"])
