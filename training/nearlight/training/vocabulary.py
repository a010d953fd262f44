"""The words the text tower knows: CLIP's byte-pair vocabulary, or the first part of it."""

import gzip

from open_clip.tokenizer import default_bpe

from nearlight.bundle.clip_bpe import build_tokenizer_json
from nearlight.bundle.manifest import TextTower
from nearlight.bundle.text import Tokenizer
from nearlight.training.config import ModelSection


def clip_merges(count: int) -> list[str]:
    """Returns the first `count` merges of CLIP's vocabulary, read from the copy open_clip ships."""
    with gzip.open(default_bpe(), "rt", encoding="utf-8") as lines:
        return lines.read().split("\n")[1 : 1 + count]


def clip_tokenizer_json(merges: int) -> str:
    """Returns the `tokenizer.json` of CLIP's vocabulary cut to its first `merges` merges."""
    return build_tokenizer_json(clip_merges(merges))


def text_tower(section: ModelSection, trimmable: bool = True) -> TextTower:
    """Returns how texts become tokens for the text tower of a run."""
    start = 512 + section.merges
    return TextTower(
        context_length=section.context_length, pad_id=0, sot_id=start, eot_id=start + 1, trimmable=trimmable
    )


def open_tokenizer(tokenizer_json: str, section: ModelSection) -> Tokenizer:
    """Returns the tokenizer a run trains and evaluates with: the one its bundle will serve with."""
    return Tokenizer.load(tokenizer_json, text_tower(section))
