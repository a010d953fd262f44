"""Texts into token rows, several by one call of the tokenizer, padded to a few lengths."""

from collections.abc import Sequence

import numpy as np

from nearlight.bundle.errors import TextError
from nearlight.bundle.manifest import TextTower
from nearlight.bundle.text import TextLimits, Tokenizer, check_text
from nearlight.server.call import Input, Prepare, Prepared
from nearlight.server.errors import InvalidInput, ServerError
from nearlight.server.metrics import observe


def text_preparation(tokenizer: Tokenizer, *, lengths: Sequence[int], max_bytes: int) -> Prepare:
    """A function from texts to their rows (L,) int64, or to InvalidInput.

    Args:
        tokenizer: the bundle's; its tower's context length always joins `lengths`.
        lengths: row lengths to pad to where the tower may be trimmed: few, so that rows of one length meet.
        max_bytes: of the text in UTF-8.
    """
    tower = tokenizer.tower
    widths = text_widths(tower, lengths)

    def prepared(row: list[int]) -> Prepared:
        cut = tokenizer.cut(row)
        width = next(width for width in widths if width >= len(cut))
        tokens = np.full(width, tower.pad_id, np.int64)  # (L,)
        tokens[: len(cut)] = cut
        observe.padding(len(cut), width)
        return Prepared(tokens, truncated=len(row) > tower.context_length)

    def prepare_texts(texts: Sequence[Input]) -> list[Prepared | ServerError]:
        refusals = [_refusal(text, max_bytes) for text in texts]
        good = [str(text.content) for text, refusal in zip(texts, refusals, strict=True) if not refusal]
        rows = iter(tokenizer.uncut_rows(good) if good else [])
        return [refusal or prepared(next(rows)) for refusal in refusals]

    return prepare_texts


def text_widths(tower: TextTower, lengths: Sequence[int]) -> list[int]:
    """The row lengths in use, ascending; the last is the context length."""
    shorter = {length for length in lengths if length < tower.context_length} if tower.trimmable else set()
    return [*sorted(shorter), tower.context_length]


def _refusal(text: Input, max_bytes: int) -> InvalidInput | None:
    """What is wrong with a text; None where nothing is."""
    content, field = text.content, text.field
    assert isinstance(content, str)
    try:
        check_text(content, TextLimits(max_chars=max_bytes))
        n_bytes = len(content) if content.isascii() else len(content.encode())
    except TextError as error:
        refusal = InvalidInput(f"{field}: {error}", field=field)
        refusal.__cause__ = error
        return refusal
    if n_bytes > max_bytes:
        return InvalidInput(f"{field}: text has {n_bytes} bytes; the limit is {max_bytes}", field=field)
    return None
