"""A tokenizer in Hugging Face's files, as a bundle takes it: one document and the ids of its frame."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tokenizers

from nearlight.export.errors import SourceError

TOKENIZER = "tokenizer.json"
SETTINGS = ("tokenizer_config.json", "special_tokens_map.json")

_PROBE = "a"


@dataclass(frozen=True, slots=True)
class HfTokenizer:
    """A tokenizer document and what frames its tokens.

    Attributes:
        document: Content of tokenizer.json.
        pad_id: Fills a row.
        sot_id: Put before every text; None puts none.
        eot_id: Put after every text; None puts none.
    """

    document: str
    pad_id: int
    sot_id: int | None
    eot_id: int | None


def open_hf_tokenizer(folder: Path, vocab_size: int) -> HfTokenizer:
    """The tokenizer in `folder`: tokenizer.json, and beside it the settings that name its special tokens.

    Args:
        folder: As `save_pretrained` of transformers leaves it.
        vocab_size: Rows of the model's token embedding.

    Raises:
        SourceError: A file is missing or damaged, ids do not fit the embedding, or texts are framed or padded
            in a way a bundle cannot express.
    """
    file = folder / TOKENIZER
    if not file.is_file():
        spm = next(iter(sorted(folder.glob("*.model"))), None) if folder.is_dir() else None
        hint = (
            f"; {spm.name} is SentencePiece: save it with transformers' save_pretrained first" if spm else ""
        )
        raise SourceError(f"no {TOKENIZER} in {folder}{hint}")
    try:
        document = file.read_text(encoding="utf-8")
        loaded = tokenizers.Tokenizer.from_str(document)
    except Exception as error:  # `tokenizers` raises bare Exception
        raise SourceError(f"{file.name} cannot be read: {' '.join(str(error).split())[:300]}") from error
    settings = _settings(folder)
    loaded.no_truncation()
    loaded.no_padding()
    sot_id, eot_id = _frame(loaded, settings)
    pad_id = _pad_id(loaded, settings, json.loads(document).get("padding"))
    _check_ids(loaded, vocab_size)
    return HfTokenizer(document, pad_id, sot_id, eot_id)


def _settings(folder: Path) -> dict[str, Any]:
    """tokenizer_config.json over special_tokens_map.json; tokens as plain strings."""
    merged: dict[str, Any] = {}
    for name in reversed(SETTINGS):
        if not (folder / name).is_file():
            continue
        try:
            document = json.loads((folder / name).read_text(encoding="utf-8"))
            merged |= {key: value for key, value in document.items() if value is not None}
        except (ValueError, AttributeError) as error:
            raise SourceError(f"{name} cannot be read: {error}") from error
    side = merged.get("padding_side", "right")
    if side != "right" or merged.get("truncation_side", "right") != "right":
        raise SourceError(f"the tokenizer pads or cuts on the {side}; only the right side is supported")
    return {
        key: value["content"] if isinstance(value, dict) and "content" in value else value
        for key, value in merged.items()
    }


def _frame(loaded: tokenizers.Tokenizer, settings: dict[str, Any]) -> tuple[int | None, int | None]:
    """The ids that the post-processor puts around a text, as transformers would set them up."""
    plain = loaded.encode(_PROBE, add_special_tokens=False).ids
    framed = loaded.encode(_PROBE, add_special_tokens=True).ids
    at = next((n for n in range(len(framed)) if framed[n : n + len(plain)] == plain), None)
    if not plain or at is None:
        raise SourceError(f"the tokenizer turns {_PROBE!r} into {plain}, framed {framed}: unclear frame")
    head, tail = framed[:at], framed[at + len(plain) :]
    # Llama's kin (Gemma of SigLIP 2) rebuild their frame from these two settings when they load.
    head = _flagged(loaded, settings, "add_bos_token", "bos_token", head)
    tail = _flagged(loaded, settings, "add_eos_token", "eos_token", tail)
    if len(head) > 1 or len(tail) > 1:
        raise SourceError(
            f"the tokenizer puts {head} before and {tail} after a text; at most one id each is supported"
        )
    return (head[0] if head else None), (tail[0] if tail else None)


def _flagged(
    loaded: tokenizers.Tokenizer, settings: dict[str, Any], flag: str, token: str, found: list[int]
) -> list[int]:
    if flag not in settings:
        return found
    if not settings[flag]:
        return []
    number = loaded.token_to_id(str(settings.get(token)))
    if number is None:
        raise SourceError(f"{SETTINGS[0]} has {flag}, but its {token} {settings.get(token)!r} is no token")
    return [number]


def _pad_id(loaded: tokenizers.Tokenizer, settings: dict[str, Any], padding: Any) -> int:
    if "pad_token" in settings:
        number = loaded.token_to_id(str(settings["pad_token"]))
        if number is None:
            raise SourceError(f"the padding token {settings['pad_token']!r} is not in the vocabulary")
        return int(number)
    if isinstance(padding, dict) and "pad_id" in padding:
        return int(padding["pad_id"])
    raise SourceError(f"no padding token: neither {' nor '.join(SETTINGS)} nor {TOKENIZER} names one")


def _check_ids(loaded: tokenizers.Tokenizer, vocab_size: int) -> None:
    vocabulary = loaded.get_vocab(with_added_tokens=True)
    token, highest = max(vocabulary.items(), key=lambda item: item[1])
    if highest >= vocab_size:
        raise SourceError(
            f"the tokenizer has id {highest} ({token!r}); the model's embedding has {vocab_size} rows, 0 to"
            f" {vocab_size - 1}: it is another model's tokenizer"
        )
