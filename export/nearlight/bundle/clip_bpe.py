"""CLIP's byte-level BPE vocabulary as a `tokenizers` JSON document.

The numbering is that of `open_clip.tokenizer.SimpleTokenizer`: 256 byte characters, the same 256 with `</w>`
(end of word), one token per merge in order, `<start_of_text>`, `<end_of_text>`. With the first K merges the
start token is 512 + K and the end token 513 + K; 48,894 merges make CLIP's 49,408 tokens.
"""

import json
from collections.abc import Sequence
from typing import Any

CLIP_MERGES = 49152 - 256 - 2
START_TOKEN = "<start_of_text>"
END_TOKEN = "<end_of_text>"

# Letters and digits of Unicode 15 to 18, which the regular expressions of `tokenizers` do not know yet and
# those of open_clip do. Written out, they make the two cut a text alike whatever tables a library brings.
_NEW_LETTERS = """
558 58B-58C 88F C5C CDC 208F 209D-209F A7CE-A7CF A7D2 A7D4 A7DD A7E2 A7F1 AB6C-AB6D 107BB-107BF 10940-10959
10EC5-10EC7 10ED9-10EEE 11B0A 11DB0-11DDB 11DF1 16EA0-16EB8 16EBB-16ED3 16FF2-16FF3 187F8-187FF 18CD6-18CDA
18D09-18D20 18D80-18DF2 18E00-19191 191A0-191D2 1B123-1B128 1B168 1D6A6 1DF1F-1DF24 1DF2B-1DF81 1DF90-1DF96
1DFCD-1DFFF 1E6C0-1E6DE 1E6E0-1E6E2 1E6E4-1E6E5 1E6E7-1E6ED 1E6F0-1E6F4 1E6FE-1E6FF 2B73A-2B73F 2B81E
2CEA2-2CEAD 323B0-33479 3D000-3FC3F
"""
_NEW_NUMBERS = "11DE0-11DE9 1246F 12475-1247F 12550-12686 16FF4-16FF6"
# A mark whose capital is the letter iota. open_clip's pattern ignores case, so it is neither letter nor
# other: it matches nothing and is dropped.
_DROPPED = "345"


def byte_characters() -> list[str]:
    """The printable characters that stand for the 256 byte values, in vocabulary order (256,).

    Bytes that print keep their own character and come first; the others follow as U+0100, U+0101, …
    (GPT-2's table, which is not in byte order: id 0 is `!`).
    """
    spans = (("!", "~"), ("¡", "¬"), ("®", "ÿ"))
    printable = [chr(code) for first, last in spans for code in range(ord(first), ord(last) + 1)]
    return printable + [chr(256 + n) for n in range(256 - len(printable))]


def build_tokenizer_json(merges: Sequence[str]) -> str:
    """The `tokenizer.json` of CLIP's vocabulary cut to `merges`.

    The document also says how to normalise and frame a text, for readers that know only `tokenizers`;
    `nearlight.bundle.text` cleans texts as open_clip does instead, which `tokenizers` cannot express (ftfy).

    Args:
        merges: Lines of bpe_simple_vocab_16e6.txt without its first: `left right`. The first K may be given.

    Raises:
        ValueError: A line is not two tokens, or there are more merges than CLIP has.
    """
    if len(merges) > CLIP_MERGES:
        raise ValueError(f"{len(merges)} merges given; CLIP's vocabulary takes at most {CLIP_MERGES}")
    pairs = [_pair(number, merge) for number, merge in enumerate(merges)]
    characters = byte_characters()
    vocabulary = [*characters, *(c + "</w>" for c in characters), *(left + right for left, right in pairs)]
    start_id = len(vocabulary)
    # Two merges can spell the same token; the later number wins, as in open_clip.
    ids = {token: number for number, token in enumerate(vocabulary)}
    document = {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [_special(start_id, START_TOKEN), _special(start_id + 1, END_TOKEN)],
        "normalizer": {
            "type": "Sequence",
            "normalizers": [
                {"type": "NFC"},
                {"type": "Replace", "pattern": {"Regex": r"\s+"}, "content": " "},
                {"type": "Lowercase"},
            ],
        },
        "pre_tokenizer": _pre_tokenizer(),
        "post_processor": _post_processor(start_id),
        "decoder": {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True},
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "continuing_subword_prefix": "",
            "end_of_word_suffix": "</w>",
            "fuse_unk": False,
            "byte_fallback": False,
            "ignore_merges": False,
            "vocab": {**ids, START_TOKEN: start_id, END_TOKEN: start_id + 1},
            "merges": [list(pair) for pair in pairs],
        },
    }
    return json.dumps(document, ensure_ascii=False, separators=(",", ":"))


def _pair(number: int, merge: str) -> tuple[str, str]:
    parts = merge.split()
    if len(parts) != 2:
        raise ValueError(f"merge {number} is {merge!r}; it must be two tokens with a blank between")
    return parts[0], parts[1]


def _special(number: int, content: str) -> dict[str, Any]:
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    return {"id": number, "content": content, **flags}


def _pre_tokenizer() -> dict[str, Any]:
    split = {
        "type": "Split",
        "pattern": {"Regex": _word_pattern()},
        "behavior": "Removed",
        "invert": True,
    }
    to_bytes = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}
    return {"type": "Sequence", "pretokenizers": [split, to_bytes]}


def _word_pattern() -> str:
    """open_clip's word pattern, its case folding written out.

    Onigmo's own `(?i)` folds several letters into one (`ss`, `ß`), which Python's `regex` does not.
    """
    letters = r"\p{L}" + _escaped(_NEW_LETTERS)
    numbers = r"\p{N}" + _escaped(_NEW_NUMBERS)
    fixed = [START_TOKEN, END_TOKEN, "'s", "'t", "'re", "'ve", "'m", "'ll", "'d"]
    words = ["".join(map(_any_case, word)) for word in fixed]
    others = rf"[^\s{letters}{numbers}{_escaped(_DROPPED)}]+"
    return "|".join([*words, f"[{letters}]+", f"[{numbers}]", others])


def _any_case(character: str) -> str:
    if not character.isalpha():
        return character
    return f"[{character}{character.upper()}{'ſ' if character == 's' else ''}]"


def _escaped(ranges: str) -> str:
    return "".join("-".join(rf"\x{{{end}}}" for end in item.split("-")) for item in ranges.split())


def _post_processor(start_id: int) -> dict[str, Any]:
    def special(token: str) -> dict[str, Any]:
        return {"SpecialToken": {"id": token, "type_id": 0}}

    def sequence(name: str) -> dict[str, Any]:
        return {"Sequence": {"id": name, "type_id": 0}}

    frame = [special(START_TOKEN), sequence("A"), special(END_TOKEN)]
    return {
        "type": "TemplateProcessing",
        "single": frame,
        "pair": [*frame, special(START_TOKEN), sequence("B"), special(END_TOKEN)],
        "special_tokens": {
            token: {"id": token, "ids": [number], "tokens": [token]}
            for token, number in ((START_TOKEN, start_id), (END_TOKEN, start_id + 1))
        },
    }
