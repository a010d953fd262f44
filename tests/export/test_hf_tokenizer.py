"""Tokenizers of other houses give the ids that transformers would."""

import json
from pathlib import Path

import pytest
import tokenizers
from open_clip.tokenizer import get_clean_fn

from nearlight.bundle.manifest import TextTower
from nearlight.bundle.text import Tokenizer
from nearlight.export.errors import SourceError
from nearlight.export.hf_tokenizer import HfTokenizer, open_hf_tokenizer
from tests.export.towers import write_unigram, write_wordpiece

TEXTS = [
    "two dogs", "The red ball, on a child!", "", "x " * 40, "naïve_café  DOGS", "&lt;b&gt; a</s>", "a\tdog\n",
    "[SEP] the [PAD]", "犬 🐶", "on the run" * 5,
]  # fmt: skip


def ours(found: HfTokenizer, length: int, clean: str) -> list[list[int]]:
    tower = TextTower(
        context_length=length,
        pad_id=found.pad_id,
        sot_id=found.sot_id,
        eot_id=found.eot_id,
        clean=clean,
    )
    rows: list[list[int]] = Tokenizer.load(found.document, tower).encode(TEXTS).tolist()
    return rows


def as_transformers(folder: Path, length: int, clean: str, pad: tuple[int, str]) -> list[list[int]]:
    """What open_clip's HFTokenizer gets: cleaned texts, cut and padded by `tokenizers` itself."""
    made = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
    made.enable_truncation(length)
    made.enable_padding(length=length, pad_id=pad[0], pad_token=pad[1])
    cleaned = [get_clean_fn(clean)(text) for text in TEXTS]
    return [row.ids for row in made.encode_batch(cleaned)]


@pytest.mark.parametrize("clean", ["canonicalize", "whitespace", "lower"])
@pytest.mark.parametrize("length", [3, 10, 64])
def test_unigrams(tmp_path: Path, clean: str, length: int) -> None:
    folder = write_unigram(tmp_path / "t")
    found = open_hf_tokenizer(folder, 128)
    assert (found.pad_id, found.sot_id, found.eot_id) == (1, None, 1)
    assert ours(found, length, clean) == as_transformers(folder, length, clean, (1, "</s>"))


@pytest.mark.parametrize("length", [3, 10, 64])
def test_word_pieces(tmp_path: Path, length: int) -> None:
    folder = write_wordpiece(tmp_path / "t")
    found = open_hf_tokenizer(folder, 128)
    assert (found.pad_id, found.sot_id, found.eot_id) == (0, 2, 3)
    assert ours(found, length, "whitespace") == as_transformers(folder, length, "whitespace", (0, "[PAD]"))


def test_transformers_agrees(tmp_path: Path) -> None:
    """The real thing, where it is installed."""
    pytest.importorskip("transformers")
    from open_clip.tokenizer import HFTokenizer

    for folder in (write_unigram(tmp_path / "unigram"), write_wordpiece(tmp_path / "wordpiece")):
        settings = json.loads((folder / "tokenizer_config.json").read_text())
        settings["tokenizer_class"] = "PreTrainedTokenizerFast"
        if isinstance(settings["pad_token"], dict):  # as transformers 4 wrote it
            settings["pad_token"] = settings["pad_token"]["content"]
        (folder / "tokenizer_config.json").write_text(json.dumps(settings))
        theirs = HFTokenizer(str(folder), context_length=12, clean="canonicalize")
        assert ours(open_hf_tokenizer(folder, 128), 12, "canonicalize") == theirs(TEXTS).tolist()


def rewritten(folder: Path, **settings: object) -> Path:
    file = folder / "tokenizer_config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **settings}))
    return folder


def test_gemma_frames_by_its_settings(tmp_path: Path) -> None:
    folder = write_wordpiece(tmp_path / "t")
    framed = rewritten(folder, add_bos_token=False, bos_token="[CLS]", add_eos_token=True, eos_token="[PAD]")
    found = open_hf_tokenizer(framed, 128)
    assert (found.sot_id, found.eot_id) == (None, 0)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"padding_side": "left"}, "pads or cuts on the left"),
        ({"pad_token": "[NOWHERE]"}, r"padding token '\[NOWHERE\]' is not in the vocabulary"),
        ({"pad_token": None}, "no padding token"),
        ({"add_eos_token": True, "eos_token": "[END]"}, r"eos_token '\[END\]' is no token"),
    ],
)
def test_settings_that_are_refused(tmp_path: Path, settings: dict[str, object], message: str) -> None:
    with pytest.raises(SourceError, match=message):
        open_hf_tokenizer(rewritten(write_wordpiece(tmp_path / "t"), **settings), 128)


def test_files_that_are_refused(tmp_path: Path) -> None:
    folder = write_wordpiece(tmp_path / "t")
    with pytest.raises(
        SourceError, match=r"the tokenizer has id 16 \(','\); the model's embedding has 16 rows"
    ):
        open_hf_tokenizer(folder, 16)
    (folder / "tokenizer_config.json").write_text("[")
    with pytest.raises(SourceError, match=r"tokenizer_config\.json cannot be read"):
        open_hf_tokenizer(folder, 128)
    (folder / "tokenizer.json").write_text('{"version": "1.0"}')
    with pytest.raises(SourceError, match=r"tokenizer\.json cannot be read"):
        open_hf_tokenizer(folder, 128)
    (folder / "tokenizer.json").rename(folder / "spiece.model")
    with pytest.raises(
        SourceError, match=r"no tokenizer\.json in .*; spiece\.model is SentencePiece: save it"
    ):
        open_hf_tokenizer(folder, 128)
    with pytest.raises(SourceError, match=r"no tokenizer\.json in .*nowhere$"):
        open_hf_tokenizer(tmp_path / "nowhere", 128)
