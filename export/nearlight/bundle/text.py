"""From texts to token rows, exactly as open_clip makes them, many times faster.

Cleaning (ftfy, HTML entities, white space, case) is done here, because no `tokenizers` normalizer can do what
ftfy does; words and byte pairs are cut by `tokenizers` from the bundle's `tokenizer.json`. With CLIP's own
vocabulary that is all it does; any other tokenizer (SentencePiece, WordPiece) also normalises as it says.
"""

import html
import json
import string
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ftfy
import numpy as np
import numpy.typing as npt
import tokenizers

from nearlight.bundle.clip_bpe import END_TOKEN, START_TOKEN
from nearlight.bundle.errors import BundleCorrupt, EmptyText, TextError, TextTooLong
from nearlight.bundle.manifest import TextTower

Tokens = npt.NDArray[np.int64]

# Characters of a text that is tokenised in some 0.1 ms.
_SHORT_CHARS = 200

_NO_PUNCTUATION = str.maketrans("", "", string.punctuation)


@dataclass(frozen=True, slots=True)
class TextLimits:
    """What a text may be before it is tokenised. Texts over `context_length` tokens are cut, not refused."""

    max_chars: int = 20_000

    def __post_init__(self) -> None:
        if self.max_chars < 1:
            raise ValueError(f"max_chars is {self.max_chars}; it must be at least 1")


def check_text(text: str, limits: TextLimits) -> None:
    """Refuse a text that a service should not embed; costs a few hundred nanoseconds.

    Raises:
        EmptyText: Nothing but white space.
        TextTooLong: More than `limits.max_chars` characters.
        TextError: A surrogate code point.
    """
    if len(text) > limits.max_chars:
        raise TextTooLong(f"text has {len(text)} characters; the limit is {limits.max_chars}")
    if not text or text.isspace():
        raise EmptyText(
            f"text is empty ({len(text)} characters of white space); the least is 1 visible character"
        )
    _refuse_surrogates(text)


class Tokenizer:
    """Texts to token ids by a bundle's `tokenizer.json`. Immutable once made; safe in many threads."""

    def __init__(self, document: str, tower: TextTower) -> None:
        self.tower = tower
        self._clean = _CLEANERS[tower.clean]
        ours = tower.clean != "none" and START_TOKEN in document
        self._words = _load(document, ours=ours)
        self._specials = _special_ids(document) if ours else {}
        self._head = [] if tower.sot_id is None else [tower.sot_id]
        self._tail = [] if tower.eot_id is None else [tower.eot_id]

    @classmethod
    def load(cls, source: Path | str, tower: TextTower) -> "Tokenizer":
        """A tokenizer from a file (`Path`) or from the text of a `tokenizer.json` (`str`).

        Raises:
            BundleCorrupt: The document is not one that `tokenizers` reads.
        """
        try:
            return cls(source.read_text(encoding="utf-8") if isinstance(source, Path) else source, tower)
        except UnicodeDecodeError as error:
            raise BundleCorrupt(f"{tower.tokenizer_file} is not UTF-8: {error}") from error

    def encode(self, texts: Sequence[str], trim: bool = False) -> Tokens:
        """Token ids of each text, padded with `pad_id`.

        Args:
            texts: Any strings; an empty one becomes start and end token.
            trim: Cut the padding that all rows share. Has no effect where the tower is not `trimmable`.

        Returns:
            int64, (B, context_length), or with `trim` (B, longest row); (0, context_length) for no texts.

        Raises:
            TextError: A text holds a surrogate, which UTF-8 cannot carry. Says which text and where.
        """
        return self.pad(self.rows(texts), trim=trim)

    def rows(self, texts: Sequence[str]) -> list[list[int]]:
        """Token ids of each text without padding, at most `context_length` each, the end token kept."""
        return [self.cut(self._framed(self._ids(text, index))) for index, text in enumerate(texts)]

    def uncut_rows(self, texts: Sequence[str]) -> list[list[int]]:
        """Token ids of each text, however many, by one call of `tokenizers`: for services.

        Other threads run meanwhile: `encode` of a single text keeps the interpreter to itself, for 20 ms
        where the text has 20,000 characters, and `encode_batch` does not. A single short text takes less
        time than giving the interpreter up and getting it back would.

        Raises:
            TextError: As `encode` does.
        """
        cleaned = [self._cleaned(text, index) for index, text in enumerate(texts)]
        plain = [text for text in cleaned if not self._has_special(text)]
        if len(plain) == 1 and len(plain[0]) <= _SHORT_CHARS:
            encoded = [self._words.encode(plain[0], add_special_tokens=False)]
        else:
            encoded = self._words.encode_batch_fast(plain, add_special_tokens=False)
        ids = iter(encoded)
        return [
            self._framed(self._ids_with_specials(text) if self._has_special(text) else next(ids).ids)
            for text in cleaned
        ]

    def cut(self, row: list[int]) -> list[int]:
        """A row of at most `context_length` tokens, the end token kept."""
        room = self.tower.context_length
        return row if len(row) <= room else [*row[: room - len(self._tail)], *self._tail]

    def pad(self, rows: Sequence[Sequence[int]], trim: bool = False) -> Tokens:
        """Rows of any lengths as one array: int64, (B, context_length) or with `trim` (B, longest row)."""
        trimmed = trim and self.tower.trimmable and len(rows) > 0
        width = max(map(len, rows)) if trimmed else self.tower.context_length
        tokens = np.full((len(rows), width), self.tower.pad_id, dtype=np.int64)  # (B, L)
        for index, row in enumerate(rows):
            tokens[index, : len(row)] = row
        return tokens

    def lengths(self, tokens: Tokens) -> Tokens:
        """Tokens of each row before its padding, from the result of `encode`: int64, (B,)."""
        used = tokens != self.tower.pad_id  # (B, L)
        return np.where(used.any(axis=1), tokens.shape[1] - used[:, ::-1].argmax(axis=1), 0).astype(np.int64)

    def _framed(self, ids: Sequence[int]) -> list[int]:
        return [*self._head, *ids, *self._tail]

    def _ids(self, text: str, index: int) -> list[int]:
        cleaned = self._cleaned(text, index)
        if self._has_special(cleaned):
            return self._ids_with_specials(cleaned)
        ids: list[int] = self._words.encode(cleaned, add_special_tokens=False).ids
        return ids

    def _cleaned(self, text: str, index: int) -> str:
        try:
            _refuse_surrogates(text)
        except TextError as error:
            raise TextError(f"texts[{index}]: {error}") from None
        return self._clean(text)

    def _has_special(self, cleaned: str) -> bool:
        return any(special in cleaned for special in self._specials)

    def _ids_with_specials(self, cleaned: str) -> list[int]:
        """As open_clip: a special token spelt out is that token, but only where a word starts with it."""
        ids: list[int] = []
        words: Any = self._words.pre_tokenizer
        for word, _ in words.pre_tokenize_str(cleaned):
            if word in self._specials:
                ids.append(self._specials[word])
            else:
                ids.extend(token.id for token in self._words.model.tokenize(word))
        return ids


def _refuse_surrogates(text: str) -> None:
    if text.isascii():
        return
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise TextError(
            f"text holds the surrogate U+{ord(text[error.start]):04X} at character {error.start};"
            " UTF-8 cannot carry it"
        ) from None


def _load(document: str, *, ours: bool) -> tokenizers.Tokenizer:
    """The tokenizer; with `ours` (CLIP's vocabulary) only its words and byte pairs: the rest is done here."""
    try:
        if ours:
            parts = json.loads(document)
            document = json.dumps({**parts, "normalizer": None, "post_processor": None, "added_tokens": []})
        loaded = tokenizers.Tokenizer.from_str(document)
    except Exception as error:  # `tokenizers` raises bare Exception
        raise BundleCorrupt(f"tokenizer.json cannot be read: {error}") from error
    loaded.no_truncation()
    loaded.no_padding()
    return loaded


def _special_ids(document: str) -> dict[str, int]:
    vocabulary = json.loads(document)["model"]["vocab"]
    return {token: vocabulary[token] for token in (START_TOKEN, END_TOKEN) if token in vocabulary}


def _clean_lower(text: str) -> str:
    return _clean_whitespace(text).lower()


def _clean_whitespace(text: str) -> str:
    # Neither ftfy nor HTML has anything to do to plain ASCII; this is nearly every text.
    if not (text.isascii() and text.isprintable()) or "&" in text:
        text = html.unescape(html.unescape(ftfy.fix_text(text)))
    return " ".join(text.split())


def _clean_canonicalize(text: str) -> str:
    return " ".join(_clean_whitespace(text).replace("_", " ").translate(_NO_PUNCTUATION).lower().split())


_CLEANERS: dict[str, Callable[[str], str]] = {
    "lower": _clean_lower,
    "whitespace": _clean_whitespace,
    "canonicalize": _clean_canonicalize,
    "none": lambda text: text,
}
